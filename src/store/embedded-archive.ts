/** The embedded database's folder as one file, a tar that is gzipped: what a first start and a restore begin with. */
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { createTar, parseTar } from "nanotar";
import type { ParsedTarFileItem } from "nanotar";

/** Each with its path in the folder; no path leads out of it. */
export type ArchivedFiles = ParsedTarFileItem[];

/** In pieces of a megabyte: in those of zlib's default it takes twice as long. */
export const unzip = (file: Uint8Array): Promise<Buffer> => promisify(gunzip)(file, { chunkSize: 1 << 20 });

/** Throws when the archive is not whole. */
export function filesOf(tar: Uint8Array): ArchivedFiles {
  // All of what is behind it would be read, which is more where others have a part of it.
  const isWhole = tar.byteLength === tar.buffer.byteLength;
  return parseTar((isWhole ? tar : new Uint8Array(tar)).buffer as ArrayBuffer);
}

/** Makes `folder`, which is then its owner's alone, with all of them. PGlite's own way (`loadDataDir`) takes a second longer and 100 MB more. */
export async function writeFiles(files: ArchivedFiles, folder: string): Promise<void> {
  // It may be there, empty: what a container mounts.
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const { name, type, data } of files) {
    const target = path.join(folder, name);
    if (type === "directory") await mkdir(target, { recursive: true });
    else await writeFile(target, data ?? "");
  }
}

/** A folder of nothing but files and folders, which nobody writes to. */
export async function archiveOf(folder: string): Promise<Buffer> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = await Promise.all(entries.map(async (entry) => {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file).replaceAll(path.sep, "/");
    return entry.isDirectory() ? { name } : { name, data: await readFile(file) };
  }));
  // Folders before what is in them; and the last has contents, or a reader that wants an end mark after it would not see it.
  files.sort((one, other) => (one.data?.length ?? -1) - (other.data?.length ?? -1) || (one.name < other.name ? -1 : 1));
  return promisify(gzip)(createTar(files, { attrs: { mtime: 0 } }), { level: 9 });
}
