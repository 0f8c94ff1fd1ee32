/** The way out: jobs as readers see them, with estimates from what was measured lately. */
import type { Clock } from "./clock.js";
import { estimate } from "./estimate.js";
import type { Measured } from "./estimate.js";
import type { Job } from "./job.js";
import type { Scope } from "./store/scope.js";
import type { Store, StoredJob, StoreStats } from "./store/store.js";

/** Figures are at most this old: position is exact, estimates need not be. */
const freshMs = 1000;

export interface Readers {
  withEstimate(job: StoredJob): Job;
  /** Estimate for a job that was just accepted at this position. */
  estimateAt(position: number, delayMs: number, chatPaused?: boolean): { estimatedWaitTime: number | null; estimatedWaitTimeP90: number | null };
  stats(scope: Scope): Promise<StoreStats>;
  /** Milliseconds that one turn of a slot takes, at least 100. */
  turnMs(): number;
  /** Refreshes the figures when they are old; never waited for. */
  refresh(): void;
}

export function createReaders({ store, clock, slots }: { store: Store; clock: Clock; slots: number }): Readers {
  let latest: StoreStats | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  let reading = false;

  function refresh(): void {
    if (reading || clock.monotonic() - readAt < freshMs) return;
    reading = true;
    readAt = clock.monotonic();
    // What waits anywhere makes everybody wait.
    store
      .stats("everyone")
      .then((stats) => (latest = stats))
      // Old figures are better than none; the next read tries again.
      .catch(() => undefined)
      .finally(() => (reading = false));
  }

  function measured(): Measured {
    refresh();
    const alive = latest?.nodes.filter((node) => node.alive && !node.draining) ?? [];
    return {
      p50: latest?.processing.p50 ?? null,
      p90: latest?.processing.p90 ?? null,
      slots: alive.reduce((sum, node) => sum + node.slots, 0) || slots,
      running: latest?.totalRunning ?? 0,
      waitingLanes: latest?.waitingChats ?? 0,
    };
  }

  const named = (found: ReturnType<typeof estimate>) => ({ estimatedWaitTime: found?.p50 ?? null, estimatedWaitTimeP90: found?.p90 ?? null });

  return {
    withEstimate(job) {
      if (job.status !== "pending") return job;
      const { chatPaused, ...plain } = job;
      const delayMs = job.nextAttemptAt === null ? 0 : Math.max(0, Date.parse(job.nextAttemptAt) - clock.now());
      const paused = chatPaused || (latest?.queuePaused ?? false);
      // Whether the chat's first is running is not asked for: it counts like one before.
      return { ...plain, ...named(estimate({ inChat: job.queuePosition - 1, chatRunning: false, delayMs, paused }, measured())) };
    },
    estimateAt: (position, delayMs, chatPaused = false) => named(estimate({ inChat: Math.max(0, position - 1), chatRunning: false, delayMs, paused: chatPaused || (latest?.queuePaused ?? false) }, measured())),
    async stats(scope) {
      const stats = await store.stats(scope);
      if (scope !== "everyone") return stats;
      latest = stats;
      readAt = clock.monotonic();
      return stats;
    },
    turnMs: () => Math.max(100, latest?.processing.p50 ?? 0),
    refresh,
  };
}
