/**
 * The worker pool: the real Runner. Between the job machine, which owns time limits and retries, and the workers, which
 * own nothing: it hands each attempt a worker, kills on abort or doubt, and has the crew keep `slots` and one warm spare.
 *
 * An attempt's promise settles only when nothing of the attempt runs any more. So a slot that is given back is free.
 */
import { availableParallelism } from "node:os";
import type { Clock } from "../clock.js";
import type { Outcome, RunnableJob, Runner } from "../job.js";
import { limits } from "../options.js";
import { confine } from "./confinement.js";
import { keepCrew } from "./crew.js";
import type { Crew, CrewEvent } from "./crew.js";
import { deferred } from "./deferred.js";
import { messagesTooLarge, outOfMemory, workerCrashed } from "./failures.js";
import { noPackages } from "./packages.js";
import type { Packages } from "./packages.js";
import type { SubmittedSource } from "./sources.js";
import { waitingLine } from "./waiting-line.js";
import type { Openings, Walls } from "./walls.js";
import type { Death, WorkerProcess } from "./worker.js";

/** Named facts for the log and the metrics; none of them holds a text from a worker. */
export type WorkerEvent =
  | CrewEvent
  /** This machine lacks walls that others have; builds run all the same. */
  | { type: "worker.unconfined"; missing: string[] };

export interface WorkerPoolOptions {
  /** Builds at once. */
  slots: number;
  /** Of each worker. */
  memoryMb: number;
  /** Result and source map together. */
  outputBytesMax: number;
  clock: Clock;
  /** What builds may use beside what was submitted. */
  packages?: Packages | undefined;
  /** Whether builds run where this machine lacks walls, once the gate alone has kept the canaries from being read. */
  allowUnconfined?: boolean | undefined;
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
const recycleAfterJobsDefault = 1000;

/**
 * A second thread, for what esbuild does beside parsing, makes a build a fifth faster while a processor is free for it; more would let one slot take the
 * whole machine. Where there are many more slots than processors there is none, and a second thread costs a seventh of a worker's time (bench/README.md).
 */
const threadsOf = (slots: number): number => (slots >= 2 * availableParallelism() ? 1 : 2);

/** The second parameter is for tests of the walls only. */
export function createWorkerPool(options: WorkerPoolOptions, { walls, openings }: { walls?: Walls | undefined; openings?: Openings | undefined } = {}): WorkerPool {
  const { slots, memoryMb, clock, onEvent = () => {}, recycleAfterJobs = recycleAfterJobsDefault } = options;
  /** Last in, first used again: its memory and the processor's caches are warm, which halves a small build's time. */
  const idle: WorkerProcess[] = [];
  const line = waitingLine<WorkerProcess>();
  const serving = deferred<void>();
  // Nobody may be waiting for it.
  serving.promise.catch(() => {});
  let crew: Crew | null = null;
  /** Why nothing runs; null while it does. */
  let down: Error | null = notRunning();
  let busy = 0;
  let jobs = 0;

  function hire(): Crew {
    const { memoryMb, outputBytesMax, allowUnconfined = false } = options;
    const confinement = confine({ memoryMb, threads: threadsOf(slots), id: () => clock.id(), walls, openings });
    if (confinement.missing.length > 0) {
      if (!allowUnconfined) throw unconfined(confinement.missing);
      onEvent({ type: "worker.unconfined", missing: confinement.missing });
    }
    return keepCrew({
      size: slots + spares, confinement, limits: { ...limits, outputBytesMax }, clock, onEvent,
      onReady(worker) {
        serving.resolve();
        offer(worker);
      },
      onGone(worker) {
        const at = idle.indexOf(worker);
        if (at >= 0) idle.splice(at, 1);
      },
      onFailed: close,
    });
  }

  function close(why: Error): void {
    down = why;
    serving.reject(why);
    line.rejectAll(why);
  }

  /** Whoever comes out of the line holds a slot from here on. */
  function offer(worker: WorkerProcess): void {
    if (busy < slots && line.give(worker)) busy++;
    else idle.push(worker);
  }

  async function take(signal: AbortSignal): Promise<WorkerProcess> {
    if (down) throw down;
    signal.throwIfAborted();
    for (let worker = freeWorker(); worker; worker = freeWorker()) {
      if (worker.dying) continue;
      busy++;
      return worker;
    }
    return line.wait(signal);
  }
  const freeWorker = (): WorkerProcess | undefined => (busy < slots && line.length === 0 ? idle.pop() : undefined);

  function giveBack(worker: WorkerProcess): void {
    busy--;
    if (!worker.dying) idle.push(worker);
    while (busy < slots && line.length > 0) {
      const next = idle.pop();
      if (!next) break;
      if (!next.dying && line.give(next)) busy++;
    }
    crew?.fill();
  }

  async function attempt(worker: WorkerProcess, job: RunnableJob, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    jobs++;
    const abort = () => void worker.kill("aborted");
    signal.addEventListener("abort", abort, { once: true });
    const end = await worker.build(sourceOf(job), job.options, options.packages?.forBuild() ?? noPackages);
    signal.removeEventListener("abort", abort);
    if (signal.aborted) {
      await worker.kill("aborted");
      throw signal.reason;
    }
    if (end.kind === "died") {
      if (down) throw down;
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
    close(notRunning());
    await crew?.stop();
  }

  return {
    async start() {
      if (!crew && !stopping) {
        crew = hire();
        down = null;
        crew.fill();
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
      starting: crew?.starting.size ?? 0,
      workers: [...(crew?.workers ?? [])].map((worker) => ({
        pid: worker.pid,
        state: worker.dying ? "dying" : crew?.starting.has(worker) ? "starting" : idle.includes(worker) ? "idle" : "busy",
        jobs: worker.jobs,
        rssBytes: worker.rssBytes,
      })),
      ...(crew?.counts ?? { started: 0, died: 0, recycled: 0 }),
      jobs,
    }),
  };
}

const unconfined = (missing: string[]): Error =>
  new Error(
    `This machine cannot limit the ${missing.join(", ")} of build workers (that takes Linux with ${"/bin/sh"}), so code that is not trusted is not built here. ` +
      "Use a container of Linux, or set BUILDLANE_ALLOW_UNCONFINED=true (allowUnconfined) where all code is trusted.",
  );

const notRunning = (): Error => new Error("The worker pool is not running.");

const sourceOf = (job: RunnableJob): SubmittedSource =>
  job.files === undefined ? { kind: "code", code: job.code } : { kind: "files", files: Object.entries(job.files), entry: job.entry };

function outcomeOf(death: Death, memoryMb: number): Outcome {
  if (death.reason === "out_of_memory") return outOfMemory(memoryMb);
  return death.reason === "messages_too_large" ? messagesTooLarge() : workerCrashed();
}
