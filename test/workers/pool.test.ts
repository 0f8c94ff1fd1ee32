import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { systemClock } from "../../src/clock.js";
import { tempFolder } from "../support/temp.js";
import { built, busyFor, busyWorker, endlessCode, failed, groupOf, memoryBomb, startPool } from "./support.js";

const small = "export const n: number = 1";
const died = (events: { type: string }[]) => events.filter((event) => event.type === "worker.died");

test("many small builds share three slots, never more than three at once", async () => {
  await using shared = await startPool({ slots: 3 });
  const { pool, build } = shared;
  let most = 0;
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, async (_, at) => {
      const outcome = built(await build(`export const n = ${at}`));
      most = Math.max(most, pool.stats().busy);
      return outcome.result.includes(`n = ${at};`);
    }),
  );
  expect(outcomes.every(Boolean)).toBe(true);
  expect(most).toBeLessThanOrEqual(3);
  expect(pool.stats()).toMatchObject({ busy: 0, waiting: 0, jobs: 60 });
});

test("attempts get their worker in the order in which they came", async () => {
  await using shared = await startPool();
  const order: number[] = [];
  await Promise.all(Array.from({ length: 8 }, (_, at) => shared.build(small).then(() => order.push(at))));
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test("an abort kills an endless build at once, and the slot serves again", async () => {
  await using shared = await startPool();
  const { pool, build } = shared;
  await spareReady(shared);
  const controller = new AbortController();
  const run = build(endlessCode, {}, controller.signal);
  run.catch(() => {});
  await busyFor(busyWorker(pool));
  const worker = busyWorker(pool);
  const reason = new Error("too long");
  const abortedMs = systemClock.monotonic();
  controller.abort(reason);
  await expect(run).rejects.toBe(reason);
  // Not after some time of grace; how many milliseconds a kill takes is told in docs/building.md, and depends on the machine.
  expect(systemClock.monotonic() - abortedMs).toBeLessThan(1000);
  expect(groupOf(worker)).toEqual([]);
  expect(built(await build(small)).result).toContain("n = 1");
  expect(died(shared.events)).toMatchObject([{ pid: worker, reason: "aborted" }]);
});

test("an attempt that is aborted while it waits leaves the line and harms nobody", async () => {
  await using shared = await startPool();
  const controller = new AbortController();
  const first = shared.build(small);
  const second = shared.build(small, {}, controller.signal);
  const third = shared.build(small);
  controller.abort(new Error("not wanted any more"));
  await expect(second).rejects.toThrow("not wanted any more");
  await expect(shared.build(small, {}, controller.signal)).rejects.toThrow("not wanted any more");
  built(await first);
  built(await third);
  expect(died(shared.events)).toEqual([]);
});

test("a worker that is killed in the middle of a build is a crash of that build only", async () => {
  await using shared = await startPool();
  const { pool, build } = shared;
  await spareReady(shared);
  const run = build(endlessCode);
  await busyFor(busyWorker(pool));
  const worker = busyWorker(pool);
  process.kill(worker, "SIGKILL");
  expect(failed(await run).failure).toMatchObject({ code: "worker_crashed", retryable: true });
  expect(groupOf(worker)).toEqual([]);
  built(await build(small));
});

test("the death of an idle worker is noticed, and nobody's build meets it", async () => {
  await using shared = await startPool();
  const { pool, build } = shared;
  await spareReady(shared);
  const idle = pool.stats().workers.map((one) => one.pid!);
  process.kill(idle[0]!, "SIGKILL");
  await vi.waitFor(() => expect(died(shared.events)).toMatchObject([{ pid: idle[0], reason: "crashed" }]));
  built(await build(small));
});

test("a build that wants all memory fails alone, within its bound", async () => {
  await using shared = await startPool({ memoryMb: 256 });
  const { failure, error } = failed(await shared.build(memoryBomb));
  expect(failure).toMatchObject({ code: "out_of_memory", retryable: true, diagnostics: [] });
  expect(error).toContain("256 MiB");
  built(await shared.build(small));
});

test("an output over the limit is not handed on", async () => {
  await using shared = await startPool({ outputBytesMax: 10_000 });
  const { failure } = failed(await shared.build(`export default "${"x".repeat(10_001)}"`));
  expect(failure).toMatchObject({ code: "output_too_large", retryable: false });
  const mapped = await shared.build(`export default "${"x".repeat(6_000)}"`, { sourcemap: true });
  expect(failed(mapped).failure.code).toBe("output_too_large");
});

test("a worker is replaced after so many jobs, without anybody waiting for it", async () => {
  await using shared = await startPool({ recycleAfterJobs: 5 });
  // Two workers at a time, five jobs each: after twenty jobs two or more are used up, however they were shared out.
  for (let at = 0; at < 20; at++) built(await shared.build(small));
  await vi.waitFor(() => expect(shared.pool.stats().recycled).toBeGreaterThanOrEqual(2));
});

test("stop ends what runs and what waits, twice is fine, and before start too", async () => {
  await using shared = await startPool();
  const running = shared.build(endlessCode);
  const waiting = shared.build(small);
  const ended = Promise.allSettled([running, waiting]);
  await Promise.all([shared.pool.stop(), shared.pool.stop()]);
  expect((await ended).map((one) => one.status)).toEqual(["rejected", "rejected"]);
  await expect(shared.build(small)).rejects.toThrow("not running");
  await using fresh = await startPool({ start: false });
  await fresh.pool.stop();
  await expect(fresh.pool.start()).rejects.toThrow("not running");
});

test("workers whose pool was killed end themselves and leave no file", async () => {
  await using folder = await tempFolder();
  const script = fileURLToPath(new URL("lonely-parent.ts", import.meta.url));
  const parent = spawn(process.execPath, ["--import", "tsx", script], { env: { ...process.env, TMPDIR: folder.path }, stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const workers = JSON.parse(line.toString()) as number[];
  expect(workers.flatMap(groupOf)).toHaveLength(2);
  parent.kill("SIGKILL");
  await vi.waitFor(() => expect(workers.flatMap(groupOf)).toEqual([]), { timeout: 5_000, interval: 5 });
  expect(readdirSync(folder.path).filter((name) => name.startsWith("buildlane-"))).toEqual([]);
});

const spareReady = ({ pool }: { pool: { stats(): { idle: number } } }) => vi.waitFor(() => expect(pool.stats().idle).toBe(2), { timeout: 10_000, interval: 5 });
