/** Chooses and opens the store: memory, the embedded database of a folder, or a PostgreSQL; migrated and ready. */
import { rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import type { PGlite } from "@electric-sql/pglite";
import type { Sql } from "postgres";
import type { Clock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { openEmbedded } from "./embedded.js";
import { readBackup } from "./embedded-backup.js";
import { databaseFolder } from "./embedded-folder.js";
import { createMemoryStore } from "./memory.js";
import { reaching } from "./sql/database.js";
import type { Database } from "./sql/database.js";
import { migrate } from "./sql/migrate.js";
import { createSqlStore } from "./sql/index.js";
import { pgliteDatabase } from "./sql/pglite.js";
import { overPostgres, postgresDatabase } from "./sql/postgres.js";
import { startUpkeep } from "./embedded-upkeep.js";
import type { CallersDatabase, Store } from "./store.js";

export interface StoreChoice {
  store?: "memory" | Store | undefined;
  db?: CallersDatabase | undefined;
  databaseUrl?: string | undefined;
  databasePrepare?: "auto" | "on" | "off" | undefined;
  databaseNotify?: boolean | undefined;
  dataDir: string;
  nodeId: string;
  clock: Clock;
  onProgress?: ((line: string) => void) | undefined;
  /** Tells of a failed upkeep of the embedded database. */
  onUpkeepError?: ((error: unknown) => void) | undefined;
}

export async function openStore({ store, db, databaseUrl, databasePrepare, databaseNotify, dataDir, nodeId, clock, onProgress, onUpkeepError }: StoreChoice): Promise<Store> {
  if (store === "memory") return createMemoryStore({ clock });
  if (store !== undefined) return store;
  if (db !== undefined) return overMigrated(callersDatabase(db, clock, onUpkeepError ?? (() => {})), { nodeId, clock });
  if (databaseUrl !== undefined) return overMigrated(postgresDatabase(databaseUrl, { clock, prepare: databasePrepare, notify: databaseNotify }), { nodeId, clock });
  const embedded = await openEmbedded(dataDir, { clock, ...(onProgress ? { onProgress } : {}), ...(onUpkeepError ? { onUpkeepError } : {}) });
  try {
    const database = pgliteDatabase(embedded.client, { clock, close: () => embedded.close() });
    await migrate(database);
    const opened = createSqlStore(database, { nodeId, clock });
    // The folder is ours alone, so whoever else holds lanes is dead: they can be taken at once.
    await opened.endLeases({ exceptNodeId: nodeId });
    return opened;
  } catch (error) {
    await embedded.close();
    throw error;
  }
}

/** A lock first, then statements that see what it protects: with one snapshot for a whole transaction no verb could work (migrations/0002_verbs.sql). */
async function refuseOtherIsolation(database: Database): Promise<void> {
  const isolation = await database.call<string>("select current_setting('default_transaction_isolation') as answer", [], "apart");
  if (isolation !== "read committed") throw new SettingsError(`The database begins transactions as "${isolation}"; Buildlane needs "read committed". Set it for its role: alter role … set default_transaction_isolation = 'read committed'.`);
}

async function overMigrated(database: Database, own: { nodeId: string; clock: Clock }): Promise<Store> {
  try {
    await reaching(async () => {
      await refuseOtherIsolation(database);
      await migrate(database);
    });
  } catch (error) {
    await database.close();
    throw error;
  }
  return createSqlStore(database, own);
}

/** Makes the embedded database of a folder from a backup, brought up to date; how many jobs it has. Throws SettingsError when the file or the folder will not do, or the backup is of a newer Buildlane. */
export async function restoreEmbedded(dataDir: string, backup: Uint8Array, clock: Clock): Promise<number> {
  const embedded = await openEmbedded(dataDir, { clock, from: await readBackup(backup) });
  try {
    await migrate(pgliteDatabase(embedded.client, { clock, close: async () => {} }));
    const { rows } = await embedded.client.query<{ jobs: number }>("select count(*)::int as jobs from build_jobs");
    await embedded.close();
    return rows[0]?.jobs ?? 0;
  } catch (error) {
    await embedded.close();
    await rm(databaseFolder(dataDir), { recursive: true, force: true });
    throw error;
  }
}

/** Over the client of a caller's own Drizzle database, which stays the caller's to close. */
function callersDatabase({ $client: client }: CallersDatabase, clock: Clock, onUpkeepError: (error: unknown) => void): Database {
  if (typeof client === "function" && "unsafe" in client && "begin" in client) return overPostgres(client as unknown as Sql, { clock, close: async () => {} });
  if (typeof client === "object" && client !== null && "dumpDataDir" in client) {
    // Without it the write-ahead log of a PGlite grows for ever, and the queue writes a lot.
    const upkeep = startUpkeep(client as PGlite, clock, onUpkeepError);
    return pgliteDatabase(client as PGlite, { clock, close: () => upkeep.stop(), listens: true });
  }
  throw new SettingsError("Expected db to be a Drizzle database over postgres.js or PGlite.");
}

/** Opens what is there to be read, and makes, migrates and takes over nothing. */
export async function openForReading({ databaseUrl, dataDir, clock }: Pick<StoreChoice, "databaseUrl" | "dataDir" | "clock">): Promise<Store> {
  const nodeId = clock.id();
  if (databaseUrl !== undefined) {
    const database = postgresDatabase(databaseUrl, { clock, connections: { work: 2, reads: 1 }, notify: false });
    const tables = await reaching(() => database.call<string | null>("select to_regclass('job_events')::text as answer", [], "apart")).catch(async (error: unknown) => {
      await database.close();
      throw error;
    });
    if (tables !== null) return createSqlStore(database, { nodeId, clock });
    await database.close();
    throw new SettingsError("This database holds no Buildlane. Check DATABASE_URL.");
  }
  if (!existsSync(databaseFolder(dataDir))) throw new SettingsError(`There is no embedded database in ${dataDir}. Set DATABASE_URL, or BUILDLANE_DATA_DIR to the folder of one.`);
  const embedded = await openEmbedded(dataDir, { clock });
  return createSqlStore(pgliteDatabase(embedded.client, { clock, close: () => embedded.close() }), { nodeId, clock });
}

/** Applies missing migrations; their names. */
export async function migrateDatabase(databaseUrl: string, clock: Clock): Promise<string[]> {
  const database = postgresDatabase(databaseUrl, { clock });
  try {
    return await reaching(() => migrate(database));
  } finally {
    await database.close();
  }
}

/** Whether the database has an API key, before anything is started; revoked ones count. A folder that is not there has none, and is not made. */
export async function anyKeys({ databaseUrl, dataDir, clock }: { databaseUrl?: string | undefined; dataDir: string; clock: Clock }): Promise<boolean> {
  if (databaseUrl === undefined && !existsSync(dataDir)) return false;
  const store = await openStore({ databaseUrl, dataDir, nodeId: clock.id(), clock });
  try {
    return await store.access.hasKeys();
  } finally {
    await store.close();
  }
}
