/** `buildlane dead-letters`: jobs that failed for good and wait for a person; by id, or in groups of the same failure. */
import type { Command } from "commander";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { harmless, jobTable, print, printJson, say, table } from "./talk.js";

interface Flags extends ClientFlags {
  chat?: string;
  groups?: boolean;
  limit: number;
  cursor?: string;
}

export const deadLettersCommand = (): Command =>
  clientCommand("dead-letters", "List the jobs that failed for good.", ["dead-letters", "dead-letters --groups", "dead-letters --chat c1 --json"])
    .option("--chat <id>", "only this chat's")
    .option("--groups", "count those that failed alike")
    .option("--limit <n>", "how many at most", wholeNumber(1, 200), 50)
    .option("--cursor <cursor>", "the next page, as the page before said")
    .action((flags: Flags) =>
      withClient(flags, async (client, signal) => {
        if (flags.groups) {
          const groups = await client.deadLetters.groups({ chatId: flags.chat, limit: flags.limit, signal });
          if (flags.json) return printJson(groups);
          return groups.length > 0 ? print(table([["COUNT", "CHATS", "FAILURE", "FINGERPRINT", "LATEST", "MESSAGE"], ...groups.map((one) => [String(one.count), String(one.chats), one.failureCode, one.fingerprint, one.latestAt, harmless(one.message).split("\n")[0]?.slice(0, 80) ?? ""])])) : say("No dead letters.");
        }
        const { jobs, nextCursor } = await client.deadLetters.list({ chatId: flags.chat, limit: flags.limit, cursor: flags.cursor, signal });
        if (flags.json) printJson(jobs);
        else if (jobs.length > 0) print(jobTable(jobs));
        else say("No dead letters.");
        if (nextCursor !== null) say(`More: --cursor ${nextCursor}`);
      }),
    );
