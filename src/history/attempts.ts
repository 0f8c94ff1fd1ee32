/** A job's attempts, folded from its events: what was written when it happened is the only record of them. */
import type { Attempt, EventType, FailureCode, HistoryEvent } from "../job.js";

/** How an event that ends an attempt names the end. */
const ends: { [type in EventType]?: Exclude<Attempt["outcome"], "running"> } = {
  "job.completed": "completed",
  "job.failed": "failed",
  "job.retrying": "retrying",
  "job.rescued": "rescued",
  "job.released": "released",
};

/** What of an event an attempt is told by. */
export type AttemptEvent = Pick<HistoryEvent, "type" | "attempt" | "at" | "data">;

/** `events` are those of one job, oldest first; events before its first attempt may be left out. A job that fails without a run ends no attempt. */
export function attemptsOf(events: readonly AttemptEvent[]): Attempt[] {
  const attempts: Attempt[] = [];
  let open: Attempt | null = null;
  for (const event of events) {
    if (event.type === "job.started") {
      open = { attempt: event.attempt ?? 0, startedAt: event.at, endedAt: null, runMs: null, outcome: "running", failureCode: null, nodeId: (event.data["nodeId"] as string | undefined) ?? null };
      attempts.push(open);
    }
    const outcome = ends[event.type];
    if (!open || !outcome) continue;
    open.endedAt = event.at;
    open.runMs = (event.data["runMs"] as number | undefined) ?? null;
    open.outcome = outcome;
    // The event of a rescue names the lost node instead; the code is always the same.
    open.failureCode = outcome === "rescued" ? "node_lost" : ((event.data["failureCode"] as FailureCode | undefined) ?? null);
    open = null;
  }
  return attempts;
}
