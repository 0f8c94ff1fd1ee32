/**
 * What the README and the examples say is done: `npm start` is started, each curl request is sent in its order and its
 * answer compared with the one that is printed, and examples run from a folder of their user (snippets: pages.test.ts).
 * `npm ci` has been run by whoever runs this, and `npm test` is this.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fencesOf, project } from "../support/fences.js";
import { quickWasm } from "../support/quick-wasm.js";
import { tempFolder } from "../support/temp.js";

const fences = await fencesOf("README.md");
const shell = fences.filter(({ language }) => language === "sh").map(({ text }) => text.trim());

interface Ran {
  status: number | null;
  stdout: string;
  all: string;
}
function run(command: string, args: string[], { cwd, env = {}, until, begun }: { cwd: string; env?: Record<string, string>; until?: RegExp; begun?: () => void }): Promise<Ran> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", ...env } });
  let stdout = "";
  let all = "";
  child.stdout.on("data", (data: Buffer) => {
    if (stdout === "") begun?.();
    stdout += String(data);
    all += String(data);
    // An endless answer has shown what was wanted.
    if (until?.test(stdout)) child.kill();
  });
  child.stderr.on("data", (data: Buffer) => void (all += String(data)));
  return new Promise((resolve, reject) => child.on("error", reject).on("close", (status) => resolve({ status, stdout, all })));
}

let home: Awaited<ReturnType<typeof tempFolder>>;
let service: { url: string; stop(): Promise<number | null> };

/** The README's own command, as it is written there. */
async function npmStart(): Promise<typeof service> {
  const child = spawn("npm", ["start", "--silent"], { cwd: project, detached: true, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", HOME: home.path, PORT: "0", BUILDLANE_DATA_DIR: path.join(home.path, "data") } });
  const exited = new Promise<number | null>((resolve) => child.on("close", resolve));
  let said = "";
  const url = await new Promise<string>((resolve, reject) => {
    const look = (data: Buffer) => {
      said += String(data);
      const found = /listens on (http:\/\/\S+)/.exec(said)?.[1];
      if (found) resolve(found);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    void exited.then((status) => reject(new Error(`npm start ended with ${status}: ${said}`)));
  });
  return {
    url,
    stop() {
      // As a terminal does: npm, its shell and the service all hear of it.
      if (child.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), "SIGTERM");
      return exited;
    },
  };
}

beforeAll(async () => {
  home = await tempFolder();
  service = await npmStart();
  await mkdir(path.join(home.path, "node_modules"));
  await symlink(project, path.join(home.path, "node_modules", "buildlane"));
  await symlink(path.join(project, "node_modules", "fastify"), path.join(home.path, "node_modules", "fastify"));
}, 180_000);
afterAll(async () => {
  // Already stopped, unless a test before that failed.
  await service?.stop();
  await home[Symbol.asyncDispose]();
}, 30_000);

/** The same keys and kinds, all the way down; a text that is printed as `…` differs each time, and so do numbers. */
function shapeOf(printed: unknown): unknown {
  if (Array.isArray(printed)) return printed.map(shapeOf);
  if (printed !== null && typeof printed === "object") return Object.fromEntries(Object.entries(printed).map(([key, value]) => [key, shapeOf(value)]));
  if (printed === "…") return expect.any(String);
  return typeof printed === "number" ? expect.any(Number) : printed;
}

describe("the README's service", () => {
  it("is started and tested by two commands that are there", async () => {
    expect(shell).toContain("npm ci && npm start");
    expect(shell).toContain("npm ci && npm test");
    const { scripts } = JSON.parse(await readFile(path.join(project, "package.json"), "utf8")) as { scripts: Record<string, string> };
    expect(scripts).toMatchObject({ start: "exec node scripts/start.mjs", test: "node scripts/test.mjs" });
  });

  it("answers each curl request as it is printed", async () => {
    // What is followed live is told when it happens.
    const somethingHappens = () => void fetch(`${service.url}/api/builds`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ chatId: "chat1", messageId: "msg3", code: "1" }) });
    let id = "";
    let asked = 0;
    for (const [index, { language, text }] of fences.entries()) {
      if (language !== "sh" || !text.startsWith("curl")) continue;
      asked++;
      const command = text.replaceAll("http://127.0.0.1:3001", service.url).replaceAll("{id}", id);
      if (command.includes("{id}") || text.includes("{id}")) {
        // It says how a finished job looks.
        for (let status = ""; status !== "completed"; ) status = (((await (await fetch(`${service.url}/api/builds/${id}`)).json()) as { data: { status: string } }).data).status;
      }
      const streams = /curl -N/.test(text);
      const { status, stdout, all } = await run("bash", ["-c", command.replace("curl", "exec curl -sS")], { cwd: home.path, ...(streams ? { until: /^id: \d+\nevent: \S+\ndata: \{/m, begun: somethingHappens } : {}) });
      if (streams) {
        expect(stdout).toMatch(/^id: \d+\nevent: [\w.]+\ndata: \{"jobId"/m);
        continue;
      }
      expect([status, all.length > 0]).toEqual([0, true]);
      const answer = JSON.parse(stdout) as { ok: boolean; data: { id?: string; error?: string } };
      expect(answer.ok).toBe(true);
      id = answer.data.id ?? id;
      const next = fences[index + 1];
      if (next?.language === "json") expect(answer).toEqual(shapeOf(JSON.parse(next.text)));
      if (next?.language === "text") expect(answer.data.error).toBe(next.text.trimEnd());
    }
    expect(asked).toBeGreaterThanOrEqual(5);
  });

  it("stops when its terminal says so, and leaves nothing behind", async () => {
    // Its output is closed when the last of its processes is gone.
    await service.stop();
    await expect(fetch(`${service.url}/livez`)).rejects.toThrow("fetch failed");
  }, 30_000);
});

/** Runs TypeScript from the folder of somebody who installed Buildlane. */
async function runThere(name: string, text: string): Promise<Ran> {
  const { code } = await transform(text, { loader: "ts", format: "esm", target: "node20" });
  const file = path.join(home.path, `${name}.mjs`);
  await writeFile(file, code);
  return run(process.execPath, [...quickWasm, file], { cwd: home.path });
}

describe("the examples", { timeout: 90_000 }, () => {
  const example = async (name: string) => runThere(name, await readFile(path.join(project, "examples", `${name}.ts`), "utf8"));

  it("quick start: two chats, three builds, on a database of its own", async () => {
    const { status, stdout } = await example("quick-start");
    expect(stdout).toMatch(/^weather 1: completed\n[\s\S]*greeting[\s\S]*\nweather 2: failed\nmessage\.tsx:1:16: error: Unexpected ";"[\s\S]*\ntodo 1: completed\nneeds react, react\/jsx-runtime\n$/);
    expect(status).toBe(0);
  });

  it("an application of one's own around the routes keeps its hooks and its answers", async () => {
    const { status, stdout, all } = await example("embed-in-fastify");
    expect(all).toBe("401 without the token\n{ hello: 'world' }\n200 completed true\njob_not_found\n");
    expect([status, stdout]).toEqual([0, all]);
  });
});
