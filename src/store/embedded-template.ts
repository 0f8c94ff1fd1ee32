/**
 * The embedded database's first contents: a new database with every migration applied. Making a new one (initdb inside
 * WASM) takes 4 to 19 s and up to 800 MB, and the migrations a few more, so it is done once: at build time into
 * `dist/embedded/`, or, run from the sources, into `node_modules/.cache/buildlane/`.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { PGlite } from "@electric-sql/pglite";
import { systemClock } from "../clock.js";
import { archiveOf, filesOf, unzip, writeFiles } from "./embedded-archive.js";
import { compiledQuickly } from "./embedded-wasm.js";
import { migrate, readMigrations } from "./sql/migrate.js";
import { pgliteDatabase } from "./sql/pglite.js";

/** The template's tar; makes and caches it where there is none. */
export async function embeddedTemplate(onProgress: (line: string) => void = () => {}): Promise<Buffer> {
  const [built, cached] = templateFiles();
  const zipped = (await read(built)) ?? (await cachedAt(cached, () => makeTemplate(path.dirname(cached), onProgress)));
  return unzip(zipped);
}

/** For the build: puts the template into `folder`, by way of `cache`, where it may be from a build before. */
export async function addTemplate(folder: string, cache: string): Promise<void> {
  const made = await cachedAt(path.join(cache, templateName()), () => makeTemplate(cache, (line) => void process.stderr.write(`${line}\n`)));
  await write(path.join(folder, templateName()), made);
}

/** Goes up with each change of how these are made, so that what a cache holds of before is not taken. */
const edition = 2;

/** Bound to the exact PGlite, since another one may have another catalog, and to the migrations that it holds. */
function templateName(): string {
  const migrations = createHash("sha256").update(readMigrations().map(({ hash }) => hash).join()).digest("hex");
  return `template-${edition}-${pgliteVersion()}-${migrations.slice(0, 12)}.tar.gz`;
}

async function makeTemplate(cache: string, onProgress: (line: string) => void): Promise<Buffer> {
  onProgress("Preparing the embedded database's template; done once (5 to 20 s).");
  const initial = await cachedAt(path.join(cache, `initial-${edition}-${pgliteVersion()}.tar.gz`), () => archived(async () => {}, dropOthers));
  return archived(
    async (folder) => writeFiles(filesOf(await unzip(initial)), folder),
    (client) => migrate(pgliteDatabase(client, { clock: systemClock, close: async () => {} })),
  );
}

/**
 * The databases beside ours, which new ones would be copied from: three files of five, which each first start would write.
 * And nobody vacuums them, so that they would bring the end of transaction numbers near.
 */
async function dropOthers(client: PGlite): Promise<void> {
  for (const name of ["template0", "template1"]) {
    await client.exec(`alter database ${name} is_template false`);
    await client.exec(`drop database ${name}`);
  }
}

/** A database that begins with what `fill` leaves in a folder, after `work`. It was closed, so it needs no recovery. */
async function archived(fill: (folder: string) => Promise<void>, work: (client: PGlite) => Promise<unknown>): Promise<Buffer> {
  const home = await mkdtemp(path.join(tmpdir(), "buildlane-template-"));
  try {
    const folder = path.join(home, "database");
    await fill(folder);
    const client = await compiledQuickly(() => PGlite.create(folder));
    try {
      await work(client);
    } finally {
      await client.close();
    }
    return await archiveOf(folder);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function cachedAt(file: string, make: () => Promise<Buffer>): Promise<Buffer> {
  const cached = await read(file);
  if (cached) return cached;
  const made = await make();
  // A folder that cannot be written to, such as that of a global install, costs the time again at the next first start.
  await write(file, made).catch(() => {});
  return made;
}

const read = (file: string): Promise<Buffer | undefined> => readFile(file).catch(() => undefined);
async function write(file: string, content: Buffer): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const part = `${file}.${process.pid}`;
  await writeFile(part, content);
  await rename(part, file);
}

const here = path.dirname(fileURLToPath(import.meta.url));
/** From `src/store` and from `dist/src/store` alike: the folder that holds `src`. */
const above = path.resolve(here, "..", "..");
const project = path.basename(above) === "dist" ? path.dirname(above) : above;

/** Where a template may be: as built, and as made here. */
export const templateFiles = (): [string, string] => [path.join(project, "dist", "embedded", templateName()), path.join(project, "node_modules", ".cache", "buildlane", templateName())];

function pgliteVersion(): string {
  const entry = createRequire(import.meta.url).resolve("@electric-sql/pglite");
  const packageJson = createRequire(import.meta.url)(path.resolve(path.dirname(entry), "..", "package.json")) as { version: string };
  return packageJson.version;
}

/** As PGlite's `loadDataDir` wants it. */
export const asTar = (content: Buffer): Blob => new Blob([new Uint8Array(content)], { type: "application/x-tar" });
