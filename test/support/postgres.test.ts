import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, mkdir, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { expect, test } from "vitest";
import { restoreLinks } from "./postgres-binaries.js";
import { isAlive, reapOrphans } from "./postgres-cluster.js";
import { describePostgres, freshDatabase, postgresCluster } from "./postgres.js";
import type { PostgresClusterOptions } from "./postgres.js";

const connect = (url: string) => postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 5 });

describePostgres("the shared cluster", () => {
  test("gives every caller an empty database of its own", async () => {
    await using one = await freshDatabase();
    await using other = await freshDatabase();
    const sql = connect(one.url);
    await sql`create table only_here (n int)`;
    const there = connect(other.url);
    expect(await there`select to_regclass('only_here') as found`).toMatchObject([{ found: null }]);
    await Promise.all([sql.end(), there.end()]);
  });

  test("drops a database that still has connections", async () => {
    const database = await freshDatabase();
    const sql = connect(database.url);
    await sql`select 1`;
    await database.drop();
    await database.drop();
    await sql.end({ timeout: 1 });
  });
});

describePostgres("a cluster of a test's own", () => {
  test.each(["stop", "kill"] as const)("keeps what was committed when a crash (%s) ends it, and leaves no process", async (how) => {
    const cluster = await postgresCluster({ durable: true });
    const first = connect(cluster.url);
    await first`create table kept as select 1 as n`;
    expect(await first`show fsync`).toMatchObject([{ fsync: "on" }]);
    await first.end();
    const pid = await cluster.pid();
    await (how === "stop" ? cluster.stop("immediate") : cluster.kill());
    expect(await cluster.pid()).toBeUndefined();
    await cluster.start();
    const again = connect(cluster.url);
    expect(await again`select n from kept`).toMatchObject([{ n: 1 }]);
    await again.end();
    await cluster.drop();
    await cluster.drop();
    expect(isAlive(pid ?? 0)).toBe(false);
  });

  test("ends with the process that made it, even if that one is killed", async () => {
    const { pid } = await killMaker({});
    while (isAlive(pid)) await delay(20);
  });

  test("is reaped by the next run when its watchdog died too", async () => {
    const { pid, home } = await killMaker({ watchdog: false });
    expect(isAlive(pid)).toBe(true);
    await reapOrphans();
    expect(isAlive(pid)).toBe(false);
    expect(existsSync(home)).toBe(false);
  });
});

/** Kills a process that made a cluster; returns the server's pid and folder. */
async function killMaker(options: PostgresClusterOptions): Promise<{ pid: number; home: string }> {
  const script = `import { postgresCluster } from "./test/support/postgres-cluster.ts";
    const cluster = await postgresCluster(${JSON.stringify(options)});
    console.log(await cluster.pid());
    setInterval(() => {}, 1000);`;
  const maker = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(maker.stdout, "data")) as [Buffer];
  const pid = Number(String(line));
  await reapOrphans();
  expect(isAlive(pid)).toBe(true);
  const home = path.dirname(await readlink(`/proc/${pid}/cwd`));
  maker.kill("SIGKILL");
  await once(maker, "exit");
  return { pid, home };
}

test("the links that the package's install script makes are restored without it", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "buildlane-links-"));
  const native = path.join(folder, "native");
  await mkdir(path.join(native, "lib"), { recursive: true });
  await writeFile(path.join(native, "lib", "libx.so.6.18"), "");
  await writeFile(path.join(native, "pg-symlinks.json"), JSON.stringify([{ source: "native/lib/libx.so.6.18", target: "native/lib/libx.so.6" }]));
  await restoreLinks(native);
  await restoreLinks(native);
  expect(await readlink(path.join(native, "lib", "libx.so.6"))).toBe("libx.so.6.18");
  expect(existsSync(path.join(native, "lib", "libx.so.6"))).toBe(true);
  await rm(folder, { recursive: true });
});
