/**
 * The embedded database as one file, taken while it runs: a tar of the data folder, gzipped. PGlite is one process and one
 * connection, so between two statements the folder is whole, like after a crash that lost nothing.
 */
import { gunzipSync } from "node:zlib";
import type { PGlite } from "@electric-sql/pglite";
import { SettingsError } from "../errors.js";
import { embeddedMajor } from "./embedded-folder.js";

/** Statements wait while the folder is copied, not while it is compressed. */
export async function backUp(client: PGlite): Promise<ReadableStream<Uint8Array>> {
  // What is copied after a checkpoint needs little of the log to be replayed.
  await client.exec("checkpoint");
  const tar = await client._runExclusiveTransaction(() => client.dumpDataDir("none"));
  return tar.stream().pipeThrough(new CompressionStream("gzip") as never);
}

/** What a backup is to PGlite, once it is known to be one of this version. Throws SettingsError. */
export function readBackup(file: Uint8Array): Blob {
  let tar: Buffer;
  try {
    tar = gunzipSync(file);
  } catch (cause) {
    throw new SettingsError("The file is not a backup: it is not gzipped, or not whole.", { cause });
  }
  const major = entryOf(tar, "PG_VERSION")?.toString().trim();
  if (major === undefined) throw new SettingsError("The file is not a backup of an embedded database: it has no PG_VERSION.");
  if (major !== String(embeddedMajor)) throw new SettingsError(`The backup is of PostgreSQL ${major}, and this Buildlane needs ${embeddedMajor}. Restore it with the Buildlane that made it.`);
  return new Blob([new Uint8Array(tar)]);
}

/** A file of a tar by the end of its path's first folder or none: names and sizes stand in headers of 512 bytes. */
function entryOf(tar: Buffer, name: string): Buffer | undefined {
  for (let at = 0; at + 512 <= tar.length; ) {
    const entry = tar.toString("utf8", at, at + 100).replace(/\0.*$/s, "");
    const size = Number.parseInt(tar.toString("utf8", at + 124, at + 136).replace(/\0.*$/s, ""), 8) || 0;
    if (entry.replace(/^(\.?\/)?/, "") === name) return tar.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return undefined;
}
