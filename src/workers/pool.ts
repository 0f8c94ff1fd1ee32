/**
 * The worker pool: the real Runner. Between the job machine, which owns time limits and retries, and the workers, which
 * own nothing: it hands each attempt a worker, kills on abort or doubt, and keeps `slots` workers and one warm spare.
 *
 * An attempt's promise settles only when nothing of the attempt runs any more. So a slot that is given back is free.
 */
import { availableParallelism } from "node:os";
import type { Clock, Timer } from "../clock.js";
import type { Outcome, RunnableJob, Runner } from "../job.js";
import { limits } from "../options.js";
import { confine } from "./confinement.js";
import type { Confinement } from "./confinement.js";
import { deferred } from "./deferred.js";
import { messagesTooLarge, outOfMemory, workerCrashed } from "./failures.js";
import type { BuildLimits, SubmittedSource } from "./protocol.js";
import { waitingLine } from "./waiting-line.js";
import { startWorker } from "./worker.js";
import type { Death, WorkerProcess } from "./worker.js";

/** Facts for the log and the metrics; none of them holds a text from a worker. */
export type WorkerEvent =
  | { type: "worker.ready"; pid: number; startMs: number; rssBytes: number }
  /** `jobs`: how many it had taken. `retryInMs`: set when starts fail in a row and the next waits. */
  | { type: "worker.died"; pid: number | null; reason: Death["reason"]; exitCode: number | null; signal: string | null; jobs: number; retryInMs: number | null }
  /** This machine lacks walls that others have; builds run all the same. */
  | { type: "worker.unconfined"; missing: string[] };

export interface WorkerPoolOptions {
  /** Builds at once. */
  slots: number;
  /** Of esbuild's process, and of the Node process around it. */
  memoryMb: number;
  /** Result and source map together. */
  outputBytesMax: number;
  clock: Clock;
  onEvent?: ((event: WorkerEvent) => void) | undefined;
  recycleAfterJobs?: number | undefined;
}

export interface WorkerPoolStats {
  slots: number;
  /** Attempts that hold a slot. */
  busy: number;
  /** Attempts that wait for a worker. */
  waiting: number;
  /** Workers that could take an attempt now, the spare included. */
  idle: number;
  starting: number;
  workers: { pid: number | null; state: "starting" | "idle" | "busy" | "dying"; jobs: number; rssBytes: number }[];
  /** Since the start. */
  started: number;
  died: number;
  recycled: number;
  jobs: number;
}

export type WorkerPool = Runner & { stats(): WorkerPoolStats };

const spares = 1;
/** A large job leaves a process large; what a fresh one needs is far below. */
const recycleAboveRssBytes = 150 * 1024 * 1024;
const recycleAfterJobsDefault = 200;
/** A machine where not one of the first starts works will not get better by trying on. */
const startFailuresMax = 3;
const restartMsMin = 100;
const restartMsMax = 10_000;

