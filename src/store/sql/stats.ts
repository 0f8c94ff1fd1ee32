/**
 * Figures of the whole queue, or of one tenant. Totals come from running counters, spreads from the latest finished jobs, the rest from
 * partial indexes of live lanes: the cost does not grow with history. A tenant's totals are the sums of its lanes'.
 */
import { sql } from "drizzle-orm";
import type { Clock } from "../../clock.js";
import type { Store, StoreStats } from "../store.js";
import { tenantArg } from "../scope.js";
import { reads } from "./database.js";
import type { Database } from "./database.js";

/** Finished jobs that spreads and averages are taken from. */
const sampleMax = 1000;
/** Lanes at the head of the line among which the longest wait is looked for. */
const lineSample = 100;

interface Row {
  totals: { pending: number; completed: number; failed: number };
  sample: {
    count: number; completed: number; lastMinute: number; average: number | null;
    processing: number[] | null; waiting: number[] | null;
  };
  running: number;
  ready: number;
  delayed: number;
  paused: number;
  oldestMs: number | null;
  deadLetters: number;
  queuePaused: boolean;
  nodes: { id: string; slots: number; running: number; draining: boolean; startedAt: string; alive: boolean }[];
}

export const sqlStats = (database: Database, clock: Clock): Pick<Store, "stats"> => ({
  stats: (scope, now) =>
    reads(database, clock)(async (): Promise<StoreStats> => {
      const at = sql`buildlane_now(${now ?? null}::float8)`;
      const tenant = tenantArg(scope);
      const mine = tenant === null ? sql`true` : tenant === "" ? sql`tenant = ''` : sql`tenant = ${tenant} and tenant <> ''`;
      const ofTenants = sql`select coalesce(sum(pending), 0) as pending, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed from chat_lanes where ${tenant ? mine : sql`tenant <> ''`}`;
      const ofAll = sql`select coalesce(sum(pending), 0) as pending, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed from build_counters`;
      const summed = tenant === null ? ofAll : tenant ? ofTenants : sql`select a.pending - t.pending as pending, a.completed - t.completed as completed, a.failed - t.failed as failed from (${ofAll}) a, (${ofTenants}) t`;
      const answer = await database.orm.execute(sql`
        with latest as (
          select status, completed_at, extract(epoch from completed_at - started_at) * 1000 as processing_ms, extract(epoch from started_at - created_at) * 1000 as waiting_ms
          from build_jobs where status in ('completed', 'failed') and started_at is not null and ${mine} order by completed_at desc limit ${sampleMax}
        )
        select json_build_object(
          'totals', (select json_build_object('pending', pending, 'completed', completed, 'failed', failed) from (${summed}) sums),
          'sample', (select json_build_object('count', count(*), 'completed', count(*) filter (where status = 'completed'),
              'lastMinute', count(*) filter (where completed_at > ${at} - interval '1 minute'), 'average', avg(processing_ms),
              'processing', percentile_cont(array[0.5, 0.9, 0.95, 0.99]) within group (order by processing_ms),
              'waiting', percentile_cont(array[0.5, 0.95, 0.99]) within group (order by waiting_ms)) from latest),
          'running', (select count(*) from chat_lanes where owner is not null and ${mine}),
          'ready', (select count(*) from chat_lanes where state = 'ready' and ${mine}) + (select count(*) from chat_lanes where state = 'delayed' and ready_at <= ${at} and ${mine}),
          'delayed', (select count(*) from chat_lanes where state = 'delayed' and ready_at > ${at} and ${mine}),
          'paused', (select count(*) from chat_lanes where state = 'paused' and paused_at is not null and ${mine}),
          'oldestMs', (select extract(epoch from ${at} - min(j.created_at)) * 1000 from (
              select head_id from (${tenant === null ? sql`select buildlane_waiting_tenants()` : sql`select ${tenant}::text`}) t (tenant)
                cross join lateral (select head_id from chat_lanes l where l.state = 'ready' and l.tenant = t.tenant order by l.turn_at limit ${lineSample}) ready
              union all select head_id from (select head_id from chat_lanes where state = 'delayed' and ${mine} order by ready_at limit ${lineSample}) due) h
            join build_jobs j on j.id = h.head_id),
          'deadLetters', (select count(*) from build_jobs where status = 'failed' and failure_code not in ('cancelled', 'superseded') and discarded_at is null and ${mine}),
          'queuePaused', (select paused_at is not null from queue_state),
          'nodes', (select coalesce(json_agg(json_build_object('id', n.id, 'slots', n.slots, 'draining', n.draining, 'startedAt', n.started_at, 'alive', n.lease_until > ${at},
              'running', (select count(*) from chat_lanes l where l.owner = n.id)) order by n.started_at, n.id), '[]'::json) from build_nodes n)
        ) as answer`);
      const rows = Array.isArray(answer) ? (answer as unknown as { answer: Row }[]) : (answer as unknown as { rows: { answer: Row }[] }).rows;
      const { totals, sample, ...row } = (rows[0] as { answer: Row }).answer;
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
        finishedLastMinute: sample.lastMinute,
        oldestWaitMs: row.oldestMs,
        activeChats: row.running + row.ready + row.delayed + row.paused,
        waitingChats: row.ready,
        deadLetters: row.deadLetters,
        queuePaused: row.queuePaused,
        // A tenant is not told what machines there are.
        nodes: (tenant ? [] : row.nodes).map((node) => ({ ...node, startedAt: new Date(node.startedAt).toISOString() })),
      };
    }),
});
