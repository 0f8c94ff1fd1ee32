/**
 * The embedded database's first contents. Making them (initdb inside WASM) takes 4 to 19 s and up to 800 MB, so it is
 * done once: at build time into `dist/embedded/`, or, run from the sources, into `node_modules/.cache/buildlane/`.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { PGlite } from "@electric-sql/pglite";

/** Reads the template as PGlite's `loadDataDir` wants it; makes and caches it where there is none. */
export async function embeddedTemplate(onProgress: (line: string) => void = () => {}): Promise<Blob> {
  const zipped = await firstReadable(templateFiles());
  if (zipped) return asTar(await promisify(gunzip)(zipped));
  onProgress("Preparing the embedded database's template; only the first start does this (5 to 20 s).");
  const made = await makeTemplate();
  // A folder that cannot be written to, such as that of a global install, costs the time again at the next first start.
  await writeTemplate(cacheFile(), made).catch(() => {});
  return asTar(await promisify(gunzip)(made));
}

/** For the build: makes the template at `file` unless it is there. */
export async function ensureTemplate(file: string): Promise<void> {
  if (!(await firstReadable([file]))) await writeTemplate(file, await makeTemplate());
}

/** Bound to the exact PGlite: another one may have another catalog. */
export const templateName = (): string => `template-${pgliteVersion()}.tar.gz`;

async function makeTemplate(): Promise<Buffer> {
  const client = await PGlite.create();
  try {
    // So that the dump needs no recovery.
    await client.exec("checkpoint");
    const tar = await client.dumpDataDir("none");
    return await promisify(gzip)(Buffer.from(await tar.arrayBuffer()), { level: 9 });
  } finally {
    await client.close();
  }
}

async function writeTemplate(file: string, zipped: Buffer): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const part = `${file}.${process.pid}`;
  await writeFile(part, zipped);
  await rename(part, file);
}

const here = path.dirname(fileURLToPath(import.meta.url));
/** From `src/store` and from `dist/src/store` alike: the folder that holds `src`. */
const above = path.resolve(here, "..", "..");
const project = path.basename(above) === "dist" ? path.dirname(above) : above;

const cacheFile = (): string => path.join(project, "node_modules", ".cache", "buildlane", templateName());
/** Where a template may be, best first. */
export const templateFiles = (): string[] => [path.join(project, "dist", "embedded", templateName()), cacheFile()];

function pgliteVersion(): string {
  const entry = createRequire(import.meta.url).resolve("@electric-sql/pglite");
  const packageJson = createRequire(import.meta.url)(path.resolve(path.dirname(entry), "..", "package.json")) as { version: string };
  return packageJson.version;
}

async function firstReadable(files: string[]): Promise<Buffer | undefined> {
  for (const file of files) {
    const content = await readFile(file).catch(() => undefined);
    if (content) return content;
  }
  return undefined;
}

// Unzipped by Node: PGlite's own way is several times slower.
const asTar = (content: Buffer): Blob => new Blob([new Uint8Array(content)], { type: "application/x-tar" });
