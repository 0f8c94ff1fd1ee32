/**
 * Keeps a number of workers alive, whatever kills them. The pool above it knows attempts; this knows only workers: it
 * starts what is missing, waits longer after each start that fails, and gives up when the machine cannot run any.
 */
import { availableParallelism } from "node:os";
import type { Clock, Timer } from "../clock.js";
import { engineVersion } from "./channel.js";
import type { Confinement } from "./confinement.js";
import type { BuildLimits } from "./limits.js";
import { startWorker } from "./worker.js";
import type { Death, WorkerProcess } from "./worker.js";

/** Facts for the log and the metrics; none of them holds a text from a worker. */
export type CrewEvent =
  | { type: "worker.ready"; pid: number; startMs: number; rssBytes: number }
  /** `jobs`: how many it had taken. `retryInMs`: set when its start failed and the next one waits. */
  | { type: "worker.died"; pid: number | null; reason: Death["reason"]; exitCode: number | null; signal: string | null; jobs: number; retryInMs: number | null };

export interface CrewOptions {
  size: number;
  confinement: Confinement;
  limits: BuildLimits;
  clock: Clock;
  onEvent: (event: CrewEvent) => void;
  /** A worker can take its first job. */
  onReady: (worker: WorkerProcess) => void;
  onGone: (worker: WorkerProcess) => void;
  /** No worker can be run here; those that live are being stopped. Called once. */
  onFailed: (error: Error) => void;
}

export interface Crew {
  readonly workers: ReadonlySet<WorkerProcess>;
  readonly starting: ReadonlySet<WorkerProcess>;
  readonly counts: { started: number; died: number; recycled: number };
  /** Starts what is missing: a dying worker counts no more, so its successor starts while it goes. */
  fill(): void;
  /** Kills all and starts none any more; resolves when none is left. Twice is fine. */
  stop(): Promise<void>;
}

/** A machine where not one of the first starts works will not get better by trying on. */
const startFailuresMax = 3;
const restartMsMin = 100;
const restartMsMax = 10_000;

export function keepCrew({ size, confinement, limits, clock, onEvent, onReady, onGone, onFailed }: CrewOptions): Crew {
  const startingMax = Math.max(1, availableParallelism());
  const workers = new Set<WorkerProcess>();
  const starting = new Set<WorkerProcess>();
  const counts = { started: 0, died: 0, recycled: 0 };
  let stopped = false;
  let everReady = false;
  let failuresInARow = 0;
  let restart: Timer | null = null;

  function fill(): void {
    // The first one alone: it serves sooner when it has the processors to itself.
    const parallel = everReady ? startingMax : 1;
    while (!stopped && restart === null && starting.size < parallel && alive() < size) hire();
  }
  const alive = (): number => [...workers].filter((worker) => !worker.dying).length;

  function hire(): void {
    const startedMs = clock.monotonic();
    const worker = startWorker(confinement, limits, clock);
    counts.started++;
    workers.add(worker);
    starting.add(worker);
    void worker.ready.then((isReady) => {
      starting.delete(worker);
      if (isReady && !worker.dying) {
        everReady = true;
        failuresInARow = 0;
        onEvent({ type: "worker.ready", pid: worker.pid!, startMs: clock.monotonic() - startedMs, rssBytes: worker.rssBytes });
        onReady(worker);
      }
      fill();
    });
    void worker.gone.then(async (death) => {
      workers.delete(worker);
      counts.died++;
      if (death.reason === "recycled") counts.recycled++;
      onGone(worker);
      const retryInMs = (await worker.ready) ? null : afterFailedStart(death);
      onEvent({ type: "worker.died", ...death, jobs: worker.jobs, retryInMs });
      fill();
    });
  }

  /** Null when no other start waits because of it. */
  function afterFailedStart(death: Death): number | null {
    if (stopped) return null;
    failuresInARow++;
    if (death.reason === "canary_read" || (!everReady && failuresInARow >= startFailuresMax)) {
      onFailed(cannotStart(death));
      void stop();
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

  async function stop(): Promise<void> {
    stopped = true;
    restart?.cancel();
    await Promise.all([...workers].map((worker) => worker.kill("stopped")));
  }

  return { workers, starting, counts, fill, stop };
}

const cannotStart = ({ reason }: Death): Error =>
  new Error(
    reason === "canary_read"
      ? "Build workers cannot be confined on this machine: one could read a file outside of its build. No build is run."
      : reason === "other_version"
        ? `The installed esbuild is not version ${engineVersion}, which build workers speak with. Install exactly that one.`
        : `Build workers do not start on this machine (${reason}).`,
  );
