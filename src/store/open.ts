/** Chooses and opens the store: memory, the embedded database of a folder, or a PostgreSQL; migrated and ready. */
import type { Clock } from "../clock.js";
import { openEmbedded } from "./embedded.js";
import { createMemoryStore } from "./memory.js";
import { reaching } from "./sql/database.js";
import { migrate } from "./sql/migrate.js";
import { createSqlStore } from "./sql/index.js";
import { pgliteDatabase } from "./sql/pglite.js";
import { postgresDatabase } from "./sql/postgres.js";
import type { Store } from "./store.js";

export interface StoreChoice {
  store?: "memory" | Store | undefined;
  databaseUrl?: string | undefined;
  dataDir: string;
  nodeId: string;
  clock: Clock;
  onProgress?: ((line: string) => void) | undefined;
  /** Tells of a failed upkeep of the embedded database. */
  onUpkeepError?: ((error: unknown) => void) | undefined;
}

export async function openStore({ store, databaseUrl, dataDir, nodeId, clock, onProgress, onUpkeepError }: StoreChoice): Promise<Store> {
  if (store === "memory") return createMemoryStore({ clock });
  if (store !== undefined) return store;
  if (databaseUrl !== undefined) {
    const database = postgresDatabase(databaseUrl, { clock });
    try {
      await reaching(() => migrate(database));
    } catch (error) {
      await database.close();
      throw error;
    }
    return createSqlStore(database, { nodeId, clock });
  }
  const embedded = await openEmbedded(dataDir, { clock, ...(onProgress ? { onProgress } : {}), ...(onUpkeepError ? { onUpkeepError } : {}) });
  try {
    const database = pgliteDatabase(embedded.client, () => embedded.close());
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

/** Applies missing migrations; their names. */
export async function migrateDatabase(databaseUrl: string, clock: Clock): Promise<string[]> {
  const database = postgresDatabase(databaseUrl, { clock, connections: 1 });
  try {
    return await reaching(() => migrate(database));
  } finally {
    await database.close();
  }
}
