import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import { systemClock } from "../../src/clock.js";
import { SettingsError } from "../../src/errors.js";
import { embeddedMajor } from "../../src/store/embedded-folder.js";
import { openEmbedded, openInMemory } from "../../src/store/embedded.js";
import { readMigrations } from "../../src/store/sql/migrate.js";
import { quickWasm } from "../support/quick-wasm.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const options = { clock: systemClock };

// What is killed runs from dist/: it starts in a quarter of the time that the sources need through a loader.
beforeAll(() => buildService(), 120_000);

test("a database in memory works and is of the major version that names the folder", async () => {
  const memory = await openInMemory(options);
  const { rows } = await memory.client.query<{ major: number }>("select current_setting('server_version_num')::int / 10000 as major");
  expect(rows).toEqual([{ major: embeddedMajor }]);
  // Its first contents hold the tables: a first start applies nothing.
  const { rows: applied } = await memory.client.query("select name, hash from buildlane_migrations order by number");
  expect(applied).toEqual(readMigrations().map(({ name, hash }) => ({ name, hash })));
  await memory.close();
  await memory.close();
});

test("the first start makes the database and later ones find what was written", async () => {
  await using folder = await tempFolder();
  const home = path.join(folder.path, "deep", "er");
  const first = await openEmbedded(home, options);
  expect(first.fresh).toBe(true);
  // Alone: what lies beside it would be written at each first start, and never be vacuumed. And only its owner reads it.
  expect((await first.client.query("select datname from pg_database")).rows).toEqual([{ datname: "postgres" }]);
  expect((await stat(path.join(home, `pg${embeddedMajor}`))).mode & 0o077).toBe(0);
  await first.client.exec("create table kept (n int); insert into kept values (1)");
  await expect(openEmbedded(home, options)).rejects.toThrow(SettingsError);
  await first.close();
  await first.close();
  expect(await readdir(home)).toEqual([`pg${embeddedMajor}`]);
  const again = await openEmbedded(home, options);
  expect(again.fresh).toBe(false);
  expect((await again.client.query("select n from kept")).rows).toEqual([{ n: 1 }]);
  await again.close();
});

test("a database of another major version is refused, saying which and what to do", async () => {
  await using folder = await tempFolder();
  await mkdir(path.join(folder.path, "pg17"));
  await expect(openEmbedded(folder.path, options)).rejects.toThrow(/another PostgreSQL \(pg17\).* uses pg18\. Move it away or set BUILDLANE_DATA_DIR/);
  await mkdir(path.join(folder.path, "pg18"));
  await writeFile(path.join(folder.path, "pg18", "PG_VERSION"), "16\n");
  await expect(openEmbedded(folder.path, options)).rejects.toThrow(/holds a database of PostgreSQL 16, and this Buildlane needs 18/);
});

test("a folder that holds something else is left alone", async () => {
  await using folder = await tempFolder();
  await mkdir(path.join(folder.path, "pg18"));
  await writeFile(path.join(folder.path, "pg18", "thesis.txt"), "unpublished");
  await expect(openEmbedded(folder.path, options)).rejects.toThrow("holds files but no database");
  expect(await readFile(path.join(folder.path, "pg18", "thesis.txt"), "utf8")).toBe("unpublished");
});

test("upkeep bounds the WAL and clears dead rows", async () => {
  await using folder = await tempFolder();
  const { client, upkeep, close } = await openEmbedded(folder.path, options);
  await client.exec("create table busy (id int primary key, v text); insert into busy select g, repeat('x', 500) from generate_series(1, 20000) g");
  for (let round = 0; round < 12; round += 1) {
    await client.exec("update busy set v = v || 'y'");
    await upkeep.round();
  }
  const wal = (await readdir(path.join(folder.path, "pg18", "pg_wal"))).filter((name) => /^[0-9A-F]{24}$/.test(name));
  expect(wal.length * 16).toBeLessThanOrEqual(128);
  const { rows } = await client.query<{ dead: number; mb: number }>("select n_dead_tup::int as dead, (pg_table_size('busy') / 1048576)::int as mb from pg_stat_user_tables where relname = 'busy'");
  expect(rows[0]?.dead).toBeLessThan(5000);
  expect(rows[0]?.mb).toBeLessThan(60);
  await close();
});

/** A process of its own that opens `folder`, says `open <rows>`, then writes rows and says `<n>` after each. */
const writer = (folder: string) => {
  const script = `import { openEmbedded } from "./dist/src/store/embedded.js"; import { systemClock } from "./dist/src/clock.js";
    const { client } = await openEmbedded(${JSON.stringify(folder)}, { clock: systemClock });
    await client.exec("create table if not exists written (n serial primary key, v text)");
    console.log("open " + (await client.query("select count(*)::int as n from written")).rows[0].n);
    for (;;) console.log((await client.query("insert into written (v) values (repeat(md5(random()::text), 20)) returning n")).rows[0].n);`;
  return spawn(process.execPath, [...quickWasm, "--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
};

test("kill -9 at any moment of the first start leaves a folder that starts", { timeout: 120_000 }, async () => {
  await using folder = await tempFolder();
  // The load lasts from the moment at which the marker appears; the kills sweep over it.
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const home = path.join(folder.path, String(attempt));
    const child = writer(home);
    const exit = once(child, "exit");
    for (;;) {
      const entries = await readdir(home).catch(() => [] as string[]);
      if (entries.includes("pg18.unfinished")) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await new Promise((resolve) => setTimeout(resolve, attempt * 210));
    child.kill("SIGKILL");
    await exit;
    const opened = await openEmbedded(home, options);
    expect((await opened.client.query("select count(*)::int as n from pg_class where relname = 'pg_class'")).rows).toEqual([{ n: 1 }]);
    await opened.client.exec("create table afterwards (n int)");
    await opened.close();
  }
});

test("kill -9 during writes loses nothing that was confirmed", { timeout: 120_000 }, async () => {
  await using folder = await tempFolder();
  let confirmed = 0;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const child = writer(folder.path);
    const exit = once(child, "exit");
    let text = "";
    let counted = 0;
    child.stdout.on("data", (data: Buffer) => {
      text += String(data);
      counted += 1;
      if (counted === 20 + attempt * 7) child.kill("SIGKILL");
    });
    await exit;
    const lines = text.split("\n").slice(0, -1);
    expect(Number(lines[0]?.slice("open ".length))).toBeGreaterThanOrEqual(confirmed);
    confirmed += lines.length - 1;
  }
  const { client, close } = await openEmbedded(folder.path, options);
  const { rows } = await client.query<{ n: number }>("select count(*)::int as n from written");
  expect(rows[0]?.n).toBeGreaterThanOrEqual(confirmed);
  expect(confirmed).toBeGreaterThan(50);
  await close();
});
