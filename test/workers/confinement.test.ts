import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { systemClock } from "../../src/clock.js";
import { confine } from "../../src/workers/confinement.js";
import { built, engineOf, failed, startPool } from "./support.js";

const options = { memoryMb: 512, outputBytesMax: 8 * 2 ** 20, id: () => systemClock.id() };

test("a worker that could read a file refuses to serve, and so does its pool", async () => {
  await using shared = await startPool({ openFilesMax: 64, start: false });
  await expect(shared.pool.start()).rejects.toThrow("Build workers cannot be confined on this machine");
  await expect(shared.build("1")).rejects.toThrow("No build is run.");
  expect(shared.events).toMatchObject([{ type: "worker.died", reason: "canary_read", retryInMs: null }]);
});

test("a worker stands in an empty folder, with nothing in its environment to tell", async () => {
  await using shared = await startPool();
  const worker = shared.pool.stats().workers[0]!.pid!;
  for (const pid of [worker, engineOf(worker)]) {
    expect(readdirSync(`/proc/${pid}/cwd`)).toEqual([]);
    const names = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").map((one) => one.split("=")[0]).filter(Boolean);
    const allowed = ["ESBUILD_BINARY_PATH", "GOMAXPROCS", "NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "PWD", "OLDPWD", "_", "SHLVL"];
    expect(names.filter((name) => !allowed.includes(name!))).toEqual([]);
  }
});

test("esbuild's process has its memory, open files and core dumps limited", async () => {
  await using shared = await startPool({ memoryMb: 300 });
  const limits = readFileSync(`/proc/${engineOf(shared.pool.stats().workers[0]!.pid!)}/limits`, "utf8");
  expect(limits).toMatch(/Max open files\s+5\s+5/);
  expect(limits).toMatch(new RegExp(`Max data size\\s+${300 * 1024 * 1024}\\s+${300 * 1024 * 1024}`));
  expect(limits).toMatch(/Max core file size\s+0\s+0/);
});

test("a machine without such limits says so and builds all the same, behind the gate alone", async () => {
  const { platform } = process;
  Object.defineProperty(process, "platform", { value: "darwin" });
  const starting = startPool();
  await using shared = await starting.finally(() => Object.defineProperty(process, "platform", { value: platform }));
  expect(shared.events[0]).toEqual({ type: "worker.unconfined", missing: ["open files", "memory", "core dumps"] });
  const outcome = built(await shared.build("export const a: number = 1\n//# sourceMappingURL=file:///etc/passwd", { sourcemap: true }));
  expect(JSON.parse(outcome.sourceMap!).sources).toEqual(["message.tsx"]);
  expect(failed(await shared.build("import('/etc/passwd')")).failure.code).toBe("import_refused");
});

test("the walls are removed with the pool", async () => {
  const walls = confine(options);
  expect(walls.missing).toEqual([]);
  expect(spawnSync(walls.wrapper!, ["--version"], { env: {}, encoding: "utf8" }).stdout).toMatch(/^0\.\d+\.\d+\n$/);
  await walls.remove();
  expect(existsSync(walls.folder)).toBe(false);
});
