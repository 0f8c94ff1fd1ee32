/**
 * One worker's life as the pool sees it: starting → serving → gone. The only file that starts processes. Killing is
 * always SIGKILL to the whole group, and a worker is gone only when its pipes are closed: esbuild's process holds one.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import type { Clock } from "../clock.js";
import type { BuildOptions, Outcome } from "../job.js";
import type { Confinement } from "./confinement.js";
import { deferred } from "./deferred.js";
import { exitCodes, protocolVersion, readFromWorker } from "./protocol.js";
import type { BuildLimits } from "./limits.js";
import type { SubmittedSource, ToWorker, UnfitReason } from "./protocol.js";

export type DeathReason =
  /** By the pool: the attempt was aborted, its outcome left doubts, the worker had worked enough, the pool stops. */
  | "aborted" | "doubtful" | "recycled" | "stopped"
  /** By itself or by somebody else. */
  | "crashed" | "out_of_memory" | "messages_too_large" | "malformed_message"
  /** Before it served. */
  | UnfitReason | "start_timed_out" | "spawn_failed";

export interface Death {
  pid: number | null;
  reason: DeathReason;
  exitCode: number | null;
  signal: string | null;
}

export type BuildEnd = { kind: "answered"; outcome: Outcome } | { kind: "died"; death: Death };

export interface WorkerProcess {
  readonly pid: number | null;
  /** True when it serves, false when it died first. */
  readonly ready: Promise<boolean>;
  /** Settles when no process of the group is left. */
  readonly gone: Promise<Death>;
  readonly dying: boolean;
  readonly jobs: number;
  readonly rssBytes: number;
  /** One at a time. */
  build(source: SubmittedSource, options: BuildOptions): Promise<BuildEnd>;
  /** Twice is fine; the first reason counts. */
  kill(reason: DeathReason): Promise<Death>;
}

const startMsMax = 30_000;
/** A crash of esbuild prints some 20 KB; what happened stands at the head, what a heap ran into at the end. */
const stderrCharsKept = 8_192;

export function startWorker(confinement: Confinement, limits: BuildLimits, clock: Clock): WorkerProcess {
  const child = launch(confinement);
  const pid = child.pid ?? null;
  const became = deferred<boolean>();
  const left = deferred<Death>();
  const stderr = keepStderr(child);
  let reason: DeathReason | null = null;
  let pending: { id: number; resolve: (end: BuildEnd) => void } | null = null;
  let exited = false;
  let ended = false;
  let jobs = 0;
  let rssBytes = 0;

  const kill = (why: DeathReason): Promise<Death> => {
    reason ??= why;
    // Afterwards the number may be another process's.
    if (!ended) killGroup(pid);
    return left.promise;
  };
  const startTimer = clock.after(startMsMax, () => void kill("start_timed_out"));

  child.stdout?.resume();
  child.on("message", (value: unknown) => {
    const message = readFromWorker(value, limits);
    if (message?.type === "ready") {
      startTimer.cancel();
      rssBytes = message.rssBytes;
      became.resolve(reason === null);
    } else if (message?.type === "unfit") {
      void kill(message.reason);
    } else if (message?.type === "done" && pending?.id === message.id) {
      rssBytes = message.rssBytes;
      pending.resolve({ kind: "answered", outcome: message.outcome });
      pending = null;
    } else {
      void kill("malformed_message");
    }
  });
  // Its group may outlive it: esbuild's process notices a closed pipe only after up to a second.
  child.once("exit", () => {
    exited = true;
    killGroup(pid);
  });
  child.on("error", () => {
    // Not started at all: no other event will come. Otherwise a message could not be sent, and the exit follows.
    if (pid === null) end({ pid, reason: "spawn_failed", exitCode: null, signal: null });
    else void kill("crashed");
  });
  child.once("close", (exitCode, signal) => end({ pid, reason: reason ?? reasonOf(exitCode, stderr()), exitCode, signal }));

  function end(death: Death): void {
    ended = true;
    startTimer.cancel();
    reason ??= death.reason;
    became.resolve(false);
    pending?.resolve({ kind: "died", death });
    pending = null;
    left.resolve(death);
  }
  const send = (message: ToWorker): void => void child.send(message, (error) => error && void kill("crashed"));

  if (pid !== null) {
    const { folder, wrapper, canary } = confinement;
    send({ v: protocolVersion, type: "prepare", folder, wrapper, canary, limits });
  }
  return {
    pid,
    ready: became.promise,
    gone: left.promise,
    kill,
    get dying() {
      return exited || reason !== null;
    },
    get jobs() {
      return jobs;
    },
    get rssBytes() {
      return rssBytes;
    },
    build(source, options) {
      const id = ++jobs;
      return new Promise((resolve) => {
        if (exited || reason !== null) return void left.promise.then((death) => resolve({ kind: "died", death }));
        pending = { id, resolve };
        send({ v: protocolVersion, type: "build", id, source, options });
      });
    },
  };
}

function launch({ command, workingFolder, environment }: Confinement): ChildProcess {
  try {
    return spawn(command.file, command.args, {
      cwd: workingFolder, env: environment, detached: true, serialization: "advanced", stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
  } catch (error) {
    // Some reasons (no memory, say) are thrown, others told: one way is enough for the caller.
    const never = new EventEmitter() as ChildProcess;
    process.nextTick(() => never.emit("error", error));
    return never;
  }
}

function killGroup(pid: number | null): void {
  if (pid === null) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody of the group is left.
  }
}

/** Head and tail of what the group says on stderr. It is only searched, never shown: it may hold anything. */
function keepStderr(child: ChildProcess): () => string {
  let head = "";
  let tail = "";
  child.stderr?.setEncoding("latin1").on("data", (text: string) => {
    if (head.length < stderrCharsKept) head = (head + text).slice(0, stderrCharsKept);
    tail = (tail + text).slice(-stderrCharsKept);
  });
  return () => `${head}\n${tail}`;
}

const memoryTexts = /fatal error: (runtime: )?(out of memory|cannot allocate)|cannot allocate memory|heap out of memory|allocation failed|failed to (create new OS thread|reserve memory)/i;

function reasonOf(exitCode: number | null, stderr: string): DeathReason {
  if (exitCode === exitCodes.messagesTooLarge) return "messages_too_large";
  return exitCode === exitCodes.outOfMemory || memoryTexts.test(stderr) ? "out_of_memory" : "crashed";
}
