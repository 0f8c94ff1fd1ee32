/**
 * A chat's or a job's events as an endless stream: what is stored after a number, then what comes. The numbers are the
 * history's own, so a reader may leave off anywhere and go on from its last one, on any node and after any restart.
 */
import type { HistoryEvent, PassingEvent } from "../job.js";
import { laneKey } from "../store/scope.js";
import type { Scope } from "../store/scope.js";
import type { Store } from "../store/store.js";
import type { Wakeups } from "./wakeups.js";

const pageMax = 200;

interface Which {
  chatId: string;
  jobId?: string | undefined;
}

/** Yields `reset` when events after `after` were removed by the retention, and goes on with what is left; also when there is no such number yet, and goes on with what comes. */
export async function* follow<M extends PassingEvent = never>(
  store: Store,
  wakeups: Wakeups,
  scope: Scope,
  { chatId, jobId }: Which,
  { after, signal, look }: { after?: number | undefined; signal: AbortSignal; /** What has moved, asked when all events were told. */ look?: (news: boolean) => Promise<M[]> },
): AsyncGenerator<HistoryEvent | M | "reset", void, undefined> {
  const watch = wakeups.watch(laneKey(scope, chatId));
  try {
    let last = after ?? (jobId === undefined ? await wakeups.reading(() => store.eventStart(scope, chatId), signal) : 0);
    let resumed = after !== undefined;
    // How it stands at the beginning: what moves after that is told.
    if (look) await wakeups.reading(() => look(true), signal);
    let heard = false;
    while (!signal.aborted) {
      const { events, floor, tail } = await wakeups.reading(() => store.events(scope, chatId, { after: last, limit: pageMax, ...(jobId === undefined ? {} : { jobId }) }), signal);
      // A number of another history, such as the one before a restore. Those that were told are never above the tail.
      if (last > tail) {
        last = tail;
        yield "reset";
        continue;
      }
      // After 0 all that is kept is wanted, so nothing is missed there.
      if (resumed && last > 0 && last < floor) {
        // Told once, also when nothing newer is there.
        last = Math.max(last, Math.min(floor, (events[0]?.number ?? floor + 1) - 1));
        yield "reset";
      }
      resumed = true;
      for (const event of events) {
        if (signal.aborted) return;
        last = event.number;
        yield event;
      }
      if (events.length === pageMax) continue;
      if (look) yield* await wakeups.reading(() => look(events.length > 0 || heard), signal);
      heard = await watch.next(signal);
    }
  } catch (error) {
    // Who left need not hear what became of the read.
    if (!signal.aborted) throw error;
  } finally {
    watch.close();
  }
}
