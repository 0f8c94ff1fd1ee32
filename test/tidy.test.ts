/** STYLE's habits 1 to 4, enforced: the real sources have no complaint, and every rule is seen to complain about a bad one. */
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { mutations } from "../scripts/mutations.mjs";
import { environmentOnlyInCli, importCycles, noAmbientTimeOrChance, oneOwner, oneWayImports, parse, pureMachines, rules, untidyText } from "./support/tidy-rules.js";
import type { Source } from "./support/tidy-rules.js";

const project = path.resolve(import.meta.dirname, "..");
const notOurs = /^(node_modules|dist|\.git|\.buildlane|\.cache|coverage|\.dist-.*)$/;
const isText = /\.(ts|tsx|mts|js|mjs|cjs|json|md|sql|html|css|svg|txt|yml|yaml|sh)$|^[^.]+$|^\.(npmrc|gitignore)$/;

/** Every text file of the repository. */
async function allFiles(folder = ""): Promise<Source[]> {
  const entries = await readdir(path.join(project, folder), { withFileTypes: true });
  const found = entries.filter((entry) => !notOurs.test(entry.name)).map(async (entry) => {
    const name = path.posix.join(folder, entry.name);
    if (entry.isDirectory()) return allFiles(name);
    return entry.isFile() && isText.test(entry.name) ? [{ path: name, text: await readFile(path.join(project, name), "utf8") }] : [];
  });
  return (await Promise.all(found)).flat();
}

const files = await allFiles();
const sources = await Promise.all(files.filter((file) => /^(src|machines)\/.*\.ts$/.test(file.path)).map(parse));

test("the sources follow every rule", () => {
  expect(sources.length).toBeGreaterThan(5);
  expect(sources.flatMap((file) => rules.flatMap((rule) => rule(file)))).toEqual([]);
});

test("imports go in no circle", () => {
  expect(importCycles(sources)).toEqual([]);
});

test("no file postpones work, names a machine's folder or a download address", () => {
  expect(files.some((file) => file.path === "package-lock.json")).toBe(true);
  expect(files.flatMap((file) => untidyText(file, project))).toEqual([]);
});

test("the package runs no script when it is installed", () => {
  const { scripts } = JSON.parse(files.find((file) => file.path === "package.json")?.text ?? "{}") as { scripts: Record<string, string> };
  expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
});

test("every deliberate breakage still finds the one place that it breaks", () => {
  const edits = mutations.flatMap(({ also, ...edit }) => (also ? [edit, also] : [edit]));
  const placesOf = ({ file, find }: { file: string; find: string }) => (files.find((one) => one.path === file)?.text.split(find).length ?? 0) - 1;
  expect(edits.filter((edit) => placesOf(edit) !== 1).map(({ file, find }) => `${file}: ${find}`)).toEqual([]);
});

