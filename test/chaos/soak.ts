/**
 * npm run soak -- --minutes 20 --rate 20 --nodes 3
 * Service processes on one PostgreSQL at a steady rate. In the third quarter a transaction stays open and pins the xmin
 * horizon, so that vacuum may remove nothing. Prints a line every 15 s; ends with 1 when memory or dead rows grow.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import postgres from "postgres";
import { postgresCluster } from "../support/postgres-cluster.js";
import { buildService, startService } from "../support/service.js";
import { middle } from "./chaos.js";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "20" }, rate: { type: "string", default: "20" }, nodes: { type: "string", default: "3" } } });
const minutes = Number(values.minutes);
const rate = Number(values.rate);
const sampleMs = 15_000;
/** Memory of the last quarter may be above that of the second by so much: caches fill, and the collector is lazy. */
const growthMax = 1.15;

interface Sample {
  minute: number;
  pinned: boolean;
  rssMb: number[];
  dead: number;
  sizeMb: number;
  acceptP99Ms: number;
  waitP99Ms: number;
  unfinished: number;
}

const rssMb = async (pid: number): Promise<number> => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
const p99 = (numbers: number[]): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length * 0.99)] ?? 0;

buildService();
await using cluster = await postgresCluster({ durable: true, settings: { autovacuum_naptime: "5s" } });
const admin = postgres(cluster.url, { max: 2, onnotice: () => {} });
const env = { DATABASE_URL: cluster.url, LOG_LEVEL: "warn", BUILDLANE_RETENTION: "2m,2000", BUILDLANE_CLUSTER_CONCURRENCY: "8", BUILDLANE_MAX_PENDING_PER_CHAT: "100000" };
const services = await Promise.all(Array.from({ length: Number(values.nodes) }, () => startService(env)));
let code = 0;
try {
  let latencies: number[] = [];
  let submitting = true;
  let accepted = 0;
  let refused = 0;
  let open: (() => void) | null = null;
  const from = performance.now();
  const minute = () => (performance.now() - from) / 60_000;
  const submitter = (async () => {
    for (let count = 0; submitting; count++) {
      const due = from + (count * 1000) / rate;
      await sleep(Math.max(0, due - performance.now()));
      const sentAt = performance.now();
      void services[count % services.length]?.submit(`chat${count % 40}`, `m${count}`, `export const v: number = ${count};`).then(
        ({ status }) => (status === 202 ? (accepted++, latencies.push(performance.now() - sentAt)) : refused++),
        () => refused++,
      );
    }
  })();
  const samples: Sample[] = [];
  while (minute() < minutes) {
    await sleep(sampleMs);
    const pinned = minute() >= minutes / 2 && minute() < (minutes * 3) / 4;
    if (pinned && open === null) {
      const ended = new Promise<void>((resolve) => (open = resolve));
      void admin.begin("isolation level repeatable read", async (tx) => (await tx`select count(*) from build_jobs`, await ended));
    }
    if (!pinned && open !== null && minute() > minutes / 2) (open as () => void)();
    const [row] = (await admin`select
      (select sum(n_dead_tup)::int from pg_stat_user_tables) as dead, (select sum(pg_total_relation_size(relid))::float / 1048576 from pg_stat_user_tables) as mb,
      (select count(*)::int from build_jobs where status in ('pending', 'running')) as unfinished,
      (select coalesce(percentile_cont(0.99) within group (order by extract(epoch from started_at - created_at) * 1000), 0)::float from build_jobs where completed_at > clock_timestamp() - interval '15 seconds') as wait`) as unknown as [{ dead: number; mb: number; unfinished: number; wait: number }];
    const sample: Sample = { minute: minute(), pinned, rssMb: await Promise.all(services.map((service) => rssMb(service.child.pid ?? 0))), dead: row.dead, sizeMb: row.mb, acceptP99Ms: p99(latencies), waitP99Ms: row.wait, unfinished: row.unfinished };
    latencies = [];
    samples.push(sample);
    console.log(`${sample.minute.toFixed(1)} min${pinned ? " pinned" : ""}: rss ${sample.rssMb.map((mb) => mb.toFixed(0)).join(" ")} MB, ${sample.dead} dead rows, ${sample.sizeMb.toFixed(0)} MB in tables, accept p99 ${sample.acceptP99Ms.toFixed(0)} ms, wait p99 ${sample.waitP99Ms.toFixed(0)} ms, ${sample.unfinished} unfinished`);
  }
  submitting = false;
  await submitter;
  const quarter = (n: number) => samples.filter((sample) => sample.minute > (minutes * (n - 1)) / 4 && sample.minute <= (minutes * n) / 4 + 0.3);
  const rss = (n: number) => middle(quarter(n).map((sample) => Math.max(...sample.rssMb)));
  const dead = (n: number) => Math.max(...quarter(n).map((sample) => sample.dead));
  const growth = rss(4) / rss(2);
  console.log(`${accepted} accepted, ${refused} refused in ${minutes} min; memory of the largest node: ${rss(2).toFixed(0)} MB in the second quarter, ${rss(4).toFixed(0)} MB in the last; dead rows at most ${dead(2)} before, ${dead(3)} while pinned, ${samples.at(-1)?.dead} at the end`);
  if (growth > growthMax || (samples.at(-1)?.dead ?? 0) > dead(3) || refused > accepted / 1000) code = 1;
  console.log(code === 0 ? "flat" : "GROWS");
} finally {
  for (const service of services) service.kill("SIGKILL");
  await Promise.all(services.map((service) => service.exited));
  await admin.end({ timeout: 1 });
}
process.exitCode = code;