/** `openFilesMax` is for tests of the self-test only. */
export function createWorkerPool(options: WorkerPoolOptions & { openFilesMax?: number | undefined }): WorkerPool {
  const { slots, memoryMb, outputBytesMax, clock, onEvent = () => {}, recycleAfterJobs = recycleAfterJobsDefault } = options;
  const buildLimits: BuildLimits = { ...limits, outputBytesMax };
  const startingMax = Math.max(1, availableParallelism());
  const workers = new Set<WorkerProcess>();
  const starting = new Set<WorkerProcess>();
  /** First in, first used again: all stay equally warm. */
  const idle: WorkerProcess[] = [];
  const line = waitingLine<WorkerProcess>();
  const serving = deferred<void>();
  serving.promise.catch(() => {});
  let confinement: Confinement | null = null;
  let state: "new" | "started" | "failed" | "stopped" = "new";
  let failure: Error | null = null;
  let everReady = false;
  let failuresInARow = 0;
  let restart: Timer | null = null;
  let busy = 0;
  const counts = { started: 0, died: 0, recycled: 0, jobs: 0 };

  /** Starts what is missing, the first one alone: it serves sooner when it has the processors to itself. */
  function fill(): void {
    const parallel = everReady ? startingMax : 1;
    while (state === "started" && restart === null && starting.size < parallel && alive() < slots + spares) start(confinement!);
  }
  /** A dying worker counts no more: its successor starts while it goes. */
  const alive = (): number => [...workers].filter((worker) => !worker.dying).length;

  function start(walls: Confinement): void {
    const startedMs = clock.monotonic();
    const worker = startWorker(walls, buildLimits, clock);
    counts.started++;
    workers.add(worker);
    starting.add(worker);
    void worker.ready.then((isReady) => {
      starting.delete(worker);
      if (isReady && !worker.dying) {
        everReady = true;
        failuresInARow = 0;
        onEvent({ type: "worker.ready", pid: worker.pid!, startMs: clock.monotonic() - startedMs, rssBytes: worker.rssBytes });
        serving.resolve();
        offer(worker);
      }
      fill();
    });
    void worker.gone.then(async (death) => {
      counts.died++;
      if (death.reason === "recycled") counts.recycled++;
      workers.delete(worker);
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
      const retryInMs = (await worker.ready) ? null : afterFailedStart(death);
      onEvent({ type: "worker.died", ...death, jobs: worker.jobs, retryInMs });
      fill();
    });
  }

  /** Null when no other start is planned. */
  function afterFailedStart(death: Death): number | null {
    if (state !== "started" || death.reason === "aborted") return null;
    failuresInARow++;
    if (death.reason === "canary_read" || (!everReady && failuresInARow >= startFailuresMax)) {
      fail(death);
      return null;
    }
    if (restart !== null) return null;
    const retryInMs = Math.min(restartMsMin * 2 ** (failuresInARow - 1), restartMsMax);
    restart = clock.after(retryInMs, () => {
      restart = null;
      fill();
    });
    return retryInMs;
  }

  function fail(death: Death): void {
    state = "failed";
    failure = new Error(
      death.reason === "canary_read"
        ? "Build workers cannot be confined on this machine: one could read a file outside of its build. No build is run."
        : `Build workers do not start on this machine (${death.reason}). The folder for temporary files (TMPDIR) must allow programs to run.`,
    );
    serving.reject(failure);
    line.rejectAll(failure);
    void clear();
  }

  async function clear(): Promise<void> {
    restart?.cancel();
    await Promise.all([...workers].map((worker) => worker.kill("stopped")));
    await confinement?.remove();
  }

  function offer(worker: WorkerProcess): void {
    if (busy < slots && line.give(worker)) busy++;
    else idle.push(worker);
  }

  /** A worker for one attempt; it counts as busy from here on. */
  async function take(signal: AbortSignal): Promise<WorkerProcess> {
    if (failure) throw failure;
    if (state !== "started") throw notRunning();
    signal.throwIfAborted();
    if (busy < slots && line.length === 0) {
      for (let worker = idle.shift(); worker; worker = idle.shift()) {
        if (worker.dying) continue;
        busy++;
        return worker;
      }
    }
    return line.wait(signal);
  }

  function giveBack(worker: WorkerProcess): void {
    busy--;
    if (!worker.dying) idle.push(worker);
    for (let next = idle[0]; next && busy < slots && line.length > 0; next = idle[0]) {
      idle.shift();
      if (!next.dying && line.give(next)) busy++;
    }
    fill();
  }

  async function attempt(worker: WorkerProcess, job: RunnableJob, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    counts.jobs++;
    const abort = () => void worker.kill("aborted");
    signal.addEventListener("abort", abort, { once: true });
    const end = await worker.build(sourceOf(job), job.options);
    signal.removeEventListener("abort", abort);
    if (signal.aborted) {
      await worker.kill("aborted");
      throw signal.reason;
    }
    if (end.kind === "died") {
      if (state !== "started") throw failure ?? notRunning();
      return outcomeOf(end.death, memoryMb);
    }
    const sound = end.outcome.kind === "built" || end.outcome.failure.code === "build_failed" || end.outcome.failure.code === "import_refused";
    if (!sound) await worker.kill("doubtful");
    // Its work is done, so nobody has to wait until it is gone.
    else if (worker.jobs >= recycleAfterJobs || worker.rssBytes > recycleAboveRssBytes) void worker.kill("recycled");
    return end.outcome;
  }

  let stopping: Promise<void> | null = null;
  async function stop(): Promise<void> {
    state = "stopped";
    serving.reject(notRunning());
    line.rejectAll(notRunning());
    await clear();
  }

  return {
    async start() {
      if (state === "new") {
        state = "started";
        confinement = confine({ memoryMb, outputBytesMax, id: () => clock.id(), ...(options.openFilesMax !== undefined && { openFilesMax: options.openFilesMax }) });
        if (confinement.missing.length > 0) onEvent({ type: "worker.unconfined", missing: confinement.missing });
        fill();
      }
      await serving.promise;
    },
    async run(job, { signal }) {
      const worker = await take(signal);
      try {
        return await attempt(worker, job, signal);
      } finally {
        giveBack(worker);
      }
    },
    stop: () => (stopping ??= stop()),
    stats: () => ({
      slots,
      busy,
      waiting: line.length,
      idle: idle.length,
      starting: starting.size,
      workers: [...workers].map((worker) => ({
        pid: worker.pid,
        state: worker.dying ? "dying" : starting.has(worker) ? "starting" : idle.includes(worker) ? "idle" : "busy",
        jobs: worker.jobs,
        rssBytes: worker.rssBytes,
      })),
      ...counts,
    }),
  };
}

const notRunning = (): Error => new Error("The worker pool is not running.");

const sourceOf = (job: RunnableJob): SubmittedSource =>
  job.files === undefined ? { kind: "code", code: job.code } : { kind: "files", files: Object.entries(job.files), entry: job.entry };

function outcomeOf(death: Death, memoryMb: number): Outcome {
  if (death.reason === "out_of_memory") return outOfMemory(memoryMb);
  return death.reason === "messages_too_large" ? messagesTooLarge() : workerCrashed();
}
