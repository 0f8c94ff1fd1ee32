/** `buildlane retry`: puts a failed job at the tail of its chat again. */
import type { Command } from "commander";
import { operatorCommand, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { print, printJson, say } from "./talk.js";

export const retryCommand = (): Command =>
  operatorCommand("retry", "Put a failed job at the tail of its chat again, with fresh attempts.", ["retry 3fA9xK…"])
    .argument("<id>", "a failed job")
    .action((id: string, flags: OperatorFlags) =>
      withClient(flags, async (client, signal) => {
        const job = await client.retry(id, { signal, reason: flags.reason });
        if (flags.json) return printJson(job);
        print(job.id);
        say(`Pending again, position ${job.queuePosition}.`);
      }),
    );
