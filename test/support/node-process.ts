/**
 * A node in a process of its own, with a run of its own instead of esbuild, so that a test can kill, freeze and stop it
 * in the middle of a build. The code says what the run does: `hold` ends never, `die` kills the whole process, anything
 * else is built at once. Reports come out one a line.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Report } from "../../src/index.js";

const self = fileURLToPath(import.meta.url);

export interface NodeProcess {
  id: string;
  child: ChildProcess;
  /** Resolves with the first report, of all so far and to come, that fits, and when it came (`performance.now()`). */
  saw<T extends Report["type"]>(type: T, fits?: (report: Extract<Report, { type: T }>) => boolean): Promise<{ report: Extract<Report, { type: T }>; at: number }>;
  exited: Promise<number | NodeJS.Signals>;
}

/** Resolves when it takes work; `options` are the queue's. */
export async function startNodeProcess(options: Record<string, unknown>): Promise<NodeProcess> {
  const child = spawn(process.execPath, ["--import", "tsx", self, JSON.stringify(options)], { cwd: path.resolve(path.dirname(self), "../.."), stdio: ["ignore", "pipe", "inherit"] });
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

if (process.argv[1] === self) {
  const { createBuildQueue } = await import("../../src/index.js");
  const queue = await createBuildQueue({
    ...(JSON.parse(process.argv[2] ?? "{}") as object),
    run: (job, { signal }) =>
      new Promise((resolve, reject) => {
        if (job.code === "die") process.kill(process.pid, "SIGKILL");
        if (job.code !== "hold") return resolve("built");
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
      }),
    onReport: (report) => void process.stdout.write(`${JSON.stringify(report)}\n`),
  });
  process.on("SIGTERM", () => void queue.stop().then(() => process.exit(0)));
}
