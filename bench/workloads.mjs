/** What is measured; each takes a peer's `open` and answers figures. Every run is judged while it is measured. */
import { createRequire } from "node:module";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createJudge, percentile, sleep } from "./judge.mjs";

const layered = (chats, perChat) => Array.from({ length: chats * perChat }, (_, index) => ({ chat: `chat${index % chats}`, seq: Math.floor(index / chats) + 1 }));
const bursts = (chats, perChat) => Array.from({ length: chats * perChat }, (_, index) => ({ chat: `chat${Math.floor(index / perChat)}`, seq: (index % perChat) + 1 }));

/** What a job does that takes so long; nothing for none. */
const lasting = (ms) => (ms ? () => sleep(ms).then(() => "ok") : undefined);

/** All jobs are accepted first, then worked off. */
async function throughput(open, place, { chats, perChat, slots, workMs, inBursts = false }) {
  const judge = createJudge(chats * perChat, slots);
  const queue = await open({ ...place, slots, perChat: perChat > 1, run: (chat, seq) => judge.run(chat, perChat > 1 ? seq : 1, lasting(workMs)) });
  await queue.hold();
  await queue.addMany((inBursts ? bursts : layered)(chats, perChat));
  const cpu = process.cpuUsage();
  const from = performance.now();
  await queue.start();
  await judge.finished;
  const ms = performance.now() - from;
  const { user, system } = process.cpuUsage(cpu);
  await queue.stop();
  return { jobsPerSecond: (chats * perChat * 1000) / ms, processUsPerJob: (user + system) / (chats * perChat), ...judge.broken };
}

/** One job at a time on an idle queue; then a steady rate. */
async function latency(open, place, { jobs, slots, chats, everyMs, workMs }) {
  const judge = createJudge(jobs, slots);
  const begun = new Map();
  const [starts, ends] = [[], []];
  const doneAt = new Map();
  let wake = () => {};
  const queue = await open({
    ...place, slots,
    run: (chat, seq) => {
      const key = `${chat} ${seq}`;
      const from = begun.get(key);
      if (from !== undefined) starts.push(performance.now() - from);
      return judge.run(chat, seq, lasting(workMs));
    },
    done: (id) => {
      doneAt.set(id, performance.now());
      wake();
    },
  });
  const seqs = new Map();
  const add = async (chat) => {
    const seq = (seqs.get(chat) ?? 0) + 1;
    seqs.set(chat, seq);
    const from = performance.now();
    begun.set(`${chat} ${seq}`, from);
    const id = await queue.add(chat);
    return { id, from };
  };
  await queue.start();
  // Everything is made and warm before anything counts.
  const warm = Math.min(chats * 2, 50);
  for (let index = 0; index < warm; index++) {
    const { id } = await add(`chat${index % chats}`);
    while (!doneAt.has(id)) await new Promise((resolve) => (wake = resolve));
  }
  starts.length = 0;
  if (everyMs) {
    const from = performance.now();
    for (let index = warm; index < jobs; index++) {
      await sleep(Math.max(0, from + (index - warm) * everyMs - performance.now()));
      void add(`chat${index % chats}`);
    }
    await judge.finished;
  } else {
    for (let index = warm; index < jobs; index++) {
      const { id, from } = await add(`chat${index % chats}`);
      while (!doneAt.has(id)) await new Promise((resolve) => (wake = resolve));
      ends.push(doneAt.get(id) - from);
      await sleep(2);
    }
  }
  await queue.stop();
  const figures = { startP50Ms: percentile(starts, 0.5), startP99Ms: percentile(starts, 0.99), ...judge.broken };
  return ends.length > 0 ? { ...figures, doneP50Ms: percentile(ends, 0.5), doneP99Ms: percentile(ends, 0.99) } : figures;
}

/** CPU time of the stores' processes, microseconds: those of PostgreSQL, and Redis. */
function storeUs({ postmaster, redis }) {
  let ticks = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
      if (Number(fields[1]) === postmaster || Number(pid) === redis) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It ended meanwhile.
    }
  }
  return ticks * 10_000;
}

