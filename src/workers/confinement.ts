/**
 * The walls around esbuild's process: a folder with nothing in it to stand in, an environment with nothing in it to
 * tell, limits on memory, core dumps and open files. The last is what keeps it from reading: it holds 0, 1, 2, an epoll
 * and an event descriptor, so with a limit of 5 every further open fails (measured; the self-test asks at each start).
 */
import { accessSync, constants, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { engineVersion } from "./channel.js";
import { allWalls } from "./walls.js";
import type { Openings, Walls } from "./walls.js";

/** What every worker of a pool is started with. */
export interface Confinement {
  command: { file: string; args: string[] };
  environment: Record<string, string>;
  /** Walls that this machine does not have. */
  missing: string[];
  walls: Walls;
  /** A place for one worker: empty, with canaries beside it. Removed as soon as the worker serves. */
  place(): Place;
}

export interface Place {
  workingFolder: string;
  canary: Canary;
  /** Twice is fine. */
  remove(): Promise<void>;
}

/** Files that only a leaking worker can read; `secret` is what they hold. */
export interface Canary {
  folder: string;
  mapFile: string;
  secret: string;
}

export interface ConfinementOptions {
  memoryMb: number;
  /** Of esbuild's own, that work at once. */
  threads: number;
  /** Makes the canary's secret. */
  id: () => string;
  /** Only a test sets these two. */
  walls?: Walls | undefined;
  openings?: Openings | undefined;
}

const shell = "/bin/sh";

/** Throws when esbuild's program is not installed. */
export function confine({ memoryMb, threads, id, walls = allWalls, openings = {} }: ConfinementOptions): Confinement {
  const engine = engineBinary();
  const limited = (openings.limits ?? process.platform === "linux") && canRun(shell);
  // One option a call: all that dash understands. Chained, so that a limit that fails never starts esbuild. Open files
  // last: the shell itself needs one more for a redirection.
  const limits = ["ulimit -c 0", ...(walls.memory ? [memoryLimit(memoryMb)] : []), ...(walls.openFiles ? [`ulimit -n ${openings.openFilesMax ?? 5}`] : [])];
  const service = [`--service=${engineVersion}`, "--ping"];
  return {
    walls,
    command: limited ? { file: shell, args: ["-c", `${limits.join(" && ")} && exec "$0" "$@"`, engine, ...service] } : { file: engine, args: service },
    // Collecting garbage less often makes a build a third faster; the soft limit has it collected in earnest well before the kernel's is met.
    environment: { GOMAXPROCS: String(threads), GOGC: "400", GOMEMLIMIT: `${Math.floor(memoryMb * 0.7)}MiB`, ...openings.environment },
    missing: limited ? [] : ["open files", "memory", "core dumps"],
    place: () => makePlace(id(), openings.workingFolder),
  };
}

/** A lower limit that is already there does as well. Kilobytes. */
const memoryLimit = (memoryMb: number): string => `{ ulimit -d ${memoryMb * 1024} 2>/dev/null || [ "$(ulimit -d)" -le ${memoryMb * 1024} ]; }`;

/** esbuild's native program as its package installs it. */
function engineBinary(): string {
  const resolve = createRequire(import.meta.url).resolve;
  const own = path.dirname(resolve("esbuild/package.json"));
  const program = process.platform === "win32" ? "esbuild.exe" : "bin/esbuild";
  const candidates = [
    () => createRequire(path.join(own, "package.json")).resolve(`@esbuild/${process.platform}-${process.arch}/${program}`),
    // Where esbuild's install script puts it when optional packages were left out.
    () => path.join(own, "lib", `downloaded-@esbuild-${process.platform}-${process.arch}-${path.basename(program)}`),
  ];
  for (const candidate of candidates) {
    try {
      const file = candidate();
      if (canRun(file)) return file;
    } catch {
      // Not installed in this way.
    }
  }
  throw new Error(`esbuild has no native program for ${process.platform}-${process.arch} here. Install with optional dependencies (npm install --include=optional).`);
}

/** The secret stands where a glob, an import or a source map would bring it into an output. */
function makePlace(secret: string, otherFolder: string | undefined): Place {
  const folder = mkdtempSync(path.join(tmpdir(), "buildlane-worker-"));
  const workingFolder = path.join(folder, "empty");
  const canaryFolder = path.join(folder, "canary");
  const mapFile = path.join(canaryFolder, "canary.map");
  mkdirSync(workingFolder);
  mkdirSync(canaryFolder);
  writeFileSync(path.join(canaryFolder, "canary-1.js"), `export default ${JSON.stringify(secret)};\nconsole.log(${JSON.stringify(secret)});\n`);
  writeFileSync(mapFile, JSON.stringify({ version: 3, sources: [secret], sourcesContent: [secret], names: [], mappings: "AAAA" }));
  let removed: Promise<void> | null = null;
  return {
    workingFolder: otherFolder ?? workingFolder,
    canary: { folder: canaryFolder, mapFile, secret },
    remove: () => (removed ??= rm(folder, { recursive: true, force: true, maxRetries: 3 })),
  };
}

function canRun(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
