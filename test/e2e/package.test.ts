/** The packed package as a stranger gets it: every door opens, with types, and only what package.json declares is needed. */
import { spawn } from "node:child_process";
import { cp, mkdir, readFile, readdir, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tempFolder } from "../support/temp.js";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const modules = path.join(project, "node_modules");
const packed = ["bin", "src", "machines", "migrations", "scripts", "package.json", "tsconfig.json", "README.md", "CHANGELOG.md", "SOLUTION.md", "LICENSE"];

let home: Awaited<ReturnType<typeof tempFolder>>;
/** The folder of somebody who uses Buildlane: nothing in it but the package and what it depends on. */
let user: string;
let installed: string;
let manifest: { exports: Record<string, unknown>; dependencies: Record<string, string>; version: string };

async function run(command: string, args: string[], cwd: string, env: Record<string, string> = {}): Promise<{ status: number | null; stdout: string; all: string }> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", HOME: home.path, ...env } });
  let stdout = "";
  let all = "";
  child.stdout.on("data", (data: Buffer) => void ((stdout += String(data)), (all += String(data))));
  child.stderr.on("data", (data: Buffer) => void (all += String(data)));
  const status = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  return { status, stdout, all };
}
/** Runs a module in the user's folder; what it printed, as JSON. */
async function script(text: string): Promise<unknown> {
  const { status, stdout, all } = await run(process.execPath, ["--input-type=module", "-e", text], user);
  if (status !== 0) throw new Error(all);
  return JSON.parse(stdout);
}
async function link(name: string, into: string): Promise<void> {
  await mkdir(path.dirname(path.join(into, name)), { recursive: true });
  await symlink(path.join(modules, name), path.join(into, name));
}

beforeAll(async () => {
  home = await tempFolder();
  // A copy, so that packing does not rebuild the dist/ that other tests are running.
  const copy = path.join(home.path, "project");
  await mkdir(copy);
  for (const name of packed) await cp(path.join(project, name), path.join(copy, name), { recursive: true });
  await symlink(modules, path.join(copy, "node_modules"));
  manifest = JSON.parse(await readFile(path.join(copy, "package.json"), "utf8")) as typeof manifest;
  const pack = await run("npm", ["pack", "--silent", "--offline", "--no-update-notifier", "--pack-destination", home.path], copy);
  expect(pack.status, pack.all).toBe(0);
  user = path.join(home.path, "user");
  installed = path.join(user, "node_modules", "buildlane");
  await mkdir(installed, { recursive: true });
  const unpack = await run("tar", ["-xzf", path.join(home.path, `buildlane-${manifest.version}.tgz`), "--strip-components=1", "-C", installed], home.path);
  expect(unpack.status, unpack.all).toBe(0);
  for (const name of Object.keys(manifest.dependencies)) await link(name, path.join(user, "node_modules"));
}, 180_000);
afterAll(() => home[Symbol.asyncDispose]());

