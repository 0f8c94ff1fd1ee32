/** Tells a stream's reader when a pending job's place or estimated wait has changed, beside the events that changed it. */
import type { Clock } from "../clock.js";
import type { PassingEvent } from "../job.js";
import type { Readers } from "../readers.js";
import { defaultTenant, tenantIn } from "../store/scope.js";
import type { Scope } from "../store/scope.js";
import type { Store } from "../store/store.js";

/** Without an event of the chat, estimates are looked at this often, milliseconds. */
const lookEveryMs = 5000;
/** An estimate that moved by less than this, and by less than this part of itself, is the same. */
const sameMs = 250;
const samePart = 0.25;
/** Jobs of one chat that are watched. */
const watchedMax = 200;

interface Needs {
  store: Store;
  clock: Clock;
  estimateAt: Readers["estimateAt"];
}

/** `look(news)` answers what moved since the call before; `news`: whether the chat had an event since. */
export function watchMoves({ store, clock, estimateAt }: Needs, scope: Scope, { chatId, jobId }: { chatId: string; jobId?: string | undefined }): (news: boolean) => Promise<PassingEvent[]> {
  const tenant = tenantIn(scope);
  let known = new Map<string, { position: number; wait: number | null }>();
  let lookedAt = Number.NEGATIVE_INFINITY;

  return async (news) => {
    const due = known.size > 0 && clock.monotonic() - lookedAt >= lookEveryMs;
    if (!news && !due) return [];
    lookedAt = clock.monotonic();
    const { places, paused } = await store.places(scope, chatId, watchedMax);
    const before = known;
    // Whoever stands behind a job that is delayed or backs off waits for it at least.
    const front = places[0]?.nextAttemptAt ?? null;
    known = new Map();
    return places.flatMap((place): PassingEvent[] => {
      if (jobId !== undefined && place.id !== jobId) return [];
      const estimated = estimateAt({ queuePosition: place.queuePosition, nextAttemptAt: place.nextAttemptAt, chatPaused: paused, chatReadyAt: front });
      const wait = estimated.estimatedWaitTime;
      const last = before.get(place.id);
      const moved = last !== undefined && (last.position !== place.queuePosition || differ(last.wait, wait));
      known.set(place.id, { position: place.queuePosition, wait: last && !moved ? last.wait : wait });
      if (!moved) return [];
      return [{ chatId, ...(tenant === defaultTenant ? {} : { tenant }), number: null, type: "job.moved", jobId: place.id, chatSeq: place.chatSeq, status: "pending", attempt: place.attempt, at: new Date(clock.now()).toISOString(), data: { queuePosition: place.queuePosition, ...estimated } }];
    });
  };
}

function differ(a: number | null, b: number | null): boolean {
  if (a === null || b === null) return a !== b;
  const by = Math.abs(a - b);
  return by > sameMs && by > samePart * Math.max(a, b);
}