const bad = {
  pureMachines: [
    pureMachines,
    ["machines/job.machine.ts", 'import { systemClock } from "../src/clock.js"; systemClock;', 'imports "../src/clock.js": a machine\'s only value import is "xstate"'],
    ["machines/job.machine.ts", 'import { type Job } from "../src/job.js"; export type A = Job;', "Use `import type`"],
    ["machines/job.machine.ts", 'export const late = import("node:fs");', "node:fs"],
    ["machines/job.machine.ts", 'export * from "./chat.machine.js";', "./chat.machine.js"],
  ],
  oneOwner: [
    oneOwner,
    ["src/queue.ts", 'import { sql } from "drizzle-orm";', "use the verbs of src/store"],
    ["src/queue.ts", 'import type { PgDatabase } from "drizzle-orm/pg-core";', "export the type from there"],
    ["src/http/x.ts", 'import postgres from "postgres";', "use the verbs of src/store"],
    ["src/workers/x.ts", 'import { PGlite } from "@electric-sql/pglite";', "use the verbs of src/store"],
    ["src/store/x.ts", 'import { fork } from "node:child_process";', "use the worker pool"],
    ["src/effects.ts", 'const esbuild = await import("esbuild");', "use the worker pool"],
    ["src/queue.ts", 'import type { FastifyInstance } from "fastify";', "put the route or plugin into src/http"],
    ["src/cli/serve.ts", 'import sse from "@fastify/sse";', "put the route or plugin into src/http"],
    ["src/cli/serve.ts", 'import { pino } from "pino";', "src/log.ts"],
  ],
  environmentOnlyInCli: [
    environmentOnlyInCli,
    ["src/options.ts", "export const port = process.env.PORT;", "take a setting"],
    ["src/options.ts", 'export const port = process["env"]["PORT"];', "take a setting"],
    ["src/options.ts", 'import { env } from "node:process"; export const port = env.PORT;', "take a setting"],
  ],
  noAmbientTimeOrChance: [
    noAmbientTimeOrChance,
    ["src/x.ts", "export const at = Date.now();", "clock.now()"],
    ["src/x.ts", "export const at = new Date();", "clock.now()"],
    ["machines/x.ts", "export const at = new Date;", "clock.now()"],
    ["src/x.ts", "setTimeout(() => {}, 5);", "clock.after"],
    ["src/x.ts", "export const wait = promisify(setTimeout);", "clock.after"],
    ["src/x.ts", "globalThis.setTimeout(() => {}, 5);", "clock.after"],
    ["src/x.ts", "setInterval(() => {}, 5);", "clock.after"],
    ["src/x.ts", "setImmediate(() => {});", "clock.after"],
    ["src/x.ts", 'import { setTimeout as wait } from "node:timers/promises"; await wait(5);', "take a Clock"],
    ["src/x.ts", "export const chance = Math.random();", "clock.random()"],
    ["src/x.ts", "export const at = performance.now();", "clock.monotonic()"],
    ["src/x.ts", 'import { nanoid } from "nanoid"; nanoid();', "clock.id()"],
    ["src/x.ts", "export const id = crypto.randomUUID();", "clock.id()"],
  ],
  oneWayImports: [
    oneWayImports,
    ["src/job.ts", 'import type { Store } from "./store/store.js";', "the vocabulary imports nothing from the rest"],
    ["src/store/sql/x.ts", 'import { createQueue } from "../../queue.js";', "src/store imports only the vocabulary"],
    ["src/store/x.ts", 'import type { Pool } from "../workers/pool.js";', "src/store imports only the vocabulary"],
    ["src/workers/x.ts", 'import { open } from "../store/store.js";', "src/workers imports only the vocabulary"],
    ["src/queue.ts", 'import { server } from "./http/server.js";', "only src/fastify.ts, src/dashboard.ts and the command line import src/http"],
    ["src/http/x.ts", 'import { main } from "../cli/main.js";', "nobody imports the command line"],
    ["src/index.ts", 'export * from "./http/plugin.js";', "only src/fastify.ts, src/dashboard.ts and the command line import src/http"],
  ],
} as const;

test.each(Object.values(bad).flatMap(([rule, ...cases]) => cases.map(([file, text, says]) => ({ rule, file, text, says }))))("complains about $text in $file", async ({ rule, file, text, says }) => {
  const complaints = rule(await parse({ path: file, text }));
  expect(complaints.join("\n")).toContain(says);
});

test.each([
  ["machines/job.machine.ts", 'import type { Job } from "../src/job.js"; import { setup } from "xstate"; setup({} as Job);'],
  ["machines/index.ts", 'export { jobMachine } from "./job.machine.js"; export type * from "./chat.machine.js";'],
  ["src/store/x.ts", 'import { sql } from "drizzle-orm"; import { systemClock } from "../clock.js"; import { check } from "../history/check.js"; sql; systemClock; check;'],
  ["src/http/x.ts", 'import type { Queue } from "../queue.js"; import fastify from "fastify"; export const at = (ms: number) => fastify(new Date(ms));'],
  ["src/cli/x.ts", 'import { server } from "../http/server.js"; server(process.env.PORT);'],
  ["src/x.ts", '/* Date.now() */ // Math.random()\nexport const text = "Date.now() and setTimeout"; socket.setTimeout(5); type T = typeof setTimeout;'],
  ["src/testing.ts", "export const timers = { setTimeout: (callback: () => void) => callback, clearTimeout() {} }; export const other = { setTimeout(callback: () => void) { callback(); } };"],
])("has no complaint about a good %s", async (file, text) => {
  const parsed = await parse({ path: file, text });
  expect(rules.flatMap((rule) => rule(parsed))).toEqual([]);
});

test("a circle of imports is named file by file", async () => {
  const make = (name: string, to: string) => parse({ path: `src/${name}.ts`, text: `import type { X } from "./${to}.js"; export type Y = X;` });
  const circle = await Promise.all([make("a", "b"), make("b", "c"), make("c", "b")]);
  expect(importCycles(circle)).toEqual([expect.stringContaining("src/b.ts → src/c.ts → src/b.ts")]);
});

test("untidy text is told what to do", () => {
  const word = ["TO", "DO"].join("");
  expect(untidyText({ path: "docs/a.md", text: `${word}: later` }, "/")).toEqual([expect.stringContaining("do it now")]);
  expect(untidyText({ path: "a.json", text: "file:///some/where/else/x.ts" }, "/some/where/else")).toEqual([expect.stringContaining("use a path relative to the file")]);
  expect(untidyText({ path: "package-lock.json", text: '"resolved": "https://registry.example/x.tgz"' }, "/")).toEqual([expect.stringContaining("names a download address")]);
});