/** POST at 50 connections from a process of its own; nobody works off what it enqueues. */
async function http(open, place, { peer, seconds, slots }) {
  const { default: fastify } = await import("fastify");
  const app = fastify();
  let close = async () => {};
  const schema = { body: { type: "object", required: ["chatId", "messageId", "code"], properties: { chatId: { type: "string", maxLength: 100 }, messageId: { type: "string", maxLength: 100 }, code: { type: "string" } }, additionalProperties: false } };
  if (peer === "bare") app.post("/api/builds", { schema }, async (request, reply) => reply.code(202).send({ ok: true, data: { id: request.body.messageId } }));
  else if (peer === "insert") {
    const sql = (await import("postgres")).default(place.databaseUrl, { max: 10, onnotice() {} });
    await sql`create table jobs (id bigserial primary key, chat text, message text, code text, status text default 'pending', created_at timestamptz default now())`;
    app.post("/api/builds", { schema }, async (request, reply) => {
      const [row] = await sql`insert into jobs (chat, message, code) values (${request.body.chatId}, ${request.body.messageId}, ${request.body.code}) returning id`;
      return reply.code(202).send({ ok: true, data: { id: row.id } });
    });
    close = () => sql.end();
  } else {
    const queue = await open({ ...place, slots, run: async () => "ok", settings: { drainMs: 100 } });
    await queue.hold();
    if (peer === "buildlane") {
      const { buildRoutes } = await import("../dist/src/fastify.js");
      await app.register(buildRoutes, { queue: queue.queue, prefix: "/api/builds" });
    } else app.post("/api/builds", { schema }, async (request, reply) => reply.code(202).send({ ok: true, data: { id: await queue.add(request.body.chatId) } }));
    close = () => queue.stop();
  }
  await app.listen({ port: 0, host: "127.0.0.1" });
  const load = spawn(process.execPath, [fileURLToPath(new URL("load.mjs", import.meta.url)), `http://127.0.0.1:${app.server.address().port}/api/builds`, String(seconds)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  const read = () => ({ process: process.cpuUsage(), store: storeUs(place) });
  let [warm, end] = [];
  load.stdout.on("data", (part) => {
    text += part;
    if (text.includes("\n")) warm ??= read();
    if (text.trim().includes("\n")) end ??= read();
  });
  await once(load, "close");
  await app.close();
  await close();
  const { requests, askingUs, ...figures } = JSON.parse(text.trim().split("\n").at(-1));
  const processUs = end.process.user + end.process.system - warm.process.user - warm.process.system;
  return { ...figures, processUs: processUs / requests, storeUs: (end.store - warm.store) / requests, askingUs: askingUs / requests };
}

/** A module of 20 lines, of no other's text: the same code again would be answered from memory. */
const tsxOf = (nth) => Array.from({ length: 20 }, (_, line) => (line === 0 ? 'import { useState } from "react";' : line === 1 ? "export default function App({ name }: { name: string }) {" : line === 2 ? "  const [count, setCount] = useState(0);" : line === 18 ? "  return <main onClick={() => setCount(count + 1)}>Hello {name}, {count}</main>; // " + nth : line === 19 ? "}" : `  const value${line}: number = count * ${line};`)).join("\n");

/** 20-line TSX modules through the confined workers, or through plain esbuild in this process and p-limit. */
async function builds(open, place, { peer, jobs, chats, slots, same = false }) {
  if (peer === "p-limit") {
    const { default: pLimit } = await import("p-limit");
    const esbuild = createRequire(new URL("../package.json", import.meta.url))("esbuild");
    const limit = pLimit(slots);
    const one = (_, nth) => limit(() => esbuild.build({ stdin: { contents: tsxOf(nth), loader: "tsx" }, bundle: true, write: false, format: "esm", external: ["react"], logLevel: "silent" }));
    await Promise.all(Array.from({ length: 50 }, one));
    const from = performance.now();
    await Promise.all(Array.from({ length: jobs }, one));
    const ms = performance.now() - from;
    await esbuild.stop();
    return { buildsPerSecond: (jobs * 1000) / ms };
  }
  let left = 50;
  let finish;
  const finished = () => new Promise((resolve) => (finish = resolve));
  const queue = await open({ ...place, slots, done: () => --left === 0 && finish() });
  let all = finished();
  for (let index = 0; index < 50; index++) await queue.add(`chat${index % chats}`, { code: tsxOf(-index) });
  await all;
  await queue.hold();
  left = jobs;
  all = finished();
  await Promise.all(Array.from({ length: jobs }, (_, index) => queue.add(`chat${index % chats}`, { code: tsxOf(same ? 0 : index + 1) })));
  const from = performance.now();
  await queue.start();
  await all;
  const ms = performance.now() - from;
  const { totalFailed } = await queue.queue.stats();
  await queue.stop();
  return { buildsPerSecond: (jobs * 1000) / ms, failed: totalFailed };
}

/** What a queue costs while much waits in it: accept, claim and end, and the reads. */
async function waiting(open, place, { pending, chats, oneChat }) {
  const waits = [];
  let begunMs = 0;
  const queue = await open({ ...place, slots: 10, run: () => void waits.push(performance.now() - begunMs) });
  await queue.hold();
  for (let from = 0; from < pending; from += 1000) {
    await queue.queue.enqueueMany(Array.from({ length: Math.min(1000, pending - from) }, (_, index) => ({ chatId: oneChat ? "big" : `chat${(from + index) % chats}`, messageId: "m", code: "1" })));
  }
  const timed = async (times, work) => {
    const taken = [];
    for (let index = 0; index < times; index++) {
      const from = performance.now();
      await work(index);
      taken.push(performance.now() - from);
    }
    return taken;
  };
  const ids = [];
  const accept = await timed(200, async (index) => void ids.push((await queue.queue.enqueue({ chatId: oneChat ? "big" : `chat${index}`, messageId: "m", code: "1" })).id));
  const get = await timed(100, (index) => queue.queue.get(ids[index]));
  const chat = await timed(100, (index) => queue.queue.chat(oneChat ? "big" : `chat${index}`));
  const stats = await timed(50, () => queue.queue.stats());
  const rssMb = process.memoryUsage().rss / 1024 / 1024;
  begunMs = performance.now();
  await queue.start();
  while (waits.length < 500) await sleep(5);
  const claimed = 500 / ((waits[499] - waits[0]) / 1000);
  await queue.stop();
  return { acceptP50Ms: percentile(accept, 0.5), claimedPerSecond: claimed, getP95Ms: percentile(get, 0.95), chatP95Ms: percentile(chat, 0.95), statsP95Ms: percentile(stats, 0.95), rssMb };
}

/** Several nodes in this process on one database. */
async function nodes(open, place, { count, chats, perChat, slots, workMs }) {
  const judge = createJudge(chats * perChat, slots * count);
  const all = [];
  for (let index = 0; index < count; index++) all.push(await open({ ...place, slots, run: (chat, seq) => judge.run(chat, seq, lasting(workMs)) }));
  await all[0].hold();
  await all[0].addMany(layered(chats, perChat));
  await sleep(1000);
  const from = performance.now();
  await all[0].start();
  await judge.finished;
  const ms = performance.now() - from;
  await Promise.all(all.map((one) => one.stop()));
  return { jobsPerSecond: (chats * perChat * 1000) / ms, ...judge.broken };
}

async function idle(open, place, { count, seconds }) {
  const all = [];
  for (let index = 0; index < count; index++) all.push(await open({ ...place, slots: 3, run: () => "ok" }));
  const sql = (await import("postgres")).default(place.databaseUrl, { max: 1, onnotice() {} });
  await sleep(3000);
  const read = async () => Number((await sql`select xact_commit from pg_stat_database where datname = current_database()`)[0].xact_commit);
  const [before, cpu] = [await read(), process.cpuUsage()];
  await sleep(seconds * 1000);
  const { user, system } = process.cpuUsage(cpu);
  const statements = (await read()) - before - 1;
  await sql.end();
  await Promise.all(all.map((one) => one.stop()));
  return { statementsPerNodeAndSecond: statements / seconds / count, coreParts: (user + system) / 1e6 / seconds };
}

/** Name → what it runs, on whom, and with which figures of a round the table shows. */
const everyone = ["buildlane", "bullmq", "pg-boss", "graphile-worker"];
export const workloads = {
  ordered10: { run: throughput, options: { chats: 200, perChat: 50, slots: 10 }, peers: everyone, figure: "jobsPerSecond" },
  ordered50: { run: throughput, options: { chats: 200, perChat: 50, slots: 50 }, peers: ["buildlane", "bullmq"], figure: "jobsPerSecond" },
  ordered5ms: { run: throughput, options: { chats: 200, perChat: 50, slots: 10, workMs: 5 }, peers: everyone, figure: "jobsPerSecond" },
  ordered20ms: { run: throughput, options: { chats: 200, perChat: 10, slots: 10, workMs: 20 }, peers: everyone, figure: "jobsPerSecond" },
  backlog: { run: throughput, options: { chats: 800, perChat: 50, slots: 10 }, peers: everyone, figure: "jobsPerSecond" },
  bursts: { run: throughput, options: { chats: 200, perChat: 50, slots: 10, inBursts: true }, peers: ["buildlane", "bullmq"], figure: "jobsPerSecond" },
  unordered: { run: throughput, options: { chats: 20000, perChat: 1, slots: 10 }, peers: everyone, figure: "jobsPerSecond" },
  latency: { run: latency, options: { jobs: 300, slots: 10, chats: 10 }, peers: everyone, figure: "startP50Ms" },
  paced: { run: latency, options: { jobs: 3000, slots: 10, chats: 50, everyMs: 5, workMs: 5 }, peers: everyone, figure: "startP50Ms" },
  http: { run: http, options: { seconds: 8, slots: 10 }, peers: ["buildlane", "bullmq", "pg-boss", "bare", "insert"], figure: "requestsPerSecond" },
  builds: { run: builds, options: { jobs: 2000, chats: 100, slots: 10 }, peers: ["buildlane", "p-limit"], figure: "buildsPerSecond" },
  buildsAgain: { run: builds, options: { jobs: 2000, chats: 100, slots: 10, same: true }, peers: ["buildlane", "p-limit"], figure: "buildsPerSecond" },
  waiting1k: { run: waiting, options: { pending: 1000, chats: 1000 }, peers: ["buildlane"], figure: "claimedPerSecond" },
  waiting100k: { run: waiting, options: { pending: 100_000, chats: 100_000 }, peers: ["buildlane"], figure: "claimedPerSecond" },
  waiting1m: { run: waiting, options: { pending: 1_000_000, chats: 100_000 }, peers: ["buildlane"], figure: "claimedPerSecond" },
  oneBigChat: { run: waiting, options: { pending: 100_000, chats: 1, oneChat: true }, peers: ["buildlane"], figure: "acceptP50Ms" },
  nodes1: { run: nodes, options: { count: 1, chats: 200, perChat: 50, slots: 10 }, peers: ["buildlane"], figure: "jobsPerSecond" },
  nodes2: { run: nodes, options: { count: 2, chats: 200, perChat: 50, slots: 10 }, peers: ["buildlane"], figure: "jobsPerSecond" },
  nodes4: { run: nodes, options: { count: 4, chats: 200, perChat: 50, slots: 10 }, peers: ["buildlane"], figure: "jobsPerSecond" },
  nodes1x20ms: { run: nodes, options: { count: 1, chats: 200, perChat: 10, slots: 10, workMs: 20 }, peers: ["buildlane"], figure: "jobsPerSecond" },
  nodes4x20ms: { run: nodes, options: { count: 4, chats: 200, perChat: 10, slots: 10, workMs: 20 }, peers: ["buildlane"], figure: "jobsPerSecond" },
  idle: { run: idle, options: { count: 3, seconds: 20 }, peers: ["buildlane"], figure: "coreParts" },
};
