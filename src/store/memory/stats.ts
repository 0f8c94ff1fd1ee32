/** Figures of the whole queue, or of one tenant; they cost the same however much was ever finished. */
import { defaultTenant, isWithin } from "../scope.js";
import type { Scope } from "../scope.js";
import { countedMax, perMinute, sampledMax } from "../store.js";
import type { StoreStats } from "../store.js";
import { iso, isShownTo, lineUpDue } from "./tables.js";
import type { Lane, Tables } from "./tables.js";

export function stats(tables: Tables, scope: Scope, at: number): StoreStats {
  lineUpDue(tables, at);
  const seesNodes = scope === "everyone" || scope.tenant === defaultTenant;
  const sample = latestRuns(tables, scope);
  const completed = sample.filter((one) => one.completed).length;
  const processing = sample.map((one) => one.endedAt - one.startedAt).sort((a, b) => a - b);
  const waiting = sample.map((one) => one.startedAt - one.createdAt).sort((a, b) => a - b);
  const mine = <T extends Lane>(lanes: Iterable<T>): T[] => (scope === "everyone" ? [...lanes] : [...lanes].filter((lane) => isWithin(scope, lane.chatId)));
  const [ready, delayed, paused] = [mine(tables.ready), mine(tables.delayed), mine(tables.paused)];
  const totals = scope === "everyone" ? tables.totals : totalsOf(mine(tables.lanes.values()));
  return {
    totalQueued: totals.pending,
    totalRunning: totals.running,
    totalCompleted: totals.completed,
    totalFailed: totals.failed,
    averageProcessingTime: sample.length > 0 ? processing.reduce((sum, ms) => sum + ms, 0) / sample.length : 0,
    successRate: sample.length > 0 ? completed / sample.length : null,
    processing: { p50: percentile(processing, 0.5), p90: percentile(processing, 0.9), p95: percentile(processing, 0.95), p99: percentile(processing, 0.99) },
    waiting: { p50: percentile(waiting, 0.5), p95: percentile(waiting, 0.95), p99: percentile(waiting, 0.99) },
    finishedLastMinute: perMinute(sample.filter((one) => one.endedAt > at - 60_000).length, at - (sample.at(-1)?.endedAt ?? at), totals.completed + totals.failed),
    oldestWaitMs: oldestWait(ready, at),
    activeChats: totals.running + counted(ready) + counted(delayed) + counted(paused),
    waitingChats: counted(ready),
    deadLetters: counted([...tables.deadLetters].filter((job) => isShownTo(scope, job))),
    queuePaused: tables.queuePausedAt !== null,
    clusterCap: seesNodes && Number.isFinite(tables.clusterCap) ? tables.clusterCap : null,
    nodes: (seesNodes ? [...tables.nodes.values()] : [])
      .sort((a, b) => a.startedAt - b.startedAt || (a.id < b.id ? -1 : 1))
      .map(({ id, slots, draining, startedAt, leaseUntil }) => ({ id, slots, draining, startedAt: iso(startedAt), alive: leaseUntil > at, running: tables.owned.get(id)?.size ?? 0 })),
  };
}

const counted = (many: unknown[]): number => Math.min(many.length, countedMax);

const totalsOf = (lanes: Lane[]): Pick<Tables["totals"], "pending" | "running" | "completed" | "failed"> => ({
  pending: lanes.reduce((sum, lane) => sum + lane.pending.size, 0), running: lanes.filter((lane) => lane.running).length,
  completed: lanes.reduce((sum, lane) => sum + lane.completed, 0), failed: lanes.reduce((sum, lane) => sum + lane.failed, 0),
});

/** The newest finished jobs that ran. */
function latestRuns({ finished }: Tables, scope: Scope): { completed: boolean; createdAt: number; startedAt: number; endedAt: number }[] {
  const sample = [];
  for (let index = finished.size - 1; index >= 0 && sample.length < sampledMax; index--) {
    const job = finished.at(index);
    if (job && isShownTo(scope, job) && job.startedAt !== null && job.completedAt !== null) sample.push({ completed: job.status === "completed", createdAt: job.createdAt, startedAt: job.startedAt, endedAt: job.completedAt });
  }
  return sample;
}

/** Between the two nearest when it falls between them, like SQL's percentile_cont. */
function percentile(sorted: number[], fraction: number): number | null {
  const index = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(index)];
  const above = sorted[Math.ceil(index)];
  return below === undefined || above === undefined ? null : below + (above - below) * (index - Math.floor(index));
}

function oldestWait(lanes: Lane[], at: number): number | null {
  const waits = lanes.flatMap(({ pending }) => (pending.first ? [at - Math.max(pending.first.createdAt, pending.first.runAt)] : []));
  return waits.length > 0 ? Math.max(...waits) : null;
}
