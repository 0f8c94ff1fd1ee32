/**
 * Clusters of real PostgreSQL: one per test run (see global-setup.ts) and, for crash tests, one of a test's own.
 * `pg_ctl` starts and stops them, and the server is nobody's child. So that none outlives the process that made it, a
 * watchdog waits for that one's end, however it comes; and should the watchdog die as well, `reapOrphans` finds in the
 * cluster's folder who made it. No vitest in here: benches and scripts use it too.
 */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chown, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { findPostgres } from "./postgres-binaries.js";
import type { PostgresBinaries } from "./postgres-binaries.js";

export interface PostgresCluster {
  /** Of the database `postgres`; its user may do anything. The port stays the same over restarts. */
  readonly url: string;
  /** Of the postmaster, while it runs. */
  pid(): Promise<number | undefined>;
  start(): Promise<void>;
  /** `fast` disconnects everybody and checkpoints; `immediate` is a crash: recovery follows at the next start. */
  stop(how?: "fast" | "immediate"): Promise<void>;
  /** `kill -9` of the postmaster; resolves when all its processes are gone. */
  kill(): Promise<void>;
  restart(how?: "fast" | "immediate"): Promise<void>;
  /** What the server logged so far. */
  log(): Promise<string>;
  /** Stops it and deletes its folder. Twice is fine. */
  drop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface PostgresClusterOptions {
  /** Keeps PostgreSQL's durable defaults (fsync and so on), for tests of what survives. Default: false, fast. */
  durable?: boolean;
  /** More server settings, such as `{ max_connections: "20" }`. */
  settings?: Record<string, string>;
  /** False only to test `reapOrphans`. */
  watchdog?: boolean;
}

const run = promisify(execFile);
const folderPrefix = "buildlane-pg-";
const startTriesMax = 5;
/** Seconds that pg_ctl waits for a start (with recovery) or a stop. */
const waitSeconds = 60;

const fast = { fsync: "off", synchronous_commit: "off", full_page_writes: "off" };
const always = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  // Two cores: a test that waits for vacuum or a parallel plan would be slow, not better.
  shared_buffers: "64MB",
  max_parallel_workers_per_gather: "0",
  log_min_messages: "warning",
};

/** Makes, starts and returns a cluster. The caller drops it. Throws PostgresUnavailable where there is no PostgreSQL. */
export async function postgresCluster(options: PostgresClusterOptions = {}): Promise<PostgresCluster> {
  const binaries = await findPostgres();
  const home = await mkdtemp(path.join(tmpdir(), folderPrefix));
  let cluster: PostgresCluster | undefined;
  try {
    await writeFile(path.join(home, "maker.json"), JSON.stringify(await processMark(process.pid)));
    cluster = await createCluster(binaries, home, { ...always, ...(options.durable ? {} : fast), ...options.settings }, options.watchdog ?? true);
    await cluster.start();
    return cluster;
  } catch (error) {
    await cluster?.drop();
    await rm(home, { recursive: true, force: true });
    throw error;
  }
}

