/**
 * What the retention costs those who claim: turns of ten lanes, beside nothing and beside a retention that removes 500
 * finished jobs after 500, one after another. Prints medians and 99th percentiles, milliseconds. `npx tsx bench/retention.ts`.
 */
import { performance } from "node:perf_hooks";
import postgres from "postgres";
import { createBuildQueue } from "../src/index.js";
import { postgresCluster } from "../test/support/postgres-cluster.js";

const chats = 200;
const finished = 150_000;
const turns = 300;
const lanes = 10;

const cluster = await postgresCluster({ durable: true });
try {
  const queue = await createBuildQueue({ databaseUrl: cluster.url, concurrency: 1, maxPending: 1_000_000, maxPendingPerChat: 100_000, drainMs: 0, run: () => "ok" });
  await queue.pause();
  await Promise.all(Array.from({ length: chats * 60 }, (_, index) => queue.enqueue({ chatId: `chat${index % chats}`, messageId: "m", code: "1" })));
  await queue.stop();
  const sql = postgres(cluster.url, { max: 2, onnotice: () => {} });
  await sql`insert into chat_lanes (chat_id, tenant, tail, place_tail, event_tail, completed, accepted_at) select 'old' || n, '', 150, 150, 150, 150, now() from generate_series(1, 1000) n`;
  await sql`insert into build_jobs (id, chat_id, tenant, chat_seq, place, rank, message_id, code, options, code_hash, priority, status, attempt, spent, max_attempts, timeout_ms, run_at, created_at, started_at, completed_at, result)
    select 'done' || n, 'old' || (n % 1000 + 1), '', n / 1000 + 1, n / 1000 + 1, now(), 'm', '1', '{}', 'h', 0, 'completed', 1, 1, 3, 1000, now(), now() - interval '9 days', now() - interval '9 days', now() - interval '9 days', 'ok' from generate_series(0, ${finished - 1}::int) n`;
  await sql`insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at) select chat_id, chat_seq, 'job.completed', id, chat_seq, 'completed', 1, completed_at from build_jobs where status = 'completed'`;
  await sql`analyze`;
  await sql`update queue_state set paused_at = null`;
  await sql`select buildlane_pulse('n', 1e9, 100, false, null)`;

  const one = await sql.reserve();
  let ends: object[] = [];
  async function measure(): Promise<number[]> {
    const taken: number[] = [];
    for (let index = 0; index < turns; index++) {
      const claim = `c${performance.now()}`;
      const from = performance.now();
      const [row] = await one<{ answer: { claims: { id: string; chatId: string; attempt: number; fence: number }[] } }[]>`select buildlane_turn('n', ${claim}, ${ends.length > 0 ? JSON.stringify(ends) : null}::text::json, ${lanes}, 5, 50) as answer`;
      taken.push(performance.now() - from);
      ends = (row?.answer.claims ?? []).map((job, ord) => ({ ord, job_id: job.id, chat_id: job.chatId, attempt: job.attempt, owner: "n", fence: job.fence, claim_id: claim, kind: "completed", result: "ok", warnings: [], externals: [] }));
    }
    return taken.sort((a, b) => a - b);
  }
  const say = (what: string, taken: number[]) => console.log(`${what}: p50 ${taken[Math.floor(turns / 2)]?.toFixed(2)} ms, p99 ${taken[Math.floor(turns * 0.99)]?.toFixed(2)} ms`);
  await measure();
  say("turns alone", await measure());
  let removed = 0;
  let more = true;
  const pruning = (async () => {
    while (more) {
      const [row] = await sql<{ answer: { jobs: number; more: boolean } }[]>`select buildlane_prune(${7 * 86_400_000}, 1e9::bigint, 86400000, 500) as answer`;
      removed += row?.answer.jobs ?? 0;
      more &&= row?.answer.more ?? false;
    }
  })();
  say("turns beside the retention", await measure());
  more = false;
  await pruning;
  console.log(`${removed} of ${finished} finished jobs removed meanwhile`);
  one.release();
  await sql.end();
} finally {
  await cluster.drop();
}
