/** `buildlane verify`: reads the history and proves or refutes every promise that it can tell of. Exit code 1: one was broken. */
import { readFile } from "node:fs/promises";
import { Command, InvalidArgumentError } from "commander";
import { systemClock } from "../clock.js";
import type { ViolationKind } from "../history/check.js";
import { verify } from "../history/verify.js";
import type { Verdict } from "../history/verify.js";
import { readSettings } from "../options.js";
import { openForReading } from "../store/open.js";
import { unusable } from "./exit.js";
import { withSettings } from "./settings-flags.js";

/** What is asked, and by which kinds of violation it is refuted. */
const questions: { promise: string; kinds: ViolationKind[] }[] = [
  { promise: "in order: nothing overtook (P1), nothing started in a paused chat", kinds: ["overtaking", "startedWhilePaused"] },
  { promise: "one at a time: no overlap in a chat (P2)", kinds: ["overlap"] },
  { promise: "nothing lost: every acceptance, event and row is there (P3)", kinds: ["lost"] },
  { promise: "legal transitions, rows as their history tells (P4)", kinds: ["illegalTransition", "mismatch"] },
  { promise: "one outcome per attempt, attempts bounded (P5)", kinds: ["doubleOutcome", "tooManyAttempts"] },
  { promise: "numbers without gaps", kinds: ["gap"] },
  { promise: "within the budget (P6)", kinds: ["overBudget"] },
  { promise: "waits bounded (P8)", kinds: ["unfair"] },
];
const violationsShown = 50;

/**
 * A claim passes over a lane that somebody is writing to at that moment, and an acceptance counts from before its commit:
 * so on a database a head may be passed a few times more than the one that the simulation, where steps are atomic, allows.
 */
const startsMaxDefault = 3;
const slackMsDefault = 500;
/** A lane is in a node's hand for a moment before it starts, and only a longer one is told. */
const inHandMs = 50;

const count = (min: number) => (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min) throw new InvalidArgumentError(`Expected a whole number of at least ${min}.`);
  return value;
};

interface Flags {
  agingMs?: number;
  clusterMax?: number;
  startsMax: number;
  slackMs: number;
  atRest?: boolean;
  promised?: string;
  json?: boolean;
}

export function verifyCommand(): Command {
  const command = withSettings(new Command("verify").description("Prove or refute the promises from the history of DATABASE_URL, or of the embedded database of a stopped service. Reads only."), ["databaseUrl", "dataDir", "leaseMs"])
    .option("--aging-ms <n>", "Aging in force while jobs were accepted, when it cannot be told from the jobs", count(0))
    .option("--cluster-max <n>", "Builds that may run at once over all nodes, when the nodes do not say it", count(1))
    .option("--starts-max <n>", "Starts of another chat that a waiting head may see", count(1), startsMaxDefault)
    .option("--slack-ms <n>", "A wait counts from so long after its begin", count(0), slackMsDefault)
    .option("--at-rest", "Everything has come to rest: an unfinished job is lost")
    .option("--promised <file>", "Job ids that were answered with success, one a line: each must be there")
    .option("--json", "Print the verdict as JSON");
  return command.action(async ({ json, promised, agingMs, clusterMax, startsMax, slackMs, atRest, ...flags }: Flags & Record<string, unknown>) => {
    const { databaseUrl, dataDir, leaseMs } = readSettings(process.env, flags);
    const ids = promised === undefined ? [] : (await readFile(promised, "utf8").catch(unusable(promised, "read"))).split(/\s+/).filter(Boolean);
    const store = await openForReading({ databaseUrl, dataDir, clock: systemClock });
    try {
      const verdict = await store.readHistory((history) => verify(history, { agingMs, clusterMax, startsMax, slackMs, inHandMs, sureMsMax: leaseMs / 2, atRest, promised: ids }));
      process.stdout.write(json ? `${JSON.stringify(verdict)}\n` : `${describe(verdict).join("\n")}\n`);
      if (!verdict.ok) process.exitCode = 1;
    } finally {
      await store.close();
    }
  });
}

export function describe({ counts, violations, ...verdict }: Verdict): string[] {
  const number = (value: number) => value.toLocaleString("en-US");
  const lines = [`${number(verdict.chats)} chats, ${number(verdict.jobs)} jobs, ${number(verdict.events)} events, ${number(verdict.attempts)} attempts; at most ${number(verdict.runningMost)} at once`];
  for (const { promise, kinds } of questions) {
    const broken = kinds.reduce((sum, kind) => sum + (counts[kind] ?? 0), 0);
    lines.push(broken === 0 ? `kept    ${promise}` : `BROKEN  ${promise}: ${number(broken)} times`);
  }
  if (verdict.attemptsWithSlots < verdict.attempts) lines.push(`The slots of the nodes of ${number(verdict.attempts - verdict.attemptsWithSlots)} attempts are not known: their budget was not judged.`);
  if (verdict.agingMs === null) lines.push("No aging can be told from the jobs: priorities were judged only where any aging gives the same order.");
  for (const { kind, chatId, events, message } of violations.slice(0, violationsShown)) lines.push(`${kind}  chat ${chatId.replace("\u001f", "/") || "?"}${events.length > 0 ? `, event ${events.join(" and ")}` : ""}: ${message}`);
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  if (total > violationsShown) lines.push(`… and ${number(total - violationsShown)} more (--json shows up to ${number(violations.length)}).`);
  return lines;
}
