/**
 * What the cluster's cap costs: the same ordered work on two nodes, in pairs of rounds without and with a cap. Unless one is
 * given, it is as many as there are slots, which cannot bind; one less is the least that can, so that its bookkeeping is what differs.
 * Rounds of a pair follow one another, and the ratio is told, since other work on the machine slows both.
 * `npx tsx bench/cluster-cap.ts [pairs] [slots of each node] [cap] [jobs' milliseconds]`.
 */
import postgres from "postgres";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueue } from "../src/index.js";
import { postgresCluster } from "../test/support/postgres-cluster.js";

const pairs = Number(process.argv[2] ?? 7);
const slots = Number(process.argv[3] ?? 25);
const cap = Number(process.argv[4] ?? 2 * slots);
const workMs = Number(process.argv[5] ?? 0);
const chats = 200;
const total = 4000;

async function round(databaseUrl: string, clusterConcurrency: number | undefined): Promise<number> {
  let left = total;
  let finished!: () => void;
  const done = new Promise<void>((resolve) => (finished = resolve));
  const nodes = await Promise.all(
    [1, 2].map(() =>
      createBuildQueue({
        databaseUrl, concurrency: slots, clusterConcurrency, maxPending: 10 * total, maxPendingPerChat: total, run: () => (workMs === 0 ? "ok" : new Promise((resolve) => setTimeout(resolve, workMs, "ok"))),
        onReport: (report) => void (report.type === "attempt.ended" && --left === 0 && finished()),
      }),
    ),
  );
  const [first] = nodes as [BuildQueue, BuildQueue];
  await first.pause();
  await Promise.all(Array.from({ length: total }, (_, index) => first.enqueue({ chatId: `chat${index % chats}`, messageId: "m", code: "1" })));
  const from = performance.now();
  await first.resume();
  await done;
  const rate = total / ((performance.now() - from) / 1000);
  await Promise.all(nodes.map((node) => node.stop()));
  return rate;
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const cluster = await postgresCluster({ durable: true });
const admin = postgres(cluster.url, { max: 1, onnotice: () => {} });
let made = 0;
async function fresh(): Promise<string> {
  const name = `round${made++}`;
  await admin.unsafe(`create database ${name}`);
  return Object.assign(new URL(cluster.url), { pathname: `/${name}` }).href;
}
const ratios: number[] = [];
try {
  for (let pair = 0; pair < pairs; pair++) {
    // Turn about which one is first: the second finds warm caches.
    const capFirst = pair % 2 === 1;
    const one = await round(await fresh(), capFirst ? cap : undefined);
    const two = await round(await fresh(), capFirst ? undefined : cap);
    const [without, capped] = capFirst ? [two, one] : [one, two];
    ratios.push(capped / without);
    console.log(`pair ${pair + 1}: ${without.toFixed(0)} jobs/s without, ${capped.toFixed(0)} with the cap: ${(100 * (capped / without)).toFixed(1)} %`);
  }
} finally {
  await admin.end();
  await cluster.drop();
}
console.log(`median of ${pairs} pairs: ${(100 * median(ratios)).toFixed(1)} % of the throughput without a cap; 2 nodes × ${slots} slots`);
