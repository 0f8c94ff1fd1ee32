/**
 * The embedded database as one file, taken while it runs: a tar of the data folder, gzipped. PGlite is one process and one
 * connection, so between two statements the folder is whole, like after a crash that lost nothing.
 */
import type { PGlite } from "@electric-sql/pglite";
import { SettingsError } from "../errors.js";
import { filesOf, unzip } from "./embedded-archive.js";
import type { ArchivedFiles } from "./embedded-archive.js";
import { embeddedMajor } from "./embedded-folder.js";

/** Statements wait while the folder is copied, not while it is compressed. */
export async function backUp(client: PGlite): Promise<ReadableStream<Uint8Array>> {
  // What is copied after a checkpoint needs little of the log to be replayed.
  await client.exec("checkpoint");
  const tar = await client._runExclusiveTransaction(() => client.dumpDataDir("none"));
  return tar.stream().pipeThrough(new CompressionStream("gzip") as never);
}

/** What a backup holds, once it is known to be one of this version. Throws SettingsError. */
export async function readBackup(file: Uint8Array): Promise<ArchivedFiles> {
  let files: ArchivedFiles;
  try {
    files = filesOf(await unzip(file));
  } catch (cause) {
    throw new SettingsError("The file is not a backup: it is not gzipped, or not whole.", { cause });
  }
  const major = files.find(({ name }) => name === "PG_VERSION")?.text.trim();
  if (major === undefined) throw new SettingsError("The file is not a backup of an embedded database: it has no PG_VERSION.");
  if (major !== String(embeddedMajor)) throw new SettingsError(`The backup is of PostgreSQL ${major}, and this Buildlane needs ${embeddedMajor}. Restore it with the Buildlane that made it.`);
  return files;
}
