/** Figures of the whole queue, or of one tenant; what they are taken from stands in migrations/0017_reads.sql. */
import type { Clock } from "../../clock.js";
import { countedMax, perMinute, sampledLanesMax, sampledMax } from "../store.js";
import type { Store, StoreStats } from "../store.js";
import { formOf, tenantArg } from "../scope.js";
import { reads } from "./database.js";
import type { Database } from "./database.js";

interface Row {
  totals: { pending: number; completed: number; failed: number };
  sample: {
    count: number; completed: number; lastMinute: number; spanMs: number | null; average: number | null;
    processing: number[] | null; waiting: number[] | null;
  };
  running: number;
  ready: number;
  delayed: number;
  paused: number;
  oldestMs: number | null;
  deadLetters: number;
  queuePaused: boolean;
  clusterCap: number | null;
  nodes: { id: string; slots: number; running: number; draining: boolean; startedAt: string; alive: boolean }[];
}

export const sqlStats = (database: Database, clock: Clock): Pick<Store, "stats"> => ({
  stats: (scope, now) =>
    reads(database, clock)(async (): Promise<StoreStats> => {
      const tenant = tenantArg(scope);
      const answer = await database.call<Row>(`select buildlane_stats_of_${formOf(scope)}($1, $2, $3, $4, $5) as answer`, [tenant, countedMax, sampledMax, sampledLanesMax, now ?? null], "reads");
      const { totals, sample, ...row } = answer;
      const [p50, p90, p95, p99] = sample.processing ?? [];
      const [w50, w95, w99] = sample.waiting ?? [];
      return {
        totalQueued: totals.pending,
        totalRunning: row.running,
        totalCompleted: totals.completed,
        totalFailed: totals.failed,
        averageProcessingTime: sample.average ?? 0,
        successRate: sample.count > 0 ? sample.completed / sample.count : null,
        processing: { p50: p50 ?? null, p90: p90 ?? null, p95: p95 ?? null, p99: p99 ?? null },
        waiting: { p50: w50 ?? null, p95: w95 ?? null, p99: w99 ?? null },
        finishedLastMinute: perMinute(sample.lastMinute, sample.spanMs ?? 0, totals.completed + totals.failed),
        oldestWaitMs: row.oldestMs,
        activeChats: row.running + row.ready + row.delayed + row.paused,
        waitingChats: row.ready,
        deadLetters: row.deadLetters,
        queuePaused: row.queuePaused,
        clusterCap: tenant ? null : row.clusterCap,
        // A tenant is not told what machines there are.
        nodes: (tenant ? [] : row.nodes).map((node) => ({ ...node, startedAt: new Date(node.startedAt).toISOString() })),
      };
    }),
});
