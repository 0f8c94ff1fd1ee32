/** Starts the built service as a stranger would, as a process of its own, and talks to it over HTTP only. */
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { commandLine } from "./command.js";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const startWaitMs = 90_000;

/** Builds dist/ when it is out of date. */
export function buildService(): void {
  const built = spawnSync(process.execPath, [path.join(project, "scripts/build.mjs")], { encoding: "utf8" });
  if (built.status !== 0) throw new Error(`the build failed: ${built.stderr}`);
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // Tests look into whatever came; a wrong shape fails their expectations.
  json: any;
}

export interface Service {
  url: string;
  child: ChildProcess;
  readyMs: number;
  output(): string;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  submit(chatId: string, messageId: string, code: string, extra?: object): Promise<Answer>;
  /** Waits until the job is final. */
  settled(id: string, waitMs?: number): Promise<Record<string, any>>;
  kill(signal?: NodeJS.Signals): void;
  /** Its exit code, or the signal that ended it. */
  exited: Promise<number | NodeJS.Signals>;
}

/** `env` is all that the service sees, beside PATH. Rejects with its output when it exits before it is ready. */
export async function startService(env: Record<string, string>, args: string[] = []): Promise<Service> {
  const from = performance.now();
  const child = spawn(process.execPath, commandLine("serve", ...args), {
    cwd: project, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", PORT: "0", LOG_LEVEL: "debug", ...env },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => void (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => void (output += chunk.toString()));
  const exited = new Promise<number | NodeJS.Signals>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? 0)));
  const url = await Promise.race([
    new Promise<string>((resolve) => {
      const look = () => {
        const found = /listens on (http:\/\/\S+)/.exec(output);
        if (found) resolve(found[1] as string);
      };
      child.stderr.on("data", look);
    }),
    exited.then((code) => Promise.reject(new Error(`the service exited with ${code}: ${output.slice(-2000)}`))),
    delay(startWaitMs, undefined, { ref: false }).then(() => Promise.reject(new Error(`the service is not ready: ${output.slice(-2000)}`))),
  ]);

  const call: Service["call"] = async (method, where, body, headers = {}) => {
    const response = await fetch(url + where, {
      method, signal: AbortSignal.timeout(40_000), headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: response.status, headers: response.headers, text, json };
  };
  return {
    url, child, exited, readyMs: performance.now() - from, call,
    output: () => output,
    submit: (chatId, messageId, code, extra = {}) => call("POST", "/api/builds", { chatId, messageId, code, ...extra }),
    async settled(id, waitMs = 120_000) {
      for (const until = performance.now() + waitMs; performance.now() < until; await delay(20)) {
        const { json } = await call("GET", `/api/builds/${id}`);
        if (["completed", "failed"].includes(json?.data?.status)) return json.data;
      }
      throw new Error(`job ${id} is not final after ${waitMs} ms`);
    },
    kill: (signal = "SIGKILL") => void child.kill(signal),
  };
}
