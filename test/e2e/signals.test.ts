/** `npm start` as process managers use it: whichever of its processes is told to stop, the service drains and is gone. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const project = path.resolve(import.meta.dirname, "../..");
const folders: AsyncDisposable[] = [];
beforeAll(() => buildService(), 120_000);
afterAll(async () => void (await Promise.all(folders.map((one) => one[Symbol.asyncDispose]()))));

interface Started {
  child: ChildProcess;
  /** The process that listens. */
  service: number;
  url: string;
  output(): string;
  /** When every process that has the output open is gone. */
  closed: Promise<void>;
}

/** Runs a command that starts the service, and finds out which process that is. */
async function start(command: string, args: string[]): Promise<Started> {
  const folder = await tempFolder();
  folders.push(folder);
  const child = spawn(command, args, {
    cwd: project, stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOME: folder.path, PORT: "0", BUILDLANE_DATA_DIR: path.join(folder.path, "data"), BUILDLANE_DRAIN_MS: "5000", npm_config_update_notifier: "false" },
  });
  let output = "";
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const ready = new Promise<string>((resolve) => {
    const listen = (chunk: Buffer) => {
      output += chunk.toString();
      const found = /listens on (http:\/\/\S+)/.exec(output);
      if (found) resolve(found[1] as string);
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
  });
  const url = await Promise.race([ready, closed.then(() => Promise.reject(new Error(`it ended before it was ready: ${output}`)))]);
  return { child, service: deepestChild(child.pid as number), url, output: () => output, closed };
}

/** Follows the first children of a process down to the one that has the service's command line. */
function deepestChild(pid: number): number {
  if (/start\.mjs|main\.js|buildlane\.mjs/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1] ?? "")) return pid;
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  if (!child) throw new Error(`no service below process ${pid}`);
  return deepestChild(Number(child));
}
const parentOf = (pid: number): number => Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

/** Or a zombie, which waits for whoever inherited it to take notice. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

async function stopsAfter(started: Started, signalled: number): Promise<void> {
  const { url, service, closed, output } = started;
  const accepted = await fetch(`${url}/api/builds`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ chatId: "c", messageId: "m", code: "export const a = 1" }) });
  expect(accepted.status).toBe(202);
  process.kill(signalled, "SIGTERM");
  await closed;
  expect(isGone(service)).toBe(true);
  expect(output()).toMatch(/"event":"node\.stopped"/);
}

test.runIf(process.platform === "linux")("SIGTERM to npm stops the service that npm start runs, with its drain, and npm waits for it", async () => {
  const started = await start("npm", ["start"]);
  await stopsAfter(started, started.child.pid as number);
  expect(started.child.exitCode ?? started.child.signalCode).toBe(0);
}, 120_000);

test.runIf(process.platform === "linux")("SIGTERM to a shell that npm has put in between stops it as well", async () => {
  // As npx does, and every script that does not begin with exec.
  const started = await start("npm", ["exec", "--offline", "--call", "node dist/src/cli/main.js serve; true"]);
  const shell = parentOf(started.service);
  expect(readFileSync(`/proc/${shell}/cmdline`, "utf8")).toMatch(/^sh\0/);
  await stopsAfter(started, shell);
}, 120_000);
