/** Runs the built command line as a process of its own, as a person would: data on stdout, talk on stderr, an exit code. */
import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { quickWasm } from "./quick-wasm.js";

const main = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../dist/src/cli/main.js");

/** What Node is started with for this command. */
export const commandLine = (...args: string[]): string[] => [...quickWasm, main, ...args];

export interface Ran {
  code: number | null;
  out: string;
  err: string;
}

/** `env` is all that it sees, beside PATH. `until` resolves when what it has said so far satisfies `done`, and rejects when it ends before. */
export function startCommand(args: string[], { input = "", env = {}, cwd }: { input?: string; env?: Record<string, string>; cwd?: string } = {}) {
  const child = spawn(process.execPath, commandLine(...args), { ...(cwd === undefined ? {} : { cwd }), env: { PATH: process.env["PATH"] ?? "", ...env } });
  let out = "";
  let err = "";
  let look = () => {};
  child.stdout.on("data", (chunk: Buffer) => void ((out += chunk.toString()), look()));
  child.stderr.on("data", (chunk: Buffer) => void ((err += chunk.toString()), look()));
  child.stdin.end(input);
  const ended = new Promise<Ran>((resolve) => child.on("close", (code) => resolve({ code, out, err })));
  const until = (done: (said: { out: string; err: string }) => boolean): Promise<{ out: string; err: string }> =>
    new Promise((resolve, reject) => {
      look = () => void (done({ out, err }) && resolve({ out, err }));
      look();
      void ended.then(({ code }) => reject(new Error(`It ended with ${code}: ${out}${err}`)));
    });
  return { child, ended, until };
}

export const runCommand = (...args: Parameters<typeof startCommand>): Promise<Ran> => startCommand(...args).ended;
