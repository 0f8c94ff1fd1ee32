import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import { SettingsError } from "../../src/errors.js";
import { lockFolder } from "../../src/store/embedded-lock.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

// The other processes run from dist/: they start in a quarter of the time that the sources need through a loader.
beforeAll(() => buildService(), 120_000);

/** Processes that take the lock of `folder`, say `held` or `refused`, and then stay (`busy`: without an event loop). */
function contender(folder: string, busy = false): { process: ChildProcess; said: Promise<string> } {
  const script = `import { lockFolder } from "./dist/src/store/embedded-lock.js";
    await lockFolder(${JSON.stringify(folder)}).then(() => console.log("held"), (error) => console.log("refused " + error.message));
    if (${busy}) setTimeout(() => { for (;;); }, 50); else setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  return { process: child, said: once(child.stdout, "data").then(([data]) => String(data).trim()) };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

test("a folder is locked once, and again after its release", async () => {
  await using folder = await tempFolder();
  const lock = await lockFolder(folder.path);
  await expect(lockFolder(folder.path)).rejects.toThrow(SettingsError);
  await expect(lockFolder(folder.path)).rejects.toThrow(`The folder ${folder.path} is in use by another queue of this process. Stop that one, give this one another dataDir (BUILDLANE_DATA_DIR)`);
  await lock.release();
  await lock.release();
  await (await lockFolder(folder.path)).release();
  expect(await readdir(folder.path)).toEqual([]);
});

test("a folder whose path is too long for a socket is locked all the same", async () => {
  await using folder = await tempFolder();
  const long = path.join(folder.path, "a".repeat(120), "b".repeat(120));
  await mkdir(long, { recursive: true });
  const lock = await lockFolder(long);
  await expect(lockFolder(long)).rejects.toThrow("is in use by another queue of this process");
  await lock.release();
  await (await lockFolder(long)).release();
});

test("a killed holder's lock is free at once, and what it left is cleared", async () => {
  await using folder = await tempFolder();
  const holder = contender(folder.path);
  expect(await holder.said).toBe("held");
  await expect(lockFolder(folder.path)).rejects.toThrow(`(process ${holder.process.pid})`);
  await kill(holder.process);
  const lock = await lockFolder(folder.path);
  expect(await readdir(folder.path)).toHaveLength(1);
  await lock.release();
});

test("a holder that is too busy to answer still holds", async () => {
  await using folder = await tempFolder();
  const holder = contender(folder.path, true);
  expect(await holder.said).toBe("held");
  await new Promise((resolve) => setTimeout(resolve, 200));
  await expect(lockFolder(folder.path)).rejects.toThrow("is in use by another process");
  await kill(holder.process);
});

test("of many that start at once over a dead one's lock exactly one gets it", async () => {
  await using folder = await tempFolder();
  const dead = contender(folder.path);
  await dead.said;
  await kill(dead.process);
  for (let round = 0; round < 20; round += 1) {
    const results = await Promise.allSettled(Array.from({ length: 6 }, () => lockFolder(folder.path)));
    const got = results.filter((one) => one.status === "fulfilled");
    expect(got).toHaveLength(1);
    await Promise.all(got.map((one) => one.value.release()));
  }
  const processes = Array.from({ length: 4 }, () => contender(folder.path));
  const said = await Promise.all(processes.map((one) => one.said));
  expect(said.filter((line) => line === "held")).toHaveLength(1);
  await Promise.all(processes.map((one) => kill(one.process)));
});
