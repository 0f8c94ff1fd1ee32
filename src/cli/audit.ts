/** `buildlane audit`: what operators did, newest first. */
import type { Command } from "commander";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { harmless, print, printJson, say, table } from "./talk.js";

interface Flags extends ClientFlags {
  limit: number;
  cursor?: string;
}

export const auditCommand = (): Command =>
  clientCommand("audit", "Show what operators did: who, what, when and why. Needs an admin's key.", ["audit", "audit --limit 200 --json"])
    .option("--limit <n>", "how many at most", wholeNumber(1, 200), 50)
    .option("--cursor <cursor>", "the next page, as the page before said")
    .action(({ limit, cursor, ...flags }: Flags) =>
      withClient(flags, async (client, signal) => {
        const { actions, nextCursor } = await client.audit({ limit, cursor, signal });
        if (flags.json) printJson(actions);
        else if (actions.length === 0) say("Nothing was done yet.");
        else print(table([["AT", "WHO", "WHAT", "ON", "WHY"], ...actions.map(({ at, actor, action, target, reason }) => [at, harmless(actor), action, harmless(target ?? "-"), harmless(reason ?? "")])]));
        if (nextCursor !== null) say(`More: --cursor ${nextCursor}`);
      }),
    );
