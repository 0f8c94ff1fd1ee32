/** `buildlane redrive`: runs dead letters again, or lets them go; a count first, and never more than was asked for. */
import { Command, Option } from "commander";
import type { DeadLetters } from "../client/index.js";
import { failureCodes } from "../job.js";
import type { FailureCode } from "../job.js";
import { operatorCommand, wholeNumber, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { print, printJson, say } from "./talk.js";

interface Flags extends OperatorFlags {
  all?: boolean;
  chat?: string;
  failure?: FailureCode;
  fingerprint?: string;
  limit: number;
  rate?: number;
  discard?: boolean;
  dryRun?: boolean;
}

export const redriveCommand = (): Command =>
  operatorCommand("redrive", "Run dead letters again, or with --discard let them go.", ["redrive 3fA9xK… 8dQ2vL…", "redrive --failure timed_out --limit 100 --rate 10 --dry-run", 'redrive --all --discard --reason "old demo"'])
    .argument("[ids...]", "these jobs")
    .option("--all", "every dead letter")
    .option("--chat <id>", "those of this chat")
    .addOption(new Option("--failure <code>", "those that failed so").choices(failureCodes))
    .option("--fingerprint <text>", "those of this group (dead-letters --groups)")
    .option("--limit <n>", "how many at most, oldest first", wholeNumber(1, 1000), 1000)
    .option("--rate <n>", "at most so many a second", wholeNumber(1, 1000))
    .option("--discard", "let them go: they are dead letters no more")
    .option("--dry-run", "only count them")
    .action(redrive);

async function redrive(ids: string[], flags: Flags): Promise<void> {
  const filter = { ...(flags.chat === undefined ? {} : { chatId: flags.chat }), ...(flags.failure === undefined ? {} : { failureCode: flags.failure }), ...(flags.fingerprint === undefined ? {} : { fingerprint: flags.fingerprint }) };
  const filtered = Object.keys(filter).length > 0 || flags.all === true;
  if ((ids.length > 0) === filtered) throw new Exit(exitCodes.usage, "Expected ids, or --all, --chat, --failure or --fingerprint.");
  const which: DeadLetters = { ...(ids.length > 0 ? { ids } : { filter }), limit: flags.limit, reason: flags.reason };
  await withClient(flags, async (client, signal) => {
    const { deadLetters } = client;
    const [name, count] = flags.dryRun
      ? ["count", await deadLetters.count(which, { signal })]
      : flags.discard
        ? ["discarded", await deadLetters.discard(which, { signal })]
        : ["redriven", await deadLetters.redrive({ ...which, ratePerSecond: flags.rate }, { signal })];
    if (flags.json) printJson({ [name as string]: count });
    else print(`${count} ${name === "count" ? "match" : name}`);
    const missed = ids.length - Number(count);
    if (missed <= 0) return;
    const told = `${missed} of these ${missed === 1 ? "is no dead letter" : "are no dead letters"}.`;
    // A filter may match nothing; of jobs that were named, at least one was meant.
    if (missed === ids.length) throw new Exit(exitCodes.failed, told);
    say(told);
  });
}
