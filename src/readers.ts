/** The way out: jobs as readers see them, with estimates from what was measured lately. */
import type { Clock } from "./clock.js";
import { estimate } from "./estimate.js";
import type { Measured } from "./estimate.js";
import type { Job } from "./job.js";
import type { Scope } from "./store/scope.js";
import { pausedRetryMs } from "./store/store.js";
import type { Standing, Store, StoredJob, StoreStats } from "./store/store.js";

/**
 * Figures that are older are read anew once somebody asks, who need not wait for it: position is exact, estimates need
 * not be. So the first to ask after a silence gets what was measured before it. A pause is known apart from them.
 */
const freshMs = 1000;

export interface Estimated {
  estimatedWaitTime: number | null;
  estimatedWaitTimeP90: number | null;
}

export interface Readers {
  withEstimate(job: StoredJob): Job;
  /** How long until a pending job that stands so starts, milliseconds; null while it is paused. */
  estimateAt(standing: Standing): Estimated;
  /** Jobs were accepted here: they stand before whoever asks next. */
  accepted(chatIds: string[]): void;
  /** Whether the queue was paused at a moment of the monotonic clock; what was so before the latest such moment is passed over. */
  queuePaused(paused: boolean, atMs: number): void;
  stats(scope: Scope): Promise<StoreStats>;
  /** Milliseconds that one turn of a slot takes, at least 100; a minute while the queue is paused. */
  turnMs(): number;
  /** Refreshes the figures when they are old; never waited for. */
  refresh(): void;
}

export function createReaders({ store, clock, slots }: { store: Store; clock: Clock; slots: number }): Readers {
  let latest: StoreStats | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  let reading = false;
  let paused = false;
  let pausedAsOf = Number.NEGATIVE_INFINITY;

  let keptAt = clock.monotonic();
  let acceptedSince = 0;
  const acceptedChats = new Set<string>();

  function keep(stats: StoreStats): void {
    latest = stats;
    keptAt = clock.monotonic();
    acceptedSince = 0;
    acceptedChats.clear();
  }

  function refresh(): void {
    if (reading || clock.monotonic() - readAt < freshMs) return;
    reading = true;
    readAt = clock.monotonic();
    // What waits anywhere makes everybody wait.
    store
      .stats("everyone")
      .then(keep)
      // Old figures are better than none; the next read tries again.
      .catch(() => undefined)
      .finally(() => (reading = false));
  }

  function measured(): Measured {
    refresh();
    const alive = latest?.nodes.filter((node) => node.alive && !node.draining) ?? [];
    // Slots beyond the cluster's cap start nothing.
    const total = Math.min(alive.reduce((sum, node) => sum + node.slots, 0) || slots, latest?.clusterCap ?? Number.POSITIVE_INFINITY);
    const mean = latest?.averageProcessingTime || null;
    // Since the figures were read, some were accepted here, and some will have started.
    const started = mean === null ? 0 : ((clock.monotonic() - keptAt) * total) / mean;
    const queued = Math.max(0, (latest?.totalQueued ?? 0) + acceptedSince - started);
    const chats = latest?.activeChats ?? 0;
    return {
      mean,
      p50: latest?.processing.p50 ?? null,
      p90: latest?.processing.p90 ?? null,
      slots: total,
      running: latest?.totalRunning ?? 0,
      queued,
      chats: Math.min(Math.ceil(queued), Math.max(chats, acceptedChats.size, Math.min(chats + acceptedChats.size, acceptedSince))),
    };
  }

  function estimateAt({ queuePosition, nextAttemptAt, chatPaused, chatReadyAt }: Standing): Estimated {
    const untilMs = (iso: string | null) => (iso === null ? 0 : Math.max(0, Date.parse(iso) - clock.now()));
    const ownMs = untilMs(nextAttemptAt);
    // Its chat's first job holds its place: only from then on does the line move.
    const frontMs = chatReadyAt === nextAttemptAt ? 0 : untilMs(chatReadyAt);
    const found = estimate({ inChat: Math.max(0, queuePosition - 1), delayMs: frontMs === 0 ? ownMs : 0, paused: chatPaused || paused }, measured());
    const late = (ms: number) => Math.max(ownMs, frontMs + ms);
    if (!found || frontMs === 0) return { estimatedWaitTime: found?.p50 ?? null, estimatedWaitTimeP90: found?.p90 ?? null };
    return { estimatedWaitTime: late(found.p50), estimatedWaitTimeP90: late(found.p90) };
  }

  return {
    withEstimate(job) {
      if (job.status !== "pending") return job;
      const { chatPaused: _paused, chatReadyAt: _readyAt, ...plain } = job;
      return Object.assign(plain, estimateAt(job));
    },
    estimateAt,
    accepted(chatIds) {
      acceptedSince += chatIds.length;
      for (const chatId of chatIds) acceptedChats.add(chatId);
    },
    queuePaused(value, atMs) {
      if (atMs < pausedAsOf) return;
      paused = value;
      pausedAsOf = atMs;
    },
    async stats(scope) {
      const stats = await store.stats(scope);
      if (scope !== "everyone") return inTenths(stats);
      keep(stats);
      readAt = clock.monotonic();
      return inTenths(stats);
    },
    turnMs: () => (paused ? pausedRetryMs : Math.max(100, latest?.processing.p50 ?? 0)),
    refresh,
  };
}

/** Between two jobs' times a percentile has as many digits as there are. */
const tenth = <T extends number | null>(ms: T): T => (ms === null ? ms : ((Math.round(ms * 10) / 10) as T));
const tenths = <S extends Record<string, number | null>>(spread: S): S => Object.fromEntries(Object.entries(spread).map(([name, ms]) => [name, tenth(ms)])) as S;
const inTenths = (stats: StoreStats): StoreStats => ({ ...stats, averageProcessingTime: tenth(stats.averageProcessingTime), processing: tenths({ ...stats.processing }), waiting: tenths({ ...stats.waiting }) });
