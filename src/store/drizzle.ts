/**
 * What the store uses of Drizzle, by its CommonJS files. For each of its hundred ECMAScript modules Node 24 parses
 * Drizzle's package.json of 180 kB anew: 1.4 s of processor time for each process that begins, commands too, where these
 * take 0.2 s. What a caller's own Drizzle made is told by its kind (`is`), not by its class, so both may be in one process.
 */
import { createRequire } from "node:module";
import type { Sql } from "postgres";

const load = createRequire(import.meta.url);

export const { and, asc, desc, eq, getTableColumns, gt, gte, inArray, is, isNull, lt, lte, notInArray, sql } = load("drizzle-orm") as typeof import("drizzle-orm");
const core = load("drizzle-orm/pg-core") as typeof import("drizzle-orm/pg-core");
export const { PgTransaction, bigint, boolean, integer, jsonb, pgTable, primaryKey, smallint, text, timestamp, unionAll } = core;
export const { drizzle: drizzlePglite } = load("drizzle-orm/pglite") as typeof import("drizzle-orm/pglite");

const { PostgresJsSession } = load("drizzle-orm/postgres-js/session") as typeof import("drizzle-orm/postgres-js/session");
/** Types of dates and times, and of JSON, by their numbers in PostgreSQL: Drizzle reads and writes them itself. */
const times = ["1184", "1082", "1083", "1114", "1182", "1185", "1115", "1231"];
const json = ["114", "3802"];

/**
 * Drizzle over postgres.js, put together from its parts. Its own way in loads a postgres.js of its own, a CommonJS one, and
 * with two of them this process takes a sixth more for each job (bench/README.md, "What outlives a collection").
 */
export function drizzlePostgres(client: Sql) {
  const { parsers, serializers } = client.options as unknown as Record<"parsers" | "serializers", Record<string, (value: unknown) => unknown>>;
  const asItIs = (value: unknown) => value;
  for (const type of times) parsers[type] = asItIs;
  for (const type of [...times, ...json]) serializers[type] = asItIs;
  const dialect = new core.PgDialect();
  return new core.PgDatabase(dialect, new PostgresJsSession(client, dialect, undefined), undefined);
}
