/** The three stores under one roof: how each is opened for tests, and how it is emptied between two of them. */
import { PGlite } from "@electric-sql/pglite";
import type { Store } from "../../src/store/store.js";
import { createMemoryStore } from "../../src/store/memory.js";
import { openInMemory } from "../../src/store/embedded.js";
import type { Database } from "../../src/store/sql/database.js";
import { createSqlStore } from "../../src/store/sql/index.js";
import { migrate } from "../../src/store/sql/migrate.js";
import { pgliteDatabase } from "../../src/store/sql/pglite.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import { systemClock } from "../../src/clock.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { freshDatabase } from "../support/postgres.js";
import { T0 } from "./programs.js";

export interface OpenStore {
  store: Store;
  /** The SQL store's database; none behind memory. */
  database: Database | null;
  /** Empties it; the store afterwards (memory makes a new one). */
  reset(): Promise<Store>;
  close(): Promise<void>;
}

// Reads say whether a job is delayed by the clock: it stands still, long before every job's time.
const clock = createSimulatedClock({ startMs: T0 - 1e9 });

async function empty(database: Database): Promise<void> {
  // A few rows each: deleting them takes a tenth of the time that truncating the tables does.
  const tables = ["build_jobs", "chat_lanes", "build_nodes", "job_events", "idempotency_keys", "code_crashes", "build_counters", "cluster_slots", "tenant_shares", "api_keys", "service_secrets", "operator_actions", "webhook_lanes", "webhook_state"];
  await database.transaction((tx) => tx.script(`${tables.map((table) => `delete from ${table}`).join("; ")}; update queue_state set paused_at = null, cluster_cap = null, share_at = 0, tenant_weights = '{}'`));
}

async function overSql(database: Database, close: () => Promise<void>): Promise<OpenStore> {
  await migrate(database);
  const store = createSqlStore(database, { nodeId: "n1", clock: { ...clock, after: systemClock.after } });
  return { store, database, reset: async () => (await empty(database), store), close };
}

export const openMemory = async (): Promise<OpenStore> => {
  const make = () => createMemoryStore({ clock });
  return { store: make(), database: null, reset: async () => make(), close: async () => {} };
};

export const openPglite = async (): Promise<OpenStore> => {
  const embedded = await openInMemory({ clock: systemClock });
  return overSql(pgliteDatabase(embedded.client as PGlite, { clock: systemClock, close: () => embedded.close() }), () => embedded.close());
};

export const openPostgres = async (): Promise<OpenStore> => {
  const { url, drop } = await freshDatabase();
  const database = postgresDatabase(url, { clock: systemClock });
  return overSql(database, async () => {
    await database.close();
    await drop();
  });
};
