/**
 * What the pool's process and a worker say to each other: one union each way, with a version, so that a worker of
 * another build of Buildlane (a deploy under a running service) is refused at its first word, not misunderstood.
 * Order: prepare → ready or unfit; then build → done, one at a time, until the worker is killed.
 */
import type { BuildOptions, Outcome } from "../job.js";
import type { BuildLimits } from "./limits.js";
import { readOutcome } from "./read-outcome.js";

export const protocolVersion = 1;

/** The submitted text. Entries, not an object: a file may be called `__proto__`. */
export type SubmittedSource =
  | { kind: "code"; code: string }
  | { kind: "files"; files: [path: string, text: string][]; entry: string };

/** Files that only a leaking sandbox can read; `secret` is what they hold. */
export interface Canary {
  folder: string;
  mapFile: string;
  secret: string;
}

export type ToWorker =
  | { v: typeof protocolVersion; type: "prepare"; folder: string; wrapper: string | null; canary: Canary | null; limits: BuildLimits }
  | { v: typeof protocolVersion; type: "build"; id: number; source: SubmittedSource; options: BuildOptions };

/** Why a worker does not serve: a canary was read, or esbuild does not run or does not work here. */
export type UnfitReason = "canary_read" | "engine_failed";

export type FromWorker =
  | { v: typeof protocolVersion; type: "ready"; rssBytes: number }
  | { v: typeof protocolVersion; type: "unfit"; reason: UnfitReason }
  | { v: typeof protocolVersion; type: "done"; id: number; outcome: Outcome; rssBytes: number };

/** Exit codes by which a worker that cannot speak any more still says what happened. */
export const exitCodes = { engineGone: 70, broken: 71, messagesTooLarge: 72, outOfMemory: 73 } as const;

/** A worker's message with every field checked, or null: what is malformed counts as a crash of the worker. */
export function readFromWorker(value: unknown, limits: BuildLimits): FromWorker | null {
  if (typeof value !== "object" || value === null) return null;
  const { v, type, id, rssBytes, reason, outcome } = value as Record<string, unknown>;
  if (v !== protocolVersion) return null;
  if (type === "unfit" && (reason === "canary_read" || reason === "engine_failed")) return { v, type, reason };
  if (typeof rssBytes !== "number" || !(rssBytes >= 0)) return null;
  if (type === "ready") return { v, type, rssBytes };
  if (type !== "done" || typeof id !== "number") return null;
  const read = readOutcome(outcome, limits);
  return read && { v, type, id, outcome: read, rssBytes };
}
