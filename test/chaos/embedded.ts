/**
 * npm run chaos:embedded -- --kills 50 --seed 1
 * The service on its embedded database: killed in the middle of writes, again and again; then, where a tmpfs can be
 * mounted, its disk fills up and is emptied. Afterwards `buildlane verify` reads the folder.
 */
import { execFile, execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { rm } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { commandLine } from "../support/command.js";
import { buildService, startService } from "../support/service.js";
import type { Service } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const { values } = parseArgs({ options: { kills: { type: "string", default: "50" } } });
const kills = Number(values.kills);
console.log(`chaos on the embedded database: ${kills} kills`);
buildService();

const promised: string[] = [];
let refused = 0;

/** Submits from four clients until told to stop. */
function submitTo(service: Service): () => Promise<void> {
  let going = true;
  const clients = [0, 1, 2, 3].map(async (client) => {
    for (let count = 0; going; count++) {
      const answer = await service.submit(`chat${(client * 3 + count) % 10}`, `m${count}`, `export const v = ${count};`).catch(() => null);
      if (answer?.status === 202) promised.push(answer.json.data.id as string);
      else {
        refused++;
        await sleep(20);
      }
    }
  });
  return async () => {
    going = false;
    await Promise.all(clients);
  };
}

async function verify(dataDir: string, folder: string): Promise<boolean> {
  const list = path.join(folder, "promised");
  await writeFile(list, promised.join("\n"));
  const { ok, text } = await promisify(execFile)(process.execPath, commandLine("verify", "--data-dir", dataDir, "--at-rest", "--promised", list), { env: { PATH: process.env["PATH"] ?? "" }, maxBuffer: 1e8 }).then(
    ({ stdout }) => ({ ok: true, text: stdout }),
    (error: { stdout?: string; stderr?: string }) => ({ ok: false, text: `${error.stdout ?? ""}${error.stderr ?? ""}` }),
  );
  console.log(text.trim());
  return ok;
}

async function rest(service: Service): Promise<void> {
  for (;;) {
    const { json } = await service.call("GET", "/api/builds/stats");
    if (json.data.totalQueued + json.data.totalRunning === 0) return;
    await sleep(50);
  }
}

async function killAgainAndAgain(): Promise<boolean> {
  await using folder = await tempFolder();
  const dataDir = path.join(folder.path, "data");
  // Each kill is a node that some job has lost: none of them is to be quarantined for that.
  const env = { BUILDLANE_DATA_DIR: dataDir, LOG_LEVEL: "warn", BUILDLANE_MAX_PENDING_PER_CHAT: "100000", BUILDLANE_MAX_PENDING: "1000000", BUILDLANE_MAX_NODE_LOSSES: "1000" };
  const readyMs: number[] = [];
  for (let kill = 0; kill < kills; kill++) {
    const service = await startService(env);
    readyMs.push(service.readyMs);
    if (kill % 10 === 9) console.log(`${kill + 1} kills, ${promised.length} accepted`);
    const before = promised.length;
    const stop = submitTo(service);
    // The kills sweep over the time between two acceptances.
    while (promised.length < before + 5 + (kill % 10)) await sleep(1);
    service.kill("SIGKILL");
    await service.exited;
    await stop();
  }
  const service = await startService(env);
  await rest(service);
  service.kill("SIGTERM");
  await service.exited;
  console.log(`${kills} kills during writes: ${promised.length} accepted, ${refused} not answered; ready again after ${Math.round(readyMs.reduce((sum, ms) => sum + ms, 0) / kills)} ms on average, ${Math.round(Math.max(...readyMs))} ms at worst`);
  return await verify(dataDir, folder.path);
}

/** Null: no tmpfs can be mounted here. */
async function fillTheDisk(): Promise<boolean | null> {
  await using folder = await tempFolder();
  const disk = path.join(folder.path, "disk");
  execFileSync("mkdir", [disk]);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], { stdio: "ignore" });
  } catch {
    return null;
  }
  try {
    promised.length = refused = 0;
    const env = { BUILDLANE_DATA_DIR: path.join(disk, "data"), LOG_LEVEL: "warn", BUILDLANE_MAX_PENDING_PER_CHAT: "100000" };
    const filler = path.join(disk, "filler");
    let service = await startService(env);
    let stop = submitTo(service);
    while (promised.length < 30) await sleep(5);
    try {
      execFileSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=1M"], { stdio: "ignore" });
    } catch {
      // Full: that is the point.
    }
    const from = refused;
    const gone = service.exited.then(() => true);
    while (refused < from + 20 && !(await Promise.race([gone, sleep(50, false)])));
    console.log(`disk full: ${promised.length} accepted, ${refused} refused, the service ${service.child.exitCode === null && service.child.signalCode === null ? "lives" : "ended"}`);
    await rm(filler);
    await stop();
    // Whoever supervises services starts it again when it ended.
    const back = await service.submit("chat0", "after", "1").catch(() => null);
    if (back?.status !== 202) {
      service.kill("SIGKILL");
      await service.exited;
      service = await startService(env);
      console.log("with room again it was started anew");
    } else console.log("with room again it went on by itself");
    stop = submitTo(service);
    const enough = promised.length + 20;
    while (promised.length < enough) await sleep(5);
    await stop();
    await rest(service);
    service.kill("SIGTERM");
    await service.exited;
    return await verify(path.join(disk, "data"), folder.path);
  } finally {
    execFileSync("umount", ["-l", disk]);
  }
}

const killed = await killAgainAndAgain();
const filled = await fillTheDisk();
if (filled === null) console.log("disk full: not tried, a tmpfs cannot be mounted here");
console.log(killed && filled !== false ? "kept" : "BROKEN");
process.exitCode = killed && filled !== false ? 0 : 1;
process.exit();
