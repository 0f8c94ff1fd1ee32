import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { availableParallelism } from "node:os";
import { expect, test } from "vitest";
import { built, failed, startPool } from "./support.js";

test("a worker that could read a file refuses to serve, and so does its pool", async () => {
  await using shared = await startPool({ openings: { openFilesMax: 64 }, start: false });
  await expect(shared.pool.start()).rejects.toThrow("Build workers cannot be confined on this machine");
  await expect(shared.build("1")).rejects.toThrow("No build is run.");
  expect(shared.events).toMatchObject([{ type: "worker.died", reason: "canary_read", retryInMs: null }]);
});

test("a worker stands in an empty folder that is no more, with nothing in its environment to tell", async () => {
  await using shared = await startPool();
  const pid = shared.pool.stats().workers[0]!.pid!;
  expect(readlinkSync(`/proc/${pid}/cwd`)).toMatch(/ \(deleted\)$/);
  expect(readdirSync(`/proc/${pid}/cwd`)).toEqual([]);
  const names = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").map((one) => one.split("=")[0]).filter(Boolean);
  expect(names.filter((name) => !["GOMAXPROCS", "GOGC", "GOMEMLIMIT", "PWD", "OLDPWD", "_", "SHLVL"].includes(name!))).toEqual([]);
});

test("a worker has a second thread only where a processor may be free for it", async () => {
  const threadsWith = async (slots: number) => {
    await using shared = await startPool({ slots });
    return /GOMAXPROCS=(\d+)/.exec(readFileSync(`/proc/${shared.pool.stats().workers[0]!.pid!}/environ`, "utf8"))?.[1];
  };
  expect([await threadsWith(1), await threadsWith(2 * availableParallelism())]).toEqual(["2", "1"]);
});

test("a worker has its memory, open files and core dumps limited, and a process group of its own", async () => {
  await using shared = await startPool({ memoryMb: 300 });
  const pid = shared.pool.stats().workers[0]!.pid!;
  const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
  expect(limits).toMatch(/Max open files\s+5\s+5/);
  expect(limits).toMatch(new RegExp(`Max data size\\s+${300 * 1024 * 1024}\\s+${300 * 1024 * 1024}`));
  expect(limits).toMatch(/Max core file size\s+0\s+0/);
  expect(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ")[2]).toBe(String(pid));
});

const openings = { limits: false };

test("a machine without such limits builds nothing, and says what to do", async () => {
  await using shared = await startPool({ openings, start: false });
  await expect(shared.pool.start()).rejects.toThrow(/cannot limit the open files, memory, core dumps .* BUILDLANE_ALLOW_UNCONFINED=true/);
  await expect(shared.build("1")).rejects.toThrow("not running");
});

test("where that is allowed, it builds behind the gate alone, which must have proved itself", async () => {
  await using shared = await startPool({ openings, allowUnconfined: true });
  expect(shared.events[0]).toEqual({ type: "worker.unconfined", missing: ["open files", "memory", "core dumps"] });
  const outcome = built(await shared.build("export const a: number = 1\n//# sourceMappingURL=file:///etc/passwd", { sourcemap: true }));
  expect(JSON.parse(outcome.sourceMap!).sources).toEqual(["message.tsx"]);
  expect(failed(await shared.build("import('/etc/passwd')")).failure.code).toBe("import_refused");
  await using broken = await startPool({ openings, allowUnconfined: true, down: ["disarm"], start: false });
  await expect(broken.pool.start()).rejects.toThrow("one could read a file outside of its build");
});
