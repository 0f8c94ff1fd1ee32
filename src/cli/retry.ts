/** `buildlane retry`: puts a failed job at the tail of its chat again. */
import type { Command } from "commander";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { print, printJson, say } from "./talk.js";

export const retryCommand = (): Command =>
  clientCommand("retry", "Put a failed job at the tail of its chat again, with fresh attempts.", ["retry 3fA9xK…"])
    .argument("<id>", "a failed job")
    .action((id: string, flags: ClientFlags) =>
      withClient(flags, async (client, signal) => {
        const job = await client.retry(id, { signal });
        if (flags.json) return printJson(job);
        print(job.id);
        say(`Pending again, position ${job.queuePosition}.`);
      }),
    );
