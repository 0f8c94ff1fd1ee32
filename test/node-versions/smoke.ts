/** The packed package on some Node: the service on a new embedded database from submission to result and to a clean stop, and the module. */
import { spawn } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { transform } from "esbuild";
import type { Packed } from "../support/packed.js";

const limitMs = 90_000;
/** What a service on a new embedded database may take of memory at any time, MB: it should start where there are 512. */
const peakMbMax = 400;

const moduleScript = `
import { createBuildQueue } from "buildlane";
import { createSimulatedClock } from "buildlane/testing";
await using queue = await createBuildQueue({ store: "memory", concurrency: 2 });
const { jobs } = await queue.enqueueMany(["export const a: number = 1", "const broken = ;"].map((code) => ({ chatId: "c", messageId: "m", code })));
const ends = [];
for (const { id } of jobs) ends.push((await queue.waitFor(id)).status);
const clock = createSimulatedClock();
const later = await createBuildQueue({ store: "memory", clock, run: () => "built" });
const { id } = await later.enqueue({ chatId: "c", messageId: "m", code: "1", delayMs: 3_600_000 });
ends.push((await clock.until(later.waitFor(id))).result);
await clock.until(later.stop());
console.log(process.versions.node, ends.join(" "));`;

/** What it saw, as a line; rejects with everything that was said when something was not as it must be. */
export async function smoke(node: string, packed: Packed): Promise<string> {
  const version = await moduleSmoke(node, packed);
  return `Node ${version}: module and service, ${await throughTheService(node, packed.user, path.join(packed.user, `data-${version}`))}`;
}

/** The module alone; the version that it ran on. */
export async function moduleSmoke(node: string, { user, run }: Packed): Promise<string> {
  // `await using` is a matter of syntax: older Nodes run it compiled only.
  const { code } = await transform(moduleScript, { format: "esm", target: "node20" });
  const module = await run(node, ["--input-type=module", "-e", code], user);
  const version = module.stdout.split(" ")[0] ?? "";
  if (module.status !== 0 || module.all !== `${version} completed failed built\n`) throw new Error(`the module on ${node} ended with ${module.status}: ${module.all}`);
  return version;
}

async function throughTheService(node: string, user: string, dataDir: string): Promise<string> {
  const child = spawn(node, [path.join(user, "node_modules/buildlane/bin/buildlane.mjs"), "serve"], { cwd: user, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", PORT: "0", BUILDLANE_DATA_DIR: dataDir } });
  const exited = new Promise<number | null>((resolve) => child.on("close", resolve));
  const limit = setTimeout(() => child.kill("SIGKILL"), limitMs);
  let said = "";
  try {
    const url = await new Promise<string>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (data: Buffer) => {
          said += String(data);
          const found = /listens on (http:\/\/\S+)/.exec(said)?.[1];
          if (found) resolve(found);
        });
      void exited.then((status) => reject(new Error(`ended with ${status}`)));
    });
    const response = await fetch(`${url}/api/builds`, { method: "POST", headers: { "content-type": "application/json", prefer: "wait=30" }, body: JSON.stringify({ chatId: "c", messageId: "m", code: "export const App = () => <p>hi</p>" }) });
    const { data } = (await response.json()) as { data: { id: string; status: string } };
    const output = await (await fetch(`${url}/api/builds/${data.id}/output`)).text();
    if (response.status !== 200 || data.status !== "completed" || !output.includes('"p"')) throw new Error(`answered ${response.status} ${JSON.stringify(data)} ${output}`);
    const page = await (await fetch(url)).text();
    if (!page.includes("<html")) throw new Error("has no dashboard");
    const peakMb = await peakMbOf(child.pid as number);
    if (peakMb > peakMbMax) throw new Error(`took ${peakMb} MB`);
    child.kill("SIGTERM");
    const status = await exited;
    if (status !== 0) throw new Error(`stopped with ${status}`);
    return `from submission to result and to a clean stop, with ${peakMb} MB at the most`;
  } catch (error) {
    child.kill("SIGKILL");
    await exited;
    throw new Error(`the service on ${node}: ${String(error)}; it said: ${said.slice(-2000)}`);
  } finally {
    clearTimeout(limit);
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** The most that a process ever had in memory, MB; 0 where the system does not tell. */
async function peakMbOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Math.round(Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024);
}
