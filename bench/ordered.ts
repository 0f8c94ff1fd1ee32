/**
 * Ordered throughput: 200 chats × 50 jobs with a run that does nothing, one process, a PostgreSQL with default
 * durability. Prints accepted and ordered jobs a second, median of the rounds, and fails when a chat's order was not
 * kept. `npx tsx bench/ordered.ts [rounds] [slots]`.
 */
import { cpus } from "node:os";
import { createBuildQueue } from "../src/index.js";
import { postgresCluster } from "../test/support/postgres-cluster.js";

const rounds = Number(process.argv[2] ?? 5);
const slots = Number(process.argv[3] ?? 50);
const chats = 200;
const jobsPerChat = 50;
const total = chats * jobsPerChat;

async function round(databaseUrl: string): Promise<{ accepted: number; ordered: number }> {
  const seen = new Map<string, number>();
  let violations = 0;
  let left = total;
  let finished!: () => void;
  const done = new Promise<void>((resolve) => (finished = resolve));
  const queue = await createBuildQueue({
    databaseUrl, concurrency: slots, maxPending: 10 * total, maxPendingPerChat: 10 * jobsPerChat,
    run(job) {
      if ((seen.get(job.chatId) ?? 0) !== job.chatSeq - 1) violations++;
      seen.set(job.chatId, job.chatSeq);
      return "ok";
    },
    onReport(report) {
      if (report.type === "attempt.ended" && --left === 0) finished();
    },
  });
  await queue.pause();
  const requests = Array.from({ length: total }, (_, index) => ({ chatId: `chat${index % chats}`, messageId: `m${Math.floor(index / chats)}`, code: "export default 1" }));
  let from = performance.now();
  await Promise.all(requests.map((request) => queue.enqueue(request)));
  const accepted = total / ((performance.now() - from) / 1000);
  from = performance.now();
  await queue.resume();
  await done;
  const ordered = total / ((performance.now() - from) / 1000);
  await queue.stop();
  if (violations > 0) throw new Error(`${violations} jobs ran out of order`);
  return { accepted, ordered };
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const cluster = await postgresCluster({ durable: true });
const results: { accepted: number; ordered: number }[] = [];
try {
  for (let index = 0; index < rounds; index++) {
    const database = new URL(cluster.url);
    const admin = (await import("postgres")).default(cluster.url, { max: 1, onnotice: () => {} });
    await admin.unsafe(`create database round${index}`);
    await admin.end();
    database.pathname = `/round${index}`;
    const result = await round(database.href);
    results.push(result);
    console.log(`round ${index + 1}: accepted ${result.accepted.toFixed(0)}/s, ordered ${result.ordered.toFixed(0)} jobs/s`);
  }
} finally {
  await cluster.drop();
}
console.log(`median of ${rounds}: accepted ${median(results.map((one) => one.accepted)).toFixed(0)}/s, ordered ${median(results.map((one) => one.ordered)).toFixed(0)} jobs/s; ${chats} chats × ${jobsPerChat}, ${slots} slots, Node ${process.version}, ${cpus().length} cores`);
