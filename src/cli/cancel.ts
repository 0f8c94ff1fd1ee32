/** `buildlane cancel`: one job, or a whole chat's. */
import type { Command } from "commander";
import { operatorCommand, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { print, printJson, say } from "./talk.js";

export const cancelCommand = (): Command =>
  operatorCommand("cancel", "Cancel a job, or all unfinished jobs of a chat.", ["cancel 3fA9xK…", 'cancel --chat c1 --reason "user left"'])
    .argument("[id]", "a job")
    .option("--chat <id>", "all of this chat instead")
    .action((id: string | undefined, flags: OperatorFlags & { chat?: string }) =>
      withClient(flags, async (client, signal) => {
        if ((id === undefined) === (flags.chat === undefined)) throw new Exit(exitCodes.usage, "Expected a job's id or --chat.");
        if (flags.chat !== undefined) {
          const answer = await client.cancelChat(flags.chat, { signal, reason: flags.reason });
          return flags.json ? printJson(answer) : print(`${answer.cancelled} cancelled${answer.stopping === null ? "" : `, ${answer.stopping} is being stopped`}`);
        }
        const answer = await client.cancel(id as string, { signal, reason: flags.reason });
        if (flags.json) return printJson(answer);
        print(answer.status);
        if (answer.status === "requested") say("It runs and is being stopped.");
      }),
    );
