/**
 * One worker's life as the pool sees it: starting → serving → gone. A worker is one process of esbuild's own service,
 * driven over its pipes. The only file that starts processes. Killing is always SIGKILL to the whole group, and a
 * worker is gone only when its pipes are closed.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import type { Clock } from "../clock.js";
import type { BuildOptions, Outcome } from "../job.js";
import { openChannel } from "./channel.js";
import type { Confinement, Place } from "./confinement.js";
import { deferred } from "./deferred.js";
import { build } from "./engine.js";
import { messageBytesMax } from "./limits.js";
import type { BuildLimits } from "./limits.js";
import type { PackageAccess } from "./packages.js";
import { selfTest } from "./self-test.js";
import type { UnfitReason } from "./self-test.js";
import type { SubmittedSource } from "./sources.js";

export type DeathReason =
  /** By the pool: the attempt was aborted, its outcome left doubts, the worker had worked enough, the pool stops. */
  | "aborted" | "doubtful" | "recycled" | "stopped"
  /** By itself or by somebody else. */
  | "crashed" | "out_of_memory" | "messages_too_large" | "malformed_message"
  /** Before it served. */
  | UnfitReason | "other_version" | "start_timed_out" | "spawn_failed";

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
  build(source: SubmittedSource, options: BuildOptions, packages: PackageAccess): Promise<BuildEnd>;
  /** Twice is fine; the first reason counts. */
  kill(reason: DeathReason): Promise<Death>;
}

const startMsMax = 30_000;
/** The memory of a worker is read after each large job, and after every so many small ones. */
const looksApart = 10;
const largeChars = 64 * 1024;
const weightOf = (source: SubmittedSource): number => (source.kind === "code" ? source.code.length : source.files.reduce((sum, [, text]) => sum + text.length, 0));
/** A crash of esbuild prints some 20 KB; what happened stands at the head. */
const stderrCharsKept = 8_192;

export function startWorker(confinement: Confinement, limits: BuildLimits, clock: Clock): WorkerProcess {
  const place = confinement.place();
  const child = launch(confinement, place);
  const pid = child.pid ?? null;
  const became = deferred<boolean>();
  const left = deferred<Death>();
  const stderr = keepStderr(child);
  let reason: DeathReason | null = null;
  let pending: ((end: BuildEnd) => void) | null = null;
  let exited = false;
  let ended = false;
  let jobs = 0;
  let rssBytes = 0;

  const kill = (why: DeathReason): Promise<Death> => {
    reason ??= why;
    // Afterwards the number may be another process's.
    if (!ended) killGroup(pid, confinement.walls.ownGroup);
    return left.promise;
  };
  const startTimer = clock.after(startMsMax, () => void kill("start_timed_out"));

  let corked = false;
  const channel = openChannel({
    bytesMax: confinement.walls.packets ? limits.outputBytesMax + messageBytesMax : Number.POSITIVE_INFINITY,
    write(chunks) {
      const { stdin } = child;
      if (!stdin?.writable) return;
      // What is answered in one turn of the event loop goes out together.
      if (!corked) {
        corked = true;
        stdin.cork();
        process.nextTick(() => {
          corked = false;
          stdin.uncork();
        });
      }
      for (const chunk of chunks) stdin.write(chunk);
    },
    onBroken: (why) => void kill(({ too_large: "messages_too_large", malformed: "malformed_message", other_version: "other_version" } as const)[why]),
  });
  child.stdout?.on("data", (chunk: Buffer) => channel.read(chunk));
  // It is gone then, and its exit tells the rest.
  child.stdin?.on("error", () => {});
  child.once("exit", () => {
    exited = true;
    killGroup(pid, confinement.walls.ownGroup);
  });
  child.on("error", () => {
    // Not started at all: no other event will come.
    if (pid === null) end({ pid, reason: "spawn_failed", exitCode: null, signal: null });
    else void kill("crashed");
  });
  child.once("close", (exitCode, signal) => end({ pid, reason: reason ?? reasonOf(stderr()), exitCode, signal }));

  function end(death: Death): void {
    ended = true;
    startTimer.cancel();
    reason ??= death.reason;
    became.resolve(false);
    pending?.({ kind: "died", death });
    pending = null;
    void place.remove().finally(() => left.resolve(death));
  }

  async function begin(): Promise<void> {
    const unfit = await selfTest(channel, place.canary, confinement, limits);
    startTimer.cancel();
    if (unfit !== null) return void kill(unfit);
    // It goes on standing in a folder that is no more: nothing can be put there for it to find.
    await place.remove();
    rssBytes = rssOf(pid);
    became.resolve(reason === null);
  }
  if (pid !== null) void begin();

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
    build(source, options, packages) {
      jobs++;
      return new Promise((resolve) => {
        if (exited || reason !== null) return void left.promise.then((death) => resolve({ kind: "died", death }));
        pending = resolve;
        build(channel, { source, options, packages, limits, walls: confinement.walls }).then(
          (outcome) => {
            // An answer that came just before the kill is no answer any more: the death is told.
            if (pending !== resolve || reason !== null) return;
            pending = null;
            // What a large job leaves behind is worth a look; a small one costs less than the look.
            if (jobs % looksApart === 0 || weightOf(source) > largeChars) rssBytes = rssOf(pid);
            resolve({ kind: "answered", outcome });
          },
          () => void kill("malformed_message"),
        );
      });
    },
  };
}

function launch({ command, environment, walls }: Confinement, { workingFolder }: Place): ChildProcess {
  try {
    return spawn(command.file, command.args, { cwd: workingFolder, env: environment, detached: walls.ownGroup, stdio: ["pipe", "pipe", "pipe"] });
  } catch (error) {
    // Some reasons (no memory, say) are thrown, others told: one way is enough for the caller.
    const never = new EventEmitter() as ChildProcess;
    process.nextTick(() => never.emit("error", error));
    return never;
  }
}

function killGroup(pid: number | null, isLeader: boolean): void {
  if (pid === null) return;
  try {
    process.kill(isLeader ? -pid : pid, "SIGKILL");
  } catch {
    // Nobody of the group is left.
  }
}

function rssOf(pid: number | null): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * 4096 || 0;
  } catch {
    // No such file on this system: workers are recycled by their jobs alone.
    return 0;
  }
}

/** Head of what the group says on stderr. It is only searched, never shown: it may hold anything. */
function keepStderr(child: ChildProcess): () => string {
  let head = "";
  child.stderr?.setEncoding("latin1").on("data", (text: string) => {
    if (head.length < stderrCharsKept) head = (head + text).slice(0, stderrCharsKept);
  });
  return () => head;
}

/** Where its collector gets no memory for its own queues, Go's runtime dereferences null on its system stack instead of saying so. */
const memoryTexts =
  /fatal error: (runtime: )?(out of memory|cannot allocate)|cannot allocate memory|failed to (create new OS thread|reserve memory)|^SIGSEGV: segmentation violation\nPC=\w+ m=\d+ sigcode=1 addr=0x0\n\ngoroutine 0 [^\n]*\nruntime\./i;

/** Of a worker that ended by itself, from the head of what it said on stderr. */
export const reasonOf = (stderr: string): DeathReason => (memoryTexts.test(stderr) ? "out_of_memory" : "crashed");
