/**
 * The walls around a worker: a folder with nothing in it to stand in, an environment with nothing in it to tell, limits
 * on memory, core dumps and open files. The last is what keeps esbuild from reading: its process holds 0, 1, 2, an epoll
 * and an event descriptor, so with a limit of 5 every further open fails (measured in WORKERS.md, 1; the self-test asks).
 */
import { accessSync, constants, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Canary } from "./protocol.js";

export interface Confinement {
  /** Shared by a pool's workers, removed with the pool, or by a worker whose pool was killed. */
  folder: string;
  workingFolder: string;
  environment: Record<string, string>;
  command: { file: string; args: string[] };
  /** What esbuild's process is started through; null where the machine has no such limits. */
  wrapper: string | null;
  /** Null when nothing would keep it from being read. */
  canary: Canary | null;
  /** Walls that this machine does not have. */
  missing: string[];
  remove(): Promise<void>;
}

export interface ConfinementOptions {
  memoryMb: number;
  outputBytesMax: number;
  /** Makes the canary's secret. */
  id: () => string;
  /** Only a test asks for another number, to see the self-test refuse. */
  openFilesMax?: number;
}

/** Node holds an output some four times, at up to two bytes a character, before it is handed on. */
const nodeHeapMb = (outputBytesMax: number): number => Math.max(192, 64 + Math.ceil((8 * outputBytesMax) / 2 ** 20));
/** What Node wants besides its heap, most of it before the first job. */
const nodeBesidesHeapMb = 192;
const shell = "/bin/sh";

/** Throws when the temporary folder cannot be written. */
export function confine({ memoryMb, outputBytesMax, id, openFilesMax = 5 }: ConfinementOptions): Confinement {
  const folder = mkdtempSync(path.join(tmpdir(), "buildlane-workers-"));
  const workingFolder = path.join(folder, "empty");
  mkdirSync(workingFolder);
  const engine = process.platform === "linux" && canRun(shell) ? engineBinary() : null;
  const canary = engine === null ? null : plantCanary(folder, id());
  const wrapper = engine === null ? null : path.join(folder, "esbuild");
  // One option a call: all that dash understands. Chained, so that a limit that fails never starts esbuild. Open files
  // last: the shell itself needs one more for a redirection.
  if (engine !== null && wrapper !== null) {
    const script = `#!${shell}\nulimit -c 0 && ${memoryLimit(memoryMb)} && ulimit -n ${openFilesMax} && exec ${quoted(engine)} "$@"\n`;
    writeFileSync(wrapper, script, { mode: 0o700 });
  }
  const heapMb = nodeHeapMb(outputBytesMax);
  const node = nodeCommand(heapMb);
  return {
    folder, workingFolder, wrapper, canary,
    environment: { GOMAXPROCS: "1", ...(wrapper !== null && { ESBUILD_BINARY_PATH: wrapper }) },
    command: wrapper === null ? node : limited(node, Math.max(memoryMb, heapMb + nodeBesidesHeapMb)),
    missing: engine === null ? ["open files", "memory", "core dumps"] : [],
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 3 }),
  };
}

/** A lower limit that is already there does as well. Kilobytes. */
const memoryLimit = (memoryMb: number): string => `{ ulimit -d ${memoryMb * 1024} 2>/dev/null || [ "$(ulimit -d)" -le ${memoryMb * 1024} ]; }`;

const limited = ({ file, args }: { file: string; args: string[] }, memoryMb: number) => ({
  file: shell,
  args: ["-c", `ulimit -c 0 && ${memoryLimit(memoryMb)} && exec "$0" "$@"`, file, ...args],
});

/** The worker's program, beside this file: TypeScript in development, JavaScript when built. */
function nodeCommand(heapMb: number): { file: string; args: string[] } {
  const program = fileURLToPath(import.meta.url);
  const fromSource = program.endsWith(".ts");
  const loader = fromSource ? ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href] : [];
  return { file: process.execPath, args: [`--max-old-space-size=${heapMb}`, ...loader, path.join(path.dirname(program), fromSource ? "child.ts" : "child.js")] };
}

/** esbuild's native program as its package installs it; null on a platform that has only the WebAssembly one. */
function engineBinary(): string | null {
  const resolve = createRequire(import.meta.url).resolve;
  const own = path.dirname(resolve("esbuild/package.json"));
  const candidates = [
    () => createRequire(path.join(own, "package.json")).resolve(`@esbuild/${process.platform}-${process.arch}/bin/esbuild`),
    // Where esbuild's install script puts it when optional packages were left out.
    () => path.join(own, "lib", `downloaded-@esbuild-${process.platform}-${process.arch}-esbuild`),
  ];
  for (const candidate of candidates) {
    try {
      const file = candidate();
      if (canRun(file)) return file;
    } catch {
      // Not installed in this way.
    }
  }
  return null;
}

/** The secret stands where a glob, an import or a source map would bring it into an output. */
function plantCanary(folder: string, secret: string): Canary {
  const canaryFolder = path.join(folder, "canary");
  const mapFile = path.join(canaryFolder, "canary.map");
  mkdirSync(canaryFolder);
  writeFileSync(path.join(canaryFolder, "canary-1.js"), `export default ${JSON.stringify(secret)};\nconsole.log(${JSON.stringify(secret)});\n`);
  writeFileSync(mapFile, JSON.stringify({ version: 3, sources: [secret], sourcesContent: [secret], names: [], mappings: "AAAA" }));
  return { folder: canaryFolder, mapFile, secret };
}

function canRun(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
