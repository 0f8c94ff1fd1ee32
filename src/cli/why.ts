/** `buildlane why`: one answer to "why is it not running?". */
import type { Command } from "commander";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { print, printJson, say } from "./talk.js";

export const whyCommand = (): Command =>
  clientCommand("why", "Say why a job is not running, and what ends the wait.", ["why 3fA9xK…"])
    .argument("<id>", "a job")
    .action((id: string, flags: ClientFlags) =>
      withClient(flags, async (client, signal) => {
        const answer = await client.why(id, { signal });
        if (flags.json) return printJson(answer);
        print(answer.message);
        if (answer.unblocks !== null) say(answer.unblocks);
      }),
    );
