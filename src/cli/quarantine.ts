/** `buildlane quarantine`: code that is refused everywhere because it killed workers or nodes; to see it, and to let it run again. */
import type { Command } from "commander";
import { operatorCommand, wholeNumber, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { print, printJson, say, table } from "./talk.js";

interface Flags extends OperatorFlags {
  lift?: string;
  limit: number;
}

export const quarantineCommand = (): Command =>
  operatorCommand("quarantine", "List the code that is refused because it killed workers or nodes, or let it run again.", ["quarantine", 'quarantine --lift 9f86d081… --reason "fixed in esbuild"'])
    .option("--lift <hash>", "let this code run again, on all nodes")
    .option("--limit <n>", "how many at most, newest first", wholeNumber(1, 1000), 200)
    .action(({ lift, limit, json, reason, ...flags }: Flags) =>
      withClient(flags, async (client, signal) => {
        if (lift !== undefined) {
          const answer = await client.quarantine.lift(lift, { signal, reason });
          if (json) return printJson(answer);
          print("lifted");
          return say("Jobs that failed for it stay failed; buildlane redrive runs them again.");
        }
        const found = await client.quarantine.list({ limit, signal });
        if (json) printJson(found);
        else if (found.length === 0) say("Nothing is quarantined.");
        else print(table([["HASH", "CAUSE", "CRASHES", "SINCE"], ...found.map(({ codeHash, cause, crashes, quarantinedAt }) => [codeHash, cause, String(crashes), quarantinedAt])]));
      }),
    );
