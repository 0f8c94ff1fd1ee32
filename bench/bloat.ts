/**
 * An hour's work, compressed, while a transaction pins the horizon: nothing that dies meanwhile may be removed. 72,000 jobs go
 * through turns of ten lanes, with a pulse every half a second as a node at work sends it; first with nothing pinned. Prints
 * how long turns take in each sixth of it, milliseconds. `npx tsx bench/bloat.ts [chats] [jobs]`.
 */
import { performance } from "node:perf_hooks";
import postgres from "postgres";
import { createBuildQueue } from "../src/index.js";
import { postgresCluster } from "../test/support/postgres-cluster.js";

const chats = Number(process.argv[2] ?? 2000);
const jobs = Number(process.argv[3] ?? 72_000);
const lanes = 10;
const parts = 6;
const pulseMs = 500;

interface Taken {
  claims: { id: string; chatId: string; attempt: number; fence: number }[];
}

const cluster = await postgresCluster({ durable: true });
const at = (values: number[], part: number) => [...values].sort((a, b) => a - b)[Math.floor(values.length * part)]?.toFixed(2);

async function round(name: string, isPinned: boolean): Promise<void> {
  const admin = postgres(cluster.url, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database ${name}`);
  await admin.end();
  const place = new URL(cluster.url);
  place.pathname = `/${name}`;
  const queue = await createBuildQueue({ databaseUrl: place.href, concurrency: 1, maxPending: 10 * jobs, maxPendingPerChat: jobs, drainMs: 0, run: () => "ok" });
  await queue.pause();
  for (let from = 0; from < jobs; from += 1000) await queue.enqueueMany(Array.from({ length: 1000 }, (_, index) => ({ chatId: `chat${(from + index) % chats}`, messageId: "m", code: "1" })));
  await queue.stop();
  const sql = postgres(place.href, { max: 2, onnotice: () => {} });
  await sql`update queue_state set paused_at = null`;
  await sql`vacuum analyze`;
  const pin = await sql.reserve();
  if (isPinned) {
    await pin`begin isolation level repeatable read`;
    await pin`select count(*) from build_jobs`;
  }

  let ends: object[] = [];
  let turns: number[] = [];
  let pulses: number[] = [];
  let lineFrom: number | null = null;
  let pulsedAt = Number.NEGATIVE_INFINITY;
  const every = Math.floor(jobs / lanes / parts);
  for (let turn = 1; turn <= every * parts; turn++) {
    if (performance.now() - pulsedAt > pulseMs) {
      pulsedAt = performance.now();
      const [row] = await sql<{ answer: { lineFrom: number } }[]>`select buildlane_pulse('n', 1e9, 100, false, null) as answer`;
      lineFrom = row?.answer.lineFrom ?? null;
      pulses.push(performance.now() - pulsedAt);
    }
    const claim = `c${turn}`;
    const from = performance.now();
    const [row] = await sql<{ answer: Taken }[]>`select buildlane_turn('n', ${claim}, ${ends.length > 0 ? JSON.stringify(ends) : null}::text::json, ${lanes}, 5, 50, null, ${lineFrom}) as answer`;
    turns.push(performance.now() - from);
    ends = (row?.answer.claims ?? []).map((job, ord) => ({ ord, job_id: job.id, chat_id: job.chatId, attempt: job.attempt, owner: "n", fence: job.fence, claim_id: claim, kind: "completed", result: "ok", warnings: [], externals: [] }));
    if (ends.length !== lanes) throw new Error(`turn ${turn} claimed ${ends.length} of ${lanes} lanes`);
    if (turn % every !== 0) continue;
    const [dead] = await sql<{ lanes: number; jobs: number }[]>`select pg_stat_get_dead_tuples('chat_lanes'::regclass)::int as lanes, pg_stat_get_dead_tuples('build_jobs'::regclass)::int as jobs`;
    console.log(`${name}, ${chats} chats, to job ${turn * lanes}: turns p50 ${at(turns, 0.5)}, p95 ${at(turns, 0.95)}, p99 ${at(turns, 0.99)} ms; pulses p50 ${at(pulses, 0.5)} ms; dead rows: ${dead?.lanes} of lanes, ${dead?.jobs} of jobs`);
    turns = [];
    pulses = [];
  }
  if (isPinned) await pin`commit`;
  pin.release();
  await sql.end();
}

try {
  await round("free", false);
  await round("pinned", true);
} finally {
  await cluster.drop();
}
