/** `Prefer: wait=N` (RFC 7240): a submitter who would rather have the finished job, if that is soon. */
import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.js";
import type { FinishedJob } from "../job.js";
import { limits } from "../options.js";
import type { QueueView } from "../queue-api.js";
import type { Stays } from "./stays.js";

/** Seconds to wait, bounded; null when nothing was preferred that makes sense. */
export function waitSeconds(prefer: string | undefined): number | null {
  const found = /(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(prefer ?? "");
  return found ? Math.min(Number(found[1]), limits.waitSecondsMax) : null;
}

/** The finished job, or null when it takes longer, or when too many wait already. Never rejects: the job is accepted by now. */
export async function finishedWithin(id: string, seconds: number, { queue, clock, stays, response, caller }: { caller: string | undefined; queue: QueueView; clock: Clock; stays: Stays; response: ServerResponse }): Promise<FinishedJob | null> {
  const stay = stays.enter(response, caller);
  if (!stay) return null;
  const timer = clock.after(seconds * 1000, stay.leave);
  try {
    return await queue.waitFor(id, { signal: stay.signal });
  } catch {
    return null;
  } finally {
    timer.cancel();
    stay.leave();
  }
}
