/**
 * A node in a process of its own, with a run of its own instead of esbuild, so that a test can kill, freeze and stop it
 * in the middle of a build. The code says what the run does: `hold` ends never, `die` kills the whole process, anything
 * else is built at once. Reports come out one a line. It runs what is in dist/, so call `buildService` before: sources
 * through a loader would cost four times the processor time at each start.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Report } from "../../src/index.js";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const script = `
  const { createBuildQueue } = await import("./dist/src/index.js");
  const queue = await createBuildQueue({
    ...JSON.parse(process.argv[1]),
    run: (job, { signal }) =>
      new Promise((resolve, reject) => {
        if (job.code === "die") process.kill(process.pid, "SIGKILL");
        if (job.code !== "hold") return resolve("built");
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
    onReport: (report) => void process.stdout.write(JSON.stringify(report) + "\\n"),
  });
  process.on("SIGTERM", () => void queue.stop().then(() => process.exit(0)));`;

export interface NodeProcess {
  id: string;
  child: ChildProcess;
  /** Resolves with the first report, of all so far and to come, that fits, and when it came (`performance.now()`). */
  saw<T extends Report["type"]>(type: T, fits?: (report: Extract<Report, { type: T }>) => boolean): Promise<{ report: Extract<Report, { type: T }>; at: number }>;
  exited: Promise<number | NodeJS.Signals>;
}

/** Resolves when it takes work; `options` are the queue's. */
export async function startNodeProcess(options: Record<string, unknown>): Promise<NodeProcess> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, JSON.stringify(options)], { cwd: project, stdio: ["ignore", "pipe", "inherit"] });
  const reports: { report: Report; at: number }[] = [];
  let waiting: (() => void)[] = [];
  let rest = "";
  child.stdout.on("data", (bytes: Buffer) => {
    const lines = (rest + bytes.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) reports.push({ report: JSON.parse(line) as Report, at: performance.now() });
    waiting.splice(0).forEach((tell) => tell());
  });
  const exited = new Promise<number | NodeJS.Signals>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? 0)));
  const node: NodeProcess = {
    id: "", child, exited,
    async saw(type, fits = () => true) {
      for (;;) {
        const found = reports.find(({ report }) => report.type === type && fits(report as never));
        if (found) return found as never;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
  };
  const { report } = await Promise.race([node.saw("node.started"), exited.then((code) => Promise.reject(new Error(`the node exited with ${code}`)))]);
  return Object.assign(node, { id: report.nodeId });
}