async function createCluster(binaries: PostgresBinaries, home: string, settings: Record<string, string>, watched: boolean): Promise<PostgresCluster> {
  const data = path.join(home, "data");
  const logFile = path.join(home, "log");
  const secretFile = path.join(home, "secret");
  const password = randomBytes(12).toString("hex");
  const { user } = binaries;
  await mkdir(data, { mode: 0o700 });
  await writeFile(secretFile, password, { mode: 0o600 });
  if (user) for (const item of [home, data, secretFile]) await chown(item, user.uid, user.gid);
  const as = { ...user, cwd: home, env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" } };
  // Text sorts as on most servers (en-US), not as in PGlite (by bytes), so that code which relies on either is found out.
  await run(binaries.initdb, ["-D", data, "-U", "postgres", "--pwfile", secretFile, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions"], as);
  let port = 0;
  let dropped = false;
  const unwatch = watched ? watch(["-c", 'read _; "$1" stop -D "$2" -m immediate -s; rm -rf "$3"', "sh", binaries.pgCtl, data, home], as) : () => {};
  const pgCtl = (...args: string[]) => run(binaries.pgCtl, [...args, "-D", data, "-s", "-w", "-t", String(waitSeconds)], as);

  const cluster: PostgresCluster = {
    get url() {
      return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
    },
    pid: () => postmasterPid(data),
    async start() {
      for (let tries = 1; ; tries += 1) {
        const wanted = port === 0 ? await freePort() : port;
        const flags = Object.entries({ ...settings, port: String(wanted) }).map(([name, value]) => `-c ${name}='${value}'`);
        try {
          await pgCtl("start", "-l", logFile, "-o", flags.join(" "));
          port = wanted;
          return;
        } catch (cause) {
          // Somebody else took the port, or a killed server's last processes still hold its shared memory.
          if (tries === startTriesMax) throw new Error(`PostgreSQL did not start:\n${await cluster.log()}`, { cause });
          await delay(100 * tries);
        }
      }
    },
    async stop(how = "fast") {
      const pid = await postmasterPid(data);
      if (pid === undefined) return;
      await pgCtl("stop", "-m", how);
      while (isAlive(pid)) await delay(10);
    },
    async kill() {
      const pid = await postmasterPid(data);
      if (pid === undefined) return;
      const backends = await childPids(pid);
      process.kill(pid, "SIGKILL");
      for (const one of [pid, ...backends]) while (isAlive(one)) await delay(10);
      // While nobody has collected the dead postmaster, its pid looks alive to the next one.
      await rm(path.join(data, "postmaster.pid"), { force: true });
    },
    async restart(how) {
      await cluster.stop(how);
      await cluster.start();
    },
    log: () => readFile(logFile, "utf8").catch(() => ""),
    async drop() {
      if (dropped) return;
      await cluster.stop("immediate");
      unwatch();
      await rm(home, { recursive: true, force: true });
      dropped = true;
    },
    [Symbol.asyncDispose]: () => cluster.drop(),
  };
  return cluster;
}

/** Runs a shell script that begins with `read`: its input ends when this process does, by `kill -9` too. */
function watch(args: string[], as: { cwd: string; env: NodeJS.ProcessEnv }): () => void {
  if (process.platform === "win32") return () => {};
  const shell = spawn("/bin/sh", args, { ...as, cwd: "/", detached: true, stdio: ["pipe", "ignore", "ignore"] });
  shell.on("error", () => {});
  shell.unref();
  (shell.stdin as unknown as Socket).unref();
  return () => void shell.kill("SIGKILL");
}

/** Ends clusters whose maker is dead (a test run that was killed) and deletes their folders. Returns how many. */
export async function reapOrphans(): Promise<number> {
  const folders = (await readdir(tmpdir())).filter((name) => name.startsWith(folderPrefix));
  let reaped = 0;
  for (const home of folders.map((name) => path.join(tmpdir(), name))) {
    const maker = await readFile(path.join(home, "maker.json"), "utf8").then((text) => JSON.parse(text) as ProcessMark, () => undefined);
    if (!maker || (await processMark(maker.pid)).started === maker.started) continue;
    const pid = await postmasterPid(path.join(home, "data"));
    if (pid !== undefined) {
      process.kill(pid, "SIGQUIT");
      while (isAlive(pid)) await delay(10);
    }
    await rm(home, { recursive: true, force: true });
    reaped += 1;
  }
  return reaped;
}

interface ProcessMark {
  pid: number;
  /** Tells a process from a later one with the same pid; null: there is no such process. */
  started: string | null;
}

async function processMark(pid: number): Promise<ProcessMark> {
  if (!isAlive(pid)) return { pid, started: null };
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return { pid, started: line.slice(line.lastIndexOf(")") + 2).split(" ")[19] ?? "unknown" };
}

/** From `postmaster.pid`, and only if that process is alive and a server of this very folder. */
async function postmasterPid(data: string): Promise<number | undefined> {
  const text = await readFile(path.join(data, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number(text.split("\n", 1)[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !isAlive(pid)) return undefined;
  const command = await run("ps", ["-ww", "-o", "command=", "-p", String(pid)]).then((done) => done.stdout, () => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""));
  return command.includes(data) ? pid : undefined;
}

async function childPids(parent: number): Promise<number[]> {
  const stats = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name)).map((pid) => readFile(`/proc/${pid}/stat`, "utf8").catch(() => ""));
  const pairs = (await Promise.all(stats)).map((line) => [Number.parseInt(line), Number(line.slice(line.lastIndexOf(")") + 2).split(" ")[1])] as const);
  return pairs.filter(([, of]) => of === parent).map(([pid]) => pid);
}

/** A zombie counts as gone: in a container without an init nobody collects it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

/** One that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
