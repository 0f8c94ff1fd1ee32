/**
 * The embedded database's first contents: a new database with every migration applied. Making a new one (initdb inside
 * WASM) takes 4 to 19 s and up to 800 MB, and the migrations a few more, so it is done once: at build time into
 * `dist/embedded/`, or, run from the sources, into `node_modules/.cache/buildlane/`.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { PGlite } from "@electric-sql/pglite";
import { systemClock } from "../clock.js";
import { migrate, readMigrations } from "./sql/migrate.js";
import { pgliteDatabase } from "./sql/pglite.js";

/** Reads the template as PGlite's `loadDataDir` wants it; makes and caches it where there is none. */
export async function embeddedTemplate(onProgress: (line: string) => void = () => {}): Promise<Blob> {
  const [built, cached] = templateFiles();
  const zipped = (await read(built)) ?? (await cachedAt(cached, () => makeTemplate(path.dirname(cached), onProgress)));
  return asTar(await promisify(gunzip)(zipped));
}

/** For the build: puts the template into `folder`, by way of `cache`, where it may be from a build before. */
export async function addTemplate(folder: string, cache: string): Promise<void> {
  const made = await cachedAt(path.join(cache, templateName()), () => makeTemplate(cache, (line) => void process.stderr.write(`${line}\n`)));
  await write(path.join(folder, templateName()), made);
}

/** Bound to the exact PGlite, since another one may have another catalog, and to the migrations that it holds. */
function templateName(): string {
  const migrations = createHash("sha256").update(readMigrations().map(({ hash }) => hash).join()).digest("hex");
  return `template-${pgliteVersion()}-${migrations.slice(0, 12)}.tar.gz`;
}

async function makeTemplate(cache: string, onProgress: (line: string) => void): Promise<Buffer> {
  onProgress("Preparing the embedded database's template; done once (5 to 20 s).");
  const initial = await cachedAt(path.join(cache, `initial-${pgliteVersion()}.tar.gz`), async () => dump(await PGlite.create()));
  const client = await PGlite.create({ loadDataDir: asTar(await promisify(gunzip)(initial)) });
  return dump(client, () => migrate(pgliteDatabase(client, { clock: systemClock, close: async () => {} })));
}

async function dump(client: PGlite, fill: () => Promise<unknown> = async () => {}): Promise<Buffer> {
  try {
    await fill();
    // So that what is dumped needs no recovery.
    await client.exec("checkpoint");
    const tar = await client.dumpDataDir("none");
    return await promisify(gzip)(Buffer.from(await tar.arrayBuffer()), { level: 9 });
  } finally {
    await client.close();
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

// Unzipped by Node: PGlite's own way is several times slower.
const asTar = (content: Buffer): Blob => new Blob([new Uint8Array(content)], { type: "application/x-tar" });