describe("the packed package", () => {
  it("holds what it needs and nothing of the workshop", async () => {
    const names = await readdir(installed);
    expect(names.sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "SOLUTION.md", "bin", "dist", "machines", "migrations", "package.json"]);
    const all = await readdir(installed, { recursive: true });
    expect(all.filter((name) => /(^|\/)(test|bench|\.buildlane|node_modules)(\/|$)|\.test\./.test(name))).toEqual([]);
    expect(all.some((name) => /embedded\/template-.*\.tar\.gz$/.test(name))).toBe(true);
  });

  it("keeps to its budget of size: what it brings unpacked, and its client without the server", async () => {
    const sizes = await Promise.all((await readdir(installed, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(async (entry) => (await stat(path.join(entry.parentPath ?? entry.path, entry.name))).size));
    // Most of it is the embedded database's template.
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(12_000_000);
    const client = await Promise.all((await readdir(path.join(installed, "dist/src/client"))).filter((name) => name.endsWith(".js")).map(async (name) => (await stat(path.join(installed, "dist/src/client", name))).size));
    expect(client.reduce((sum, size) => sum + size, 0)).toBeLessThan(20_000);
  });

  it("is well-formed by the rules of package managers and bundlers", async () => {
    const { messages } = await publint({ pkgDir: installed, pack: false });
    expect(messages.filter(({ type }) => type !== "suggestion")).toEqual([]);
  });

  it("opens every door that its exports name, without development packages", async () => {
    const doors = Object.keys(manifest.exports).filter((name) => !name.endsWith(".json"));
    expect(doors).toEqual([".", "./dashboard", "./fastify", "./client", "./machines", "./testing"]);
    const found = await script(`
      const doors = ${JSON.stringify(doors)};
      const names = {};
      for (const door of doors) names[door] = Object.keys(await import("buildlane" + door.slice(1))).sort();
      console.log(JSON.stringify(names));`);
    expect(found).toMatchObject({
      ".": expect.arrayContaining(["BuildlaneError", "SettingsError", "createBuildQueue"]),
      "./fastify": expect.arrayContaining(["buildRoutes"]),
      "./machines": ["chatMachine", "jobMachine", "supervisorMachine"],
      "./testing": expect.arrayContaining(["createMemoryStore", "createSimulatedClock"]),
    });
  });

  it("builds with esbuild on a new embedded database, from the folder of its user", async () => {
    const done = await script(`
      import { createBuildQueue } from "buildlane";
      const queue = await createBuildQueue({ dataDir: "data", concurrency: 1 });
      const job = await queue.enqueue({ chatId: "c1", messageId: "m1", code: 'console.log("hi" as string)' });
      const { status, result } = await queue.waitFor(job.id);
      await queue.stop();
      console.log(JSON.stringify({ status, result }));`);
    expect(done).toEqual({ status: "completed", result: expect.stringContaining('console.log("hi")') });
    expect(await readdir(user)).toContain("data");
  }, 120_000);

  it("moves a user's time in buildlane/testing", async () => {
    const done = await script(`
      import { createBuildQueue } from "buildlane";
      import { createMemoryStore, createSimulatedClock } from "buildlane/testing";
      const clock = createSimulatedClock();
      const queue = await createBuildQueue({ store: createMemoryStore({ clock }), clock, run: async () => "built" });
      const job = await queue.enqueue({ chatId: "c1", messageId: "m1", code: "1", delayMs: 3_600_000 });
      const { result } = await clock.until(queue.waitFor(job.id));
      const waitedMs = clock.monotonic();
      await clock.until(queue.stop());
      console.log(JSON.stringify({ result, waitedMs }));`);
    expect(done).toEqual({ result: "built", waitedMs: expect.any(Number) });
    expect((done as { waitedMs: number }).waitedMs).toBeGreaterThanOrEqual(3_600_000);
  });

  it("answers its command by name", async () => {
    const { bin } = JSON.parse(await readFile(path.join(installed, "package.json"), "utf8")) as { bin: { buildlane: string } };
    const command = path.join(installed, bin.buildlane);
    expect(await readFile(command, "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
    const { status, stdout } = await run(process.execPath, [command, "--version"], user);
    expect([status, stdout.trim()]).toEqual([0, manifest.version]);
  });

  it("tells TypeScript what it is: types resolve at every door and are not any", async () => {
    for (const name of ["typescript", "@types/node"]) await link(name, path.join(user, "node_modules"));
    await writeFile(path.join(user, "package.json"), JSON.stringify({ type: "module" }));
    await writeFile(path.join(user, "tsconfig.json"), JSON.stringify({ compilerOptions: { target: "es2022", lib: ["es2023", "esnext.disposable"], module: "nodenext", strict: true, noEmit: true, skipLibCheck: true, types: ["node"] }, include: ["user.ts"] }));
    await writeFile(
      path.join(user, "user.ts"),
      `import Fastify from "fastify";
import type { SnapshotFrom } from "xstate";
import { createBuildQueue, BuildlaneError } from "buildlane";
import type { BuildQueue, FinishedJob, Run } from "buildlane";
import { buildRoutes } from "buildlane/fastify";
import { jobMachine } from "buildlane/machines";
import { createMemoryStore, createSimulatedClock } from "buildlane/testing";

const clock = createSimulatedClock({ seed: 1 });
const run: Run = async (job, { signal, attempt }) => \`\${job.chatId} \${attempt} \${signal.aborted}\`;
const queue: BuildQueue = await createBuildQueue({ store: createMemoryStore({ clock }), clock, concurrency: 3, run });
const done: FinishedJob = await queue.waitFor((await queue.enqueue({ chatId: "c", messageId: "m", code: "1" })).id);
// A failed job has no result to read.
const result: string = done.status === "completed" ? done.result : done.error;
const app = Fastify();
await app.register(buildRoutes, { queue, prefix: "/api/builds" });
declare const snapshot: SnapshotFrom<typeof jobMachine>;
export const running: boolean = snapshot.matches("running");
export { result, BuildlaneError };

// @ts-expect-error neither code nor files
await queue.enqueue({ chatId: "c", messageId: "m" });
// @ts-expect-error no such setting
await createBuildQueue({ concurency: 3 });
// @ts-expect-error the routes need their queue
await app.register(buildRoutes, { prefix: "/api/builds" });
// @ts-expect-error a clock is no number
createMemoryStore({ clock: 5 });
// @ts-expect-error there is no such state
snapshot.matches("nowhere");
`,
    );
    const { status, all } = await run(process.execPath, [path.join(modules, "typescript", "bin", "tsc"), "-p", "."], user);
    expect([status, all]).toEqual([0, ""]);
  }, 120_000);
});
