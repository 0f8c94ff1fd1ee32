/** The packed package as a stranger gets it: every door opens, with types, and only what package.json declares is needed. */
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import { mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import path from "node:path";
import { publint } from "publint";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeAtHand, versions } from "../node-versions/nodes.js";
import { moduleSmoke } from "../node-versions/smoke.js";
import { modules, packProject } from "../support/packed.js";
import type { Packed } from "../support/packed.js";
import { quickWasm } from "../support/quick-wasm.js";

let packed: Packed;
let { user, installed, manifest, run, link } = {} as Packed;

/** Runs a module in the user's folder; what it printed, as JSON. */
async function script(text: string): Promise<unknown> {
  const { status, stdout, all } = await run(process.execPath, [...quickWasm, "--input-type=module", "-e", text], user);
  if (status !== 0) throw new Error(all);
  return JSON.parse(stdout);
}

beforeAll(async () => {
  packed = await packProject();
  ({ user, installed, manifest, run, link } = packed);
}, 180_000);
afterAll(() => packed?.[Symbol.asyncDispose]());

describe("the packed package", () => {
  it("holds what it needs and nothing of the workshop", async () => {
    const names = await readdir(installed);
    expect(names.sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "SOLUTION.md", "bin", "dist", "docs", "examples", "machines", "migrations", "package.json"]);
    const all = await readdir(installed, { recursive: true });
    // Pages to read, not their pictures; no map to sources that are not there, and nothing of the build's own.
    expect(all.filter((name) => /\.(map|webp|png)$|stamp\.json$/.test(name))).toEqual([]);
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

  it("tells TypeScript the truth about every door, to whatever looks for it from an ES module", async () => {
    const result = await checkPackage(createPackageFromTarballData(await readFile(packed.tarball)), { excludeEntrypoints: ["./package.json"] });
    if (!result.types) throw new Error("no types were found");
    expect(Object.keys(result.entrypoints)).toEqual([".", "./dashboard", "./fastify", "./client", "./machines", "./testing"]);
    // It is ESM only: resolution as of Node 10, and `require` where it cannot load ES modules, are not meant to work.
    const meant = result.problems.filter((problem) => !["node10", "node16-cjs"].includes("resolutionKind" in problem ? problem.resolutionKind : "resolutionOption" in problem ? problem.resolutionOption : ""));
    expect(meant).toEqual([]);
  }, 60_000);

  it("has a client for browsers that brings nothing of the server, and nothing of Node's", async () => {
    const { metafile, outputFiles } = await build({ stdin: { contents: 'export * from "buildlane/client";', resolveDir: user }, bundle: true, write: false, metafile: true, format: "esm", platform: "browser", minify: true, absWorkingDir: user });
    const inputs = Object.keys(metafile.inputs).filter((name) => name !== "<stdin>");
    expect(inputs.length).toBeGreaterThan(1);
    expect(inputs.filter((name) => !/node_modules\/buildlane\/dist\/src\/client\//.test(name))).toEqual([]);
    // Whatever it imports was bundled: a module of Node's would have been refused or left.
    expect(metafile.outputs["<stdout>"]?.imports ?? Object.values(metafile.outputs)[0]?.imports).toEqual([]);
    const text = outputFiles[0]?.text ?? "";
    expect(builtinModules.filter((name) => text.includes(`"node:${name}"`))).toEqual([]);
    expect(text.length).toBeLessThan(12_000);
  });

  it("has types for a page that knows neither Node nor a database, of all that the client answers with", async () => {
    const page = path.join(user, "page");
    await mkdir(page);
    const compilerOptions = { strict: true, module: "esnext", moduleResolution: "bundler", target: "es2022", lib: ["es2023", "dom", "dom.asynciterable"], types: [], skipLibCheck: false, noEmit: true };
    await writeFile(path.join(page, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["page.ts"] }));
    await writeFile(path.join(page, "page.ts"), `
      import { createClient } from "buildlane/client";
      import type { Health, QueueStats, Why } from "buildlane/client";
      const client = createClient();
      const { processing: { p50 } }: QueueStats = await client.stats();
      const { reason, behind }: Why = await client.why("id");
      const health: Health = await client.health();
      export const told: [number | null, boolean, number | undefined, boolean] = [p50, reason === "backing_off", behind?.chatSeq, health.queue.queuePaused];
      // @ts-expect-error no such reason
      reason === "bored";
      // @ts-expect-error no such figure
      (await client.stats()).totalLost;
    `);
    expect((await run(process.execPath, [path.join(modules, "typescript/bin/tsc"), "-p", page], user)).all).toBe("");
  }, 60_000);

  describe.each(versions)("on Node %s", (version) => {
    const node = nodeAtHand(version);
    if (node === null) process.stderr.write(`Skipped: the package on Node ${version} (not fetched; npm run node-versions fetches it and asks more).\n`);
    it.skipIf(node === null)(`builds as a module${node === null ? " (not here: not fetched; npm run node-versions)" : ""}`, async () => {
      expect(await moduleSmoke(node as string, packed)).toBe(version);
    }, 60_000);
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

  it("serves the dashboard at the root, whole", async () => {
    const found = await script(`
      import Fastify from "fastify";
      import { dashboard } from "buildlane/dashboard";
      const app = Fastify();
      await app.register(dashboard);
      const page = await app.inject("/");
      const assets = [...page.body.matchAll(/(?:src|href)="(\\/assets\\/[^"]+)"/g)].map(([, name]) => name);
      const sizes = {};
      for (const name of assets) { const { statusCode, body } = await app.inject(name); sizes[name.replace(/-.*\\./, ".")] = statusCode === 200 && body.length > 5000; }
      console.log(JSON.stringify({ status: page.statusCode, type: page.headers["content-type"], sizes, preview: (await app.inject("/preview")).statusCode }));`);
    expect(found).toEqual({ status: 200, type: "text/html; charset=utf-8", sizes: { "/assets/app.js": true, "/assets/style.css": true }, preview: 200 });
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
    for (const name of ["typescript", "@types/node"]) await link(name);
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
