/**
 * Same code, same answer: before a build, the store is asked whether a job of the same code, files and options has ended
 * already, built with the same engine and packages, and its outcome is taken over; one that runs now is waited for, here
 * or on another node. Every job keeps its own attempt, its place in its chat and its limits.
 */
import { createHash } from "node:crypto";
import type { Clock } from "./clock.js";
import type { Outcome, RunnableJob, Runner } from "./job.js";
import { keepLatest } from "./keep-latest.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import { hashOf } from "./request.js";
import { ownFailures } from "./store/code.js";
import type { CodeQuestion, CodeStore } from "./store/code.js";
import { unlessAborted } from "./unless-aborted.js";

export interface RecallNeeds {
  code: CodeStore;
  /** Of everything beside the code that a build depends on. */
  version(): Promise<string>;
  ageMs: number;
  clock: Clock;
  report: Reporter;
}

/** A build that runs on another node is asked for this often, and waited for so long at most, milliseconds. */
const askAgainMs = 100;
const waitMsMax = 3000;
/** Tenants whose stamps are kept. */
const stampsMax = 1000;
/** Builds that ended here and are remembered. */
const builtMax = 1000;

/** Only what is the code's own doing: another attempt at anything else may end otherwise. */
const isRepeatable = (outcome: Outcome): boolean => outcome.kind === "built" || ownFailures.includes(outcome.failure.code);

export function withRecall(runner: Runner, { code, version, ageMs, clock, report }: RecallNeeds): Runner {
  /** Jobs that are run here now. */
  const here = new Set<string>();
  /** What is being built here, with the job that builds it. */
  const building = new Map<string, { jobId: string; outcome: Promise<Outcome | null> }>();

  /** What was built here last. */
  const built = new Set<string>();

  /** Null when nothing is known, or the store cannot say: then the code is built. `waits`: another node's build of it is waited for. */
  async function recall(question: CodeQuestion, signal: AbortSignal, waits: () => void): Promise<Outcome | null> {
    const untilMs = clock.monotonic() + waitMsMax;
    try {
      for (;;) {
        const answer = await code.ask(question);
        if (answer.kind === "known") return answer.outcome;
        // One that runs here waits for us already, or will in a moment.
        if (answer.kind === "unknown" || here.has(answer.jobId) || signal.aborted || clock.monotonic() > untilMs) return null;
        waits();
        await new Promise<void>((resolve) => void clock.after(askAgainMs, resolve));
      }
    } catch (error) {
      report({ type: "database.away", verb: "ask", error: messageOf(error) });
      return null;
    }
  }

  /** By tenant, as long as the version stays the same. */
  let stamps = new Map<string, string>();
  let stampedVersion = "";
  async function stampOf(tenant: string): Promise<string> {
    const current = await version();
    if (current !== stampedVersion || stamps.size >= stampsMax) [stamps, stampedVersion] = [new Map(), current];
    const stamp = stamps.get(tenant) ?? createHash("sha256").update(JSON.stringify([current, tenant])).digest("hex").slice(0, 32);
    stamps.set(tenant, stamp);
    return stamp;
  }

  return {
    start: () => runner.start(),
    stop: () => runner.stop(),
    async run(job, context) {
      here.add(job.id);
      try {
        return await runOnce(job, context);
      } finally {
        here.delete(job.id);
      }
    },
  };

  async function runOnce(job: RunnableJob, context: Parameters<Runner["run"]>[1]): Promise<Outcome> {
    const codeHash = hashOf(job);
    const stamp = await stampOf(job.tenant ?? "");
    const key = `${codeHash}/${stamp}`;
    // The time that went by waiting is the other job's, whatever became of it.
    let hasWaited = false;
    for (let other = building.get(key); other; other = building.get(key)) {
      const outcome = await unlessAborted(other.outcome, context.signal);
      if (outcome) return { ...outcome, origin: { stamp, from: outcome.origin?.from ?? other.jobId } };
      hasWaited = true;
    }
    const build = async (): Promise<Outcome> => {
      const known = await recall({ codeHash, stamp, ageMs, jobId: job.id, isBuiltHere: built.has(key) }, context.signal, () => (hasWaited = true));
      if (known) return known;
      if (hasWaited) context.restartLimit?.();
      const outcome = await runner.run(job, context);
      if (!isRepeatable(outcome)) return outcome;
      built.delete(key);
      built.add(key);
      keepLatest(built, builtMax);
      return { ...outcome, origin: { stamp, from: null } };
    };
    const outcome = build();
    const mine = { jobId: job.id, outcome: outcome.then((one) => (isRepeatable(one) ? one : null), () => null) };
    building.set(key, mine);
    try {
      return await outcome;
    } finally {
      // Before those who wait for it look again.
      building.delete(key);
    }
  }
}
