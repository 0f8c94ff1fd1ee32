/**
 * The embedded database: PGlite, PostgreSQL compiled to WASM, in a folder of its own that one process at a time may use.
 * What PGlite leaves to its user is done here: a lock, a folder per major version, a quick and crash-safe first start,
 * and the upkeep of a server's background processes.
 *
 * Durability: a commit is written to the kernel (`synchronous_commit = on`) but never fsynced, so it survives `kill -9` of
 * this process and not a power loss. With `synchronous_commit = off` it would sit in the process's memory: never do that
 * here. `full_page_writes` stays on: a kill may tear an 8 KiB write between two 4 KiB pages.
 */
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { PGlite } from "@electric-sql/pglite";
import type { Clock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { filesOf, writeFiles } from "./embedded-archive.js";
import type { ArchivedFiles } from "./embedded-archive.js";
import { databaseFolder, embeddedMajor } from "./embedded-folder.js";
import { lockFolder } from "./embedded-lock.js";
import { asTar, embeddedTemplate } from "./embedded-template.js";
import { startUpkeep } from "./embedded-upkeep.js";
import type { Upkeep } from "./embedded-upkeep.js";
import { compiledAffordably } from "./embedded-wasm.js";

/** What `serve` says at its start when it uses this. */
export const embeddedBanner = "embedded database: survives crashes, not power loss; set DATABASE_URL for production";

export interface EmbeddedOptions {
  clock: Clock;
  /** Told when something takes a while. */
  onProgress?: ((line: string) => void) | undefined;
  /** Told when a round of upkeep failed; the next one comes all the same. */
  onUpkeepError?: ((error: unknown) => void) | undefined;
  /** A backup to begin with; the folder must hold no database. */
  from?: ArchivedFiles | undefined;
}

export interface Embedded {
  client: PGlite;
  /** This start made the database. */
  fresh: boolean;
  upkeep: Upkeep;
  /** Closes the database and gives the folder free. Twice is fine. */
  close(): Promise<void>;
}

const startParams = [
  ...PGlite.defaultStartParams,
  // Of the 160 MB that PGlite takes, every start writes each page: 100 MB of this process, 0.4 s. What does not fit is in the kernel's cache.
  ...["-c", "shared_buffers=32MB"],
  // PostgreSQL keeps up to max_wal_size of old WAL for reuse, by default 1 GB; upkeep makes checkpoints long before.
  ...["-c", "max_wal_size=96MB", "-c", "min_wal_size=32MB"],
];

/** Opens the database in `<dataDir>/pg18/`, and makes it when it is not there. Throws SettingsError when the folder cannot be used. */
export async function openEmbedded(dataDir: string, { clock, onProgress, onUpkeepError, from }: EmbeddedOptions): Promise<Embedded> {
  const home = path.resolve(dataDir);
  await mkdir(home, { recursive: true }).catch((cause: unknown) => {
    throw new SettingsError(`The data folder ${home} cannot be made (${String(cause)}). Set dataDir (BUILDLANE_DATA_DIR) to a folder that can be written to.`, { cause });
  });
  const lock = await lockFolder(home);
  try {
    const { client, fresh } = await openLocked(home, onProgress, from);
    const upkeep = startUpkeep(client, clock, onUpkeepError ?? (() => {}));
    return { client, fresh, upkeep, close: once(() => closeAll(client, upkeep, () => lock.release())) };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The same, in memory, for tests. */
export async function openInMemory({ clock, onProgress, onUpkeepError }: EmbeddedOptions): Promise<Embedded> {
  const client = await PGlite.create({ loadDataDir: asTar(await embeddedTemplate(onProgress)), startParams });
  const upkeep = startUpkeep(client, clock, onUpkeepError ?? (() => {}));
  return { client, fresh: true, upkeep, close: once(() => closeAll(client, upkeep, async () => {})) };
}

async function openLocked(home: string, onProgress?: (line: string) => void, from?: ArchivedFiles): Promise<{ client: PGlite; fresh: boolean }> {
  const folder = databaseFolder(home);
  // It stands while the first contents are being written: a first start that was killed begins anew.
  const marker = `${folder}.unfinished`;
  const entries = await readdir(home);
  if (entries.includes(path.basename(marker))) await rm(folder, { recursive: true, force: true });
  const fresh = await isFresh(home, folder);
  if (!fresh && from) throw new SettingsError(`${folder} holds a database already. Restore into another folder, or move that one away.`);
  if (!fresh) return { client: await create(folder), fresh };
  await writeFile(marker, "");
  const client = await create(folder, from ?? filesOf(await embeddedTemplate(onProgress)));
  await rm(marker, { force: true }).catch(async (error: unknown) => {
    await client.close();
    throw error;
  });
  return { client, fresh };
}

/** Whether the database must be made; throws when what is there is not ours to open. */
async function isFresh(home: string, folder: string): Promise<boolean> {
  const version = await readFile(path.join(folder, "PG_VERSION"), "utf8").then((text) => text.trim(), () => undefined);
  if (version === String(embeddedMajor)) return false;
  const instead = "Move it away or set BUILDLANE_DATA_DIR to another folder";
  if (version !== undefined) throw new SettingsError(`${folder} holds a database of PostgreSQL ${version}, and this Buildlane needs ${embeddedMajor}. ${instead}; the Buildlane that wrote it can still open it.`);
  const content = await readdir(folder).catch(() => []);
  if (content.length > 0) throw new SettingsError(`${folder} holds files but no database (no PG_VERSION). ${instead}.`);
  const older = (await readdir(home)).filter((name) => /^pg\d+$/.test(name) && path.join(home, name) !== folder);
  if (older.length > 0) throw new SettingsError(`${home} holds a database of another PostgreSQL (${older.join(", ")}), and this Buildlane uses pg${embeddedMajor}. ${instead} to begin an empty one; the Buildlane that wrote it can still open it.`);
  return true;
}

async function create(folder: string, files?: ArchivedFiles): Promise<PGlite> {
  try {
    if (files) await writeFiles(files, folder);
    return await compiledAffordably(() => PGlite.create({ dataDir: folder, startParams }));
  } catch (cause) {
    throw new Error(`The embedded database in ${folder} could not be opened (${String(cause)}).`, { cause });
  }
}

async function closeAll(client: PGlite, upkeep: Upkeep, release: () => Promise<void>): Promise<void> {
  await upkeep.stop();
  try {
    if (!client.closed) await client.close();
  } finally {
    await release();
  }
}

function once(close: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | undefined;
  return () => (closing ??= close());
}
