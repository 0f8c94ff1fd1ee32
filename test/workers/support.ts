/** A pool for one test, in a folder for temporary files of its own: afterwards neither a process nor a file is left. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, vi } from "vitest";
import { systemClock } from "../../src/clock.js";
import type { BuildOptions, Diagnostic, Outcome, RunnableJob } from "../../src/job.js";
import { createWorkerPool } from "../../src/workers/pool.js";
import type { WorkerEvent, WorkerPool, WorkerPoolOptions } from "../../src/workers/pool.js";
import { allWalls } from "../../src/workers/walls.js";
import type { Openings, Walls } from "../../src/workers/walls.js";
import { tempFolder } from "../support/temp.js";

export interface TestPool extends AsyncDisposable {
  pool: WorkerPool;
  events: WorkerEvent[];
  build(source: string | { files: Record<string, string>; entry: string }, options?: BuildOptions, signal?: AbortSignal): Promise<Outcome>;
}

/** `down`: walls that do not stand. */
export async function startPool({ start = true, down = [], openings, ...options }: Partial<WorkerPoolOptions> & { start?: boolean; down?: (keyof Walls)[]; openings?: Openings } = {}): Promise<TestPool> {
  const folder = await tempFolder();
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = folder.path;
  const events: WorkerEvent[] = [];
  const pids = new Set<number>();
  const walls = { ...allWalls, ...Object.fromEntries(down.map((one) => [one, false])) };
  const pool = createWorkerPool({ slots: 1, memoryMb: 512, outputBytesMax: 8 * 2 ** 20, clock: systemClock, onEvent: (event) => void events.push(event), ...options }, { walls, openings });
  const remember = () => pool.stats().workers.forEach(({ pid }) => pid !== null && pids.add(pid));
  try {
    if (start) await pool.start();
  } finally {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
  }
  let serial = 0;
  return {
    pool,
    events,
    build(source, buildOptions = {}, signal = new AbortController().signal) {
      remember();
      return pool.run(jobOf(source, buildOptions, ++serial), { signal, attempt: 1 });
    },
    async [Symbol.asyncDispose]() {
      remember();
      for (const event of events) if ("pid" in event && event.pid !== null) pids.add(event.pid);
      await pool.stop();
      expect([...pids].flatMap(groupOf), "processes that outlive their pool").toEqual([]);
      expect(readdirSync(folder.path), "files that outlive their pool").toEqual([]);
      await folder[Symbol.asyncDispose]();
    },
  };
}

export function jobOf(source: string | { files: Record<string, string>; entry: string }, options: BuildOptions = {}, serial = 1): RunnableJob {
  const common = { id: `job${serial}`, chatId: "chat", messageId: `message${serial}`, chatSeq: serial, attempt: 1, options };
  return typeof source === "string" ? { ...common, code: source } : { ...common, ...source };
}

/** Living processes of a group. */
export function groupOf(pgid: number): number[] {
  return processes().filter((one) => one.pgid === pgid && one.state !== "Z").map((one) => one.pid);
}

/** Resolves when a process has used some processor time: it is in the middle of its work. */
export const busyFor = (pid: number, ticks = 5): Promise<void> =>
  vi.waitFor(() => expect(processes().find((one) => one.pid === pid)?.ticks ?? 0).toBeGreaterThan(ticks), { timeout: 10_000, interval: 2 });

export const busyWorker = (pool: WorkerPool): number => {
  const worker = pool.stats().workers.find((one) => one.state === "busy");
  if (!worker?.pid) throw new Error("No worker is busy.");
  return worker.pid;
};

function processes() {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return [{ pid: Number(name), name: stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")")), state: fields[0], ppid: Number(fields[1]), pgid: Number(fields[2]), ticks: Number(fields[11]) + Number(fields[12]) }];
    } catch {
      return [];
    }
  });
}

export function built(outcome: Outcome): Extract<Outcome, { kind: "built" }> {
  if (outcome.kind !== "built") throw new Error(`Expected a result, got ${outcome.error}`);
  return outcome;
}

export function failed(outcome: Outcome): Extract<Outcome, { kind: "failed" }> & { first: Diagnostic } {
  if (outcome.kind !== "failed") throw new Error(`Expected a failure, got ${outcome.result}`);
  return { ...outcome, first: outcome.failure.diagnostics[0]! };
}

/** esbuild's parser doubles its work at each level: 400 bytes that never end. */
export const endlessCode = `${"a?(b):c=>".repeat(44)}d`;
/** Each member is twice as long as the one before it. */
export const memoryBomb = `enum E{a0="0123456789abcdef",${Array.from({ length: 34 }, (_, at) => `a${at + 1}=a${at}+a${at}`).join(",")}} console.log(E.a34)`;
