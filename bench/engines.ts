/**
 * What confinement costs, and why a worker is esbuild's own service driven directly: latency, throughput, memory and
 * the price of a kill, for plain esbuild in this process, for a Node process around esbuild, and for Buildlane's worker.
 *
 *     npx tsx bench/engines.ts            about a minute; interleaved, medians
 */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { systemClock } from "../src/clock.js";
import type { RunnableJob } from "../src/job.js";
import { createWorkerPool } from "../src/workers/pool.js";
import { buildOnce } from "./engines/node-child.js";

const slots = 3;
const small = `import { useState } from "react";\n${Array.from({ length: 20 }, (_, at) => `export const C${at} = (p: { n: number }) => <b key={p.n}>{p.n + ${at}}</b>;`).join("\n")}`;
const codes = { small, medium: Array.from({ length: 50 }, (_, at) => small.replaceAll("C", `M${at}_`).replace(/^import.*\n/, "")).join("\n"), large: "" };
codes.large = Array.from({ length: 18 }, (_, at) => codes.medium.replaceAll("M", `L${at}_`)).join("\n");

type Way = { name: string; build(code: string): Promise<string> };

const pool = createWorkerPool({ slots, memoryMb: 512, outputBytesMax: 32 * 2 ** 20, clock: systemClock, recycleAfterJobs: 1e9 });
await pool.start();
let serial = 0;
const jobOf = (code: string): RunnableJob => ({ id: `j${++serial}`, chatId: "c", messageId: "m", chatSeq: serial, attempt: 1, options: {}, code });
const never = new AbortController().signal;
const worker: Way = {
  name: "Buildlane's worker",
  async build(code) {
    const outcome = await pool.run(jobOf(code), { signal: never, attempt: 1 });
    if (outcome.kind !== "built") throw new Error(outcome.error);
    return outcome.result;
  },
};

const children: ChildProcess[] = [];
const free: ChildProcess[] = [];
const waiting: ((child: ChildProcess) => void)[] = [];
const child = new URL("engines/node-child.ts", import.meta.url);
const startChild = async () => {
  const made = fork(child, { execArgv: ["--import", "tsx"], serialization: "advanced", env: { GOMAXPROCS: "1" } });
  children.push(made);
  await onceBuilt(made, small);
  return made;
};
async function onceBuilt(made: ChildProcess, code: string): Promise<string> {
  const id = ++serial;
  made.send({ id, code });
  const [said] = (await once(made, "message")) as [{ id: number; result: string }];
  if (said.id !== id) throw new Error("out of step");
  return said.result;
}
const nodeChild: Way = {
  name: "a Node process each",
  async build(code) {
    const made = free.pop() ?? (await new Promise<ChildProcess>((resolve) => waiting.push(resolve)));
    const result = await onceBuilt(made, code);
    const next = waiting.shift();
    if (next) next(made);
    else free.push(made);
    return result;
  },
};
const inProcess: Way = { name: "esbuild in this process", build: buildOnce };
const ways = [inProcess, nodeChild, worker];

const startsMs: number[] = [];
for (let at = 0; at < slots; at++) {
  const from = performance.now();
  free.push(await startChild());
  startsMs.push(performance.now() - from);
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const say = (line: string) => process.stdout.write(`${line}\n`);

say(`${slots} slots, ${cpus().length} processors (${cpus()[0]?.model ?? "unknown"}), Node ${process.version}`);
say("\nOne after another, median ms (interleaved)\n");
for (const [name, code] of Object.entries(codes)) {
  const times = new Map(ways.map((way) => [way, [] as number[]]));
  const rounds = { small: 300, medium: 60, large: 12 }[name] ?? 10;
  for (const way of ways) for (let at = 0; at < 5; at++) await way.build(code);
  for (let round = 0; round < rounds; round++) {
    for (const way of ways) {
      const from = performance.now();
      await way.build(code);
      times.get(way)?.push(performance.now() - from);
    }
  }
  const base = median(times.get(inProcess) ?? []);
  say(`${name.padEnd(7)} ${String(code.length).padStart(7)} chars  ${ways.map((way) => `${way.name} ${median(times.get(way) ?? []).toFixed(2)} (×${(median(times.get(way) ?? []) / base).toFixed(2)})`).join("   ")}`);
}

say("\nBuilds a second with as many at once as there are slots\n");
for (const [name, code, total] of [["small", codes.small, 1500], ["medium", codes.medium, 150]] as const) {
  const rates: string[] = [];
  for (const way of ways) {
    const best: number[] = [];
    for (let round = 0; round < 3; round++) {
      let left: number = total;
      const from = performance.now();
      await Promise.all(Array.from({ length: slots }, async () => {
        while (left-- > 0) await way.build(code);
      }));
      best.push(total / ((performance.now() - from) / 1000));
    }
    rates.push(`${way.name} ${median(best).toFixed(0)}`);
  }
  say(`${name.padEnd(7)} ${rates.join("   ")}`);
}

const pssMb = (pid: number): number => {
  const found = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(found?.[1] ?? 0) / 1024;
};
const childrenOf = (pid: number): number[] => readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
say("\nMemory of a slot after that (PSS, MB)");
say(`a Node process each ${children.map((one) => (pssMb(one.pid!) + childrenOf(one.pid!).reduce((sum, pid) => sum + pssMb(pid), 0)).toFixed(0)).join(" ")}`);
say(`Buildlane's worker ${pool.stats().workers.map((one) => pssMb(one.pid!).toFixed(0)).join(" ")}`);

say("\nA kill in the middle of an endless build, until the slot has built the next one (ms; the spare takes over)");
const endless = `${"a?(b):c=>".repeat(44)}d`;
const costs: number[] = [];
for (let round = 0; round < 15; round++) {
  const controllers = Array.from({ length: slots }, () => new AbortController());
  const stuck = controllers.map(({ signal }) => pool.run(jobOf(endless), { signal, attempt: 1 }).catch(() => {}));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const next = worker.build(small);
  const from = performance.now();
  controllers[0]?.abort(new Error("timed out"));
  await next;
  costs.push(performance.now() - from);
  controllers.forEach((one) => one.abort(new Error("over")));
  await Promise.all(stuck);
  while (pool.stats().idle < slots + 1) await new Promise((resolve) => setTimeout(resolve, 2));
}
say(`median ${median(costs).toFixed(1)}, worst ${Math.max(...costs).toFixed(1)}`);
say(`\nStart of a fresh one until it has built once (ms)\na Node process each ${startsMs.map((one) => one.toFixed(0)).join(" ")}`);
const fresh: number[] = [];
for (let round = 0; round < 9; round++) {
  const one = createWorkerPool({ slots: 1, memoryMb: 512, outputBytesMax: 2 ** 20, clock: systemClock });
  const from = performance.now();
  await one.start();
  await one.run(jobOf(small), { signal: never, attempt: 1 });
  fresh.push(performance.now() - from);
  await one.stop();
}
say(`Buildlane's worker ${fresh.map((one) => one.toFixed(0)).join(" ")} (self-test included)`);

children.forEach((one) => one.kill("SIGKILL"));
await pool.stop();
process.exit(0);
