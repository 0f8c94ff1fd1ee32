/**
 * Figures of the whole queue, or of one tenant. Totals come from running counters, spreads from the latest finished jobs, the rest from
 * partial indexes of live lanes, and no count goes on for ever: the cost grows neither with history nor with what waits. A
 * tenant's totals are the sums of its lanes'.
 */
import type { Clock } from "../../clock.js";
import { countedMax } from "../store.js";
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
  clusterCap: number | null;
  nodes: { id: string; slots: number; running: number; draining: boolean; startedAt: string; alive: boolean }[];
}

/** Counts what may be many, as far as it is counted. */
const counted = (table: string, where: string): string => `(select count(*) from (select 1 from ${table} where ${where} limit ${countedMax}) found)`;

/**
 * $1 is the time, $2 the tenant where one is asked for. Prepared: planning it takes longer than running it. Whether a job
 * started is asked by its duration: by the column the planner takes those that finished for as few as started among all
 * that wait, and reads and sorts all that ever finished instead of the latest (10 ms after some thousands).
 */
function statsSql(tenant: string | null): string {
  const at = "buildlane_now($1)";
  const mine = tenant === null ? "true" : tenant === "" ? "tenant = ''" : "tenant = $2 and tenant <> ''";
  const ofTenants = `select coalesce(sum(pending), 0) as pending, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed from chat_lanes where ${tenant ? mine : "tenant <> ''"}`;
  const ofAll = "select coalesce(sum(pending), 0) as pending, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed from build_counters";
  const summed = tenant === null ? ofAll : tenant ? ofTenants : `select a.pending - t.pending as pending, a.completed - t.completed as completed, a.failed - t.failed as failed from (${ofAll}) a, (${ofTenants}) t`;
  return `
    with latest as (
      select status, completed_at, (extract(epoch from completed_at - started_at) * 1000)::float8 as processing_ms, (extract(epoch from started_at - created_at) * 1000)::float8 as waiting_ms
      from build_jobs where status in ('completed', 'failed') and (completed_at - started_at) is not null and ${mine} order by completed_at desc limit ${sampleMax}
    )
    select json_build_object(
      'totals', (select json_build_object('pending', pending, 'completed', completed, 'failed', failed) from (${summed}) sums),
      'sample', (select json_build_object('count', count(*), 'completed', count(*) filter (where status = 'completed'),
          'lastMinute', count(*) filter (where completed_at > ${at} - interval '1 minute'), 'average', avg(processing_ms),
          'processing', percentile_cont(array[0.5, 0.9, 0.95, 0.99]) within group (order by processing_ms),
          'waiting', percentile_cont(array[0.5, 0.95, 0.99]) within group (order by waiting_ms)) from latest),
      'running', (select count(*) from chat_lanes where owner is not null and ${mine}),
      'ready', least(${countedMax}, ${counted("chat_lanes", `state = 'ready' and ${mine}`)} + ${counted("chat_lanes", `state = 'delayed' and ready_at <= ${at} and ${mine}`)}),
      'delayed', ${counted("chat_lanes", `state = 'delayed' and ready_at > ${at} and ${mine}`)},
      'paused', ${counted("chat_lanes", `state = 'paused' and paused_at is not null and ${mine}`)},
      -- A look-up for each, not a join: how many there are is not known to the planner, and it would read every job.
      'oldestMs', (select extract(epoch from ${at} - min((select j.created_at from build_jobs j where j.id = h.head_id))) * 1000 from (
          select head_id from (${tenant === null ? "select buildlane_waiting_tenants()" : `select ${tenant ? "$2" : "''"}::text`}) t (tenant)
            cross join lateral (select head_id from chat_lanes l where l.state = 'ready' and l.tenant = t.tenant order by l.turn_at limit ${lineSample}) ready
          union all select head_id from (select head_id from chat_lanes where state = 'delayed' and ${mine} order by ready_at limit ${lineSample}) due) h),
      'deadLetters', ${counted("build_jobs", `status = 'failed' and failure_code not in ('cancelled', 'superseded') and discarded_at is null and ${mine}`)},
      'queuePaused', (select paused_at is not null from queue_state),
          'clusterCap', (select cluster_cap from queue_state),
      'nodes', (select coalesce(json_agg(json_build_object('id', n.id, 'slots', n.slots, 'draining', n.draining, 'startedAt', n.started_at, 'alive', n.lease_until > ${at},
          'running', (select count(*) from chat_lanes l where l.owner = n.id)) order by n.started_at, n.id), '[]'::json) from build_nodes n)
    ) as answer`;
}

export const sqlStats = (database: Database, clock: Clock): Pick<Store, "stats"> => ({
  stats: (scope, now) =>
    reads(database, clock)(async (): Promise<StoreStats> => {
      const tenant = tenantArg(scope);
      const answer = await database.call<Row>(statsSql(tenant), tenant ? [now ?? null, tenant] : [now ?? null], "reads");
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
        finishedLastMinute: sample.lastMinute,
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
