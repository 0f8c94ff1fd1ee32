/** `buildlane list`: jobs, newest first, a page at a time. */
import { Command, Option } from "commander";
import { failureCodes, jobStatuses } from "../job.js";
import type { FailureCode, JobStatus } from "../job.js";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { jobTable, print, printJson, say } from "./talk.js";

interface Flags extends ClientFlags {
  status?: JobStatus[];
  chat?: string;
  failure?: FailureCode;
  limit: number;
  cursor?: string;
}

export const listCommand = (): Command =>
  clientCommand("list", "List jobs, newest first.", ["list --chat c1", "list --status pending running --limit 100", "list --failure timed_out --json"])
    .addOption(new Option("--status <status...>", "only jobs in these statuses").choices(jobStatuses))
    .option("--chat <id>", "only this chat's")
    .addOption(new Option("--failure <code>", "only jobs that failed so").choices(failureCodes))
    .option("--limit <n>", "how many at most", wholeNumber(1, 200), 50)
    .option("--cursor <cursor>", "the next page, as the page before said")
    .action((flags: Flags) =>
      withClient(flags, async (client, signal) => {
        const { jobs, nextCursor } = await client.list({ status: flags.status, chatId: flags.chat, failureCode: flags.failure, limit: flags.limit, cursor: flags.cursor, signal });
        if (flags.json) printJson(jobs);
        else if (jobs.length > 0) print(jobTable(jobs));
        else say("No jobs.");
        if (nextCursor !== null) say(`More: --cursor ${nextCursor}`);
      }),
    );
