/**
 * npm and npx stand between whoever signals them and this process, often with a shell: a signal may end only those, and
 * this process would stay behind with its port and its database. So a process that npm started ends when its parent has.
 */
import type { Clock } from "../clock.js";

const lookMs = 250;

/** Calls back once, when the parent process is gone; never unless npm or npx started this one. */
export function onOrphaned(clock: Clock, env: Record<string, string | undefined>, callback: () => void): void {
  if (env["npm_command"] === undefined && env["npm_lifecycle_event"] === undefined) return;
  const parent = process.ppid;
  const look = (): void => void clock.after(lookMs, () => (process.ppid === parent ? look() : callback()));
  look();
}
