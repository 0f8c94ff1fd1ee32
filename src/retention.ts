/** Removes old finished jobs with their events, and what else grows old, a small step at a time, so that no claim ever waits for it. */
import type { Clock, Timer } from "./clock.js";
import { limits } from "./options.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import type { Store } from "./store/store.js";

const everyMs = 30_000;
/** Between two steps while there is more. */
const stepMs = 50;
const batch = 500;

export function keepRetention({ store, clock, keep, report }: { store: Store; clock: Clock; keep: { ageMs: number; count: number }; report: Reporter }): { stop(): Promise<void> } {
  let timer: Timer | null = null;
  let working: Promise<void> | null = null;
  let stopped = false;
  let removed = 0;
  let cursor: string | undefined;

  async function step(): Promise<number> {
    try {
      const { jobs, chatEvents, more, cursor: next } = await store.prune({ ...keep, idempotencyMs: limits.idempotencyMs, batch, cursor });
      cursor = next;
      removed += jobs;
      // Claims pass over the lanes that a step holds, and nobody else says when they are free again.
      if (jobs + chatEvents > 0) store.hint({ kind: "ready" });
      if (more) return stepMs;
      if (removed > 0) report({ type: "jobs.pruned", jobs: removed });
      removed = 0;
    } catch (error) {
      report({ type: "database.away", verb: "prune", error: messageOf(error) });
    }
    return everyMs;
  }
  function schedule(delayMs: number): void {
    if (stopped) return;
    timer = clock.after(delayMs, () => {
      working = step().then((nextMs) => {
        working = null;
        schedule(nextMs);
      });
    });
  }
  schedule(everyMs);
  return {
    async stop() {
      stopped = true;
      timer?.cancel();
      await working;
    },
  };
}
