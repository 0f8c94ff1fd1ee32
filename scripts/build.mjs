#!/usr/bin/env node
/**
 * Builds `src/` and `machines/` into `dist/`, one JavaScript file for each TypeScript file, when anything changed since.
 *
 *     node scripts/build.mjs [--types] [--force]        --types: .d.ts files too, by tsc; --force: even if nothing changed
 *
 * Beside them the dashboard's page, bundled, and the embedded database's template. Everything is made in a folder beside `dist/` and renamed into place. Several builds at once wait for one another.
 */
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as esbuild from "esbuild";
import { bundleDashboard } from "./dashboard.mjs";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const dist = path.join(project, "dist");
const cache = path.join(project, "node_modules", ".cache", "buildlane");
const sourceFolders = ["src", "machines"];
const lockMsMax = 300_000;
/** What the dashboard's page is made with. */
const pagePackages = ["preact", "@preact/signals", "highlight.js"];

/** Builds when needed. Throws with the reason when it cannot. */
export async function build({ types = false, force = false, say = (line) => process.stderr.write(`${line}\n`) } = {}) {
  if (!force && (await isCurrent(types))) return;
  try {
    const held = await lock(say);
    try {
      // Whoever was first has done it.
      if (force || !(await isCurrent(types))) await buildLocked(types, say);
    } finally {
      await held.release();
    }
  } finally {
    // `npm start` goes on in this process: esbuild's helper process must not stay in it.
    await esbuild.stop();
  }
}

async function buildLocked(types, say) {
  const startedMs = performance.now();
  say("Building…");
  // What a killed build left.
  for (const name of await readdir(project)) if (/^\.dist-/.test(name)) await rm(path.join(project, name), { recursive: true, force: true });
  const part = path.join(project, `.dist-${process.pid}-${randomUUID().slice(0, 8)}`);
  try {
    const stamp = await wantedStamp(types);
    await transform(part);
    if (types) await emitTypes(part);
    await addDashboard(part, say);
    await addTemplate(part);
    // A source that changed meanwhile makes the stamp stale, so that the next start builds again.
    await writeFile(path.join(part, "stamp.json"), `${JSON.stringify(stamp)}\n`);
    const old = `${part}-old`;
    if (existsSync(dist)) await rename(dist, old);
    await rename(part, dist);
    await rm(old, { recursive: true, force: true });
  } finally {
    await rm(part, { recursive: true, force: true });
  }
  say(`Built in ${((performance.now() - startedMs) / 1000).toFixed(1)} s.`);
}

async function transform(into) {
  await esbuild.build({
    absWorkingDir: project, entryPoints: await sources(), outdir: into, outbase: project, logLevel: "silent",
    bundle: false, format: "esm", platform: "node", target: "node20", sourcemap: true, sourcesContent: false,
  });
}

async function emitTypes(into) {
  const config = `${into}-types.json`;
  await writeFile(config, JSON.stringify({ extends: "./tsconfig.json", include: sourceFolders, compilerOptions: { rootDir: ".", outDir: into, declaration: true, emitDeclarationOnly: true } }));
  try {
    await run([path.join(project, "node_modules", "typescript", "bin", "tsc"), "-p", config]);
  } finally {
    await rm(config, { force: true });
  }
}

/** The page's own packages are for development: where they are left out, the service runs without its dashboard and says so. */
async function addDashboard(part, say) {
  try {
    await bundleDashboard(path.join(part, "dashboard"));
  } catch (error) {
    if (!pagePackages.some((name) => error.message.includes(`Could not resolve "${name}`))) throw error;
    await rm(path.join(part, "dashboard"), { recursive: true, force: true });
    say("The dashboard is left out: its packages are not installed (npm ci without --omit=dev installs them).");
  }
}

/** The embedded database's first contents, by a process of its own, as making them takes 800 MB. */
async function addTemplate(part) {
  const module = pathToFileURL(path.join(part, "src", "store", "embedded-template.js")).href;
  const script = `const { addTemplate } = await import(${JSON.stringify(module)}); await addTemplate(...process.argv.slice(1));`;
  await run(["--input-type=module", "-e", script, path.join(part, "embedded"), cache], { tells: true });
}

async function isCurrent(types) {
  const built = await readFile(path.join(dist, "stamp.json"), "utf8").then(JSON.parse, () => undefined);
  if (built === undefined) return false;
  const wanted = await wantedStamp(types);
  return built.sources === wanted.sources && (built.types || !types);
}

async function wantedStamp(types) {
  const hash = createHash("sha256");
  for (const file of [...(await sources()), ...(await pageSources()), ...(await migrations()), "scripts/dashboard.mjs", "package.json", "tsconfig.json", "scripts/build.mjs"]) {
    const content = await readFile(path.join(project, file)).catch(() => "");
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  for (const name of ["esbuild", "@electric-sql/pglite"]) hash.update(`${name}\0${await versionOf(name)}\0`);
  // Where they come later, the next start builds again, with the dashboard.
  for (const name of pagePackages) hash.update(`${name}\0${await versionOf(name).catch(() => "none")}\0`);
  return { sources: hash.digest("hex"), types };
}

async function sources() {
  const found = await Promise.all(sourceFolders.map(async (folder) => {
    const entries = await readdir(path.join(project, folder), { recursive: true, withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isFile() && /\.ts$/.test(entry.name) && !entry.name.endsWith(".d.ts")).map((entry) => path.relative(project, path.join(entry.parentPath ?? entry.path, entry.name)));
  }));
  return found.flat().sort();
}

/** What the dashboard's page is made of. */
async function pageSources() {
  const entries = await readdir(path.join(project, "src", "dashboard"), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => path.relative(project, path.join(entry.parentPath ?? entry.path, entry.name))).sort();
}

/** What the embedded database's template holds. */
const migrations = async () => (await readdir(path.join(project, "migrations"))).filter((name) => name.endsWith(".sql")).sort().map((name) => path.join("migrations", name));

const versionOf = async (name) => JSON.parse(await readFile(path.join(project, "node_modules", name, "package.json"), "utf8")).version;

/** Runs Node; what it says is shown only when it fails, or what it `tells` on stderr at once. */
async function run(args, { tells = false } = {}) {
  const child = spawn(process.execPath, args, { cwd: project, stdio: ["ignore", "pipe", tells ? "inherit" : "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => void (said += data));
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  if (code !== 0) throw new Error(said.trim() || `A step of the build ended with status ${code}.`);
}

/** One build at a time per project, by the lock of the embedded database: a socket, dropped by the kernel with its holder. */
async function lock(say) {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: project, entryPoints: ["src/store/embedded-lock.ts"], logLevel: "silent", write: false,
    bundle: true, format: "esm", platform: "node", target: "node20",
  });
  const { lockFolder } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
  await mkdir(cache, { recursive: true });
  const deadlineMs = performance.now() + lockMsMax;
  for (let told = false; ; told = true) {
    try {
      return await lockFolder(cache);
    } catch (error) {
      if (!/is in use by another process/.test(error.message)) throw error;
      if (performance.now() > deadlineMs) throw new Error("Another process has been building for five minutes. Stop it and try again.");
      if (!told) say("Another process is building; waiting for it.");
      await delay(100);
    }
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await build({ types: process.argv.includes("--types"), force: process.argv.includes("--force") }).catch((error) => {
    process.stderr.write(`The build failed.\n${error.message}\n`);
    process.exitCode = 1;
  });
}
