/**
 * The worker: a process of its own, leader of its own group, with esbuild's native process as its only child. Builds
 * one thing at a time and never decides when to stop: the pool kills the group. Left alone, it kills the group itself.
 */
import { subscribe } from "node:diagnostics_channel";
import type { ChildProcess } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { build } from "./engine.js";
import { exitCodes, protocolVersion } from "./protocol.js";
import type { BuildLimits } from "./limits.js";
import type { FromWorker, ToWorker } from "./protocol.js";
import { selfTest } from "./self-test.js";

let folder: string | null = null;
let wrapper: string | null = null;
let limits: BuildLimits | null = null;
let engine: ChildProcess | null = null;

process.on("message", (message: ToWorker) => void serve(message).catch(exitFor));
process.on("disconnect", leave);
// Too large an answer of esbuild throws where nobody can catch it; afterwards its channel is out of step.
process.on("uncaughtException", exitFor);
process.on("unhandledRejection", exitFor);

// Node tells of every process that it starts: the only way to esbuild's, which the API keeps to itself.
subscribe("child_process", (message) => {
  const child = (message as { process: ChildProcess }).process;
  child.once("spawn", () => {
    if (wrapper !== null && child.spawnfile !== wrapper) return;
    engine = child;
    // Without this a dead engine would only be noticed by the next job.
    child.once("exit", () => process.exit(exitCodes.engineGone));
  });
});

async function serve(message: ToWorker): Promise<void> {
  if (message.v !== protocolVersion) process.exit(exitCodes.broken);
  switch (message.type) {
    case "prepare": {
      ({ folder, wrapper, limits } = message);
      const reason = await selfTest(message.canary, message.limits);
      say(reason === null ? { v: protocolVersion, type: "ready", rssBytes: rssBytes() } : { v: protocolVersion, type: "unfit", reason });
      return;
    }
    case "build": {
      if (!limits) process.exit(exitCodes.broken);
      const outcome = await build(message.source, message.options, limits);
      say({ v: protocolVersion, type: "done", id: message.id, outcome, rssBytes: rssBytes() });
      return;
    }
    default:
      process.exit(message satisfies never);
  }
}

const say = (message: FromWorker): void => void process.send?.(message, undefined, {}, () => {});

/** Of the larger of the two processes. */
function rssBytes(): number {
  return Math.max(process.memoryUsage.rss(), engineRssBytes());
}

function engineRssBytes(): number {
  try {
    const pages = readFileSync(`/proc/${engine?.pid}/statm`, "utf8").split(" ")[1];
    return Number(pages) * 4096 || 0;
  } catch {
    return 0;
  }
}

/** The pool's process is gone (killed, perhaps): nobody else will clean up. */
function leave(): void {
  if (folder !== null) rmSync(folder, { recursive: true, force: true });
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch {
    // Not the leader of a group: started by hand.
    engine?.kill("SIGKILL");
  }
  process.exit(0);
}

/** Says by its exit code alone what went wrong: texts of errors may hold paths. */
function exitFor(error: unknown): never {
  const { code, message } = error instanceof Error ? (error as NodeJS.ErrnoException) : { code: undefined, message: "" };
  if (code === "ERR_STRING_TOO_LONG") process.exit(exitCodes.messagesTooLarge);
  if (/allocation failed|out of memory/i.test(message)) process.exit(exitCodes.outOfMemory);
  if (/service (was stopped|is no longer running)/.test(message)) process.exit(exitCodes.engineGone);
  process.exit(exitCodes.broken);
}
