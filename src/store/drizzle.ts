/**
 * What the store uses of Drizzle, by its CommonJS files. For each of its hundred ECMAScript modules Node 24 parses
 * Drizzle's package.json of 180 kB anew: 1.4 s of processor time for each process that begins, commands too, where these
 * take 0.2 s. What a caller's own Drizzle made is told by its kind (`is`), not by its class, so both may be in one process.
 */
import { createRequire } from "node:module";

const load = createRequire(import.meta.url);

export const { and, asc, desc, eq, getTableColumns, gt, gte, inArray, is, isNull, lt, lte, notInArray, sql } = load("drizzle-orm") as typeof import("drizzle-orm");
export const { PgTransaction, bigint, boolean, integer, jsonb, pgTable, primaryKey, smallint, text, timestamp, unionAll } = load("drizzle-orm/pg-core") as typeof import("drizzle-orm/pg-core");
export const { drizzle: drizzlePglite } = load("drizzle-orm/pglite") as typeof import("drizzle-orm/pglite");
export const { drizzle: drizzlePostgres } = load("drizzle-orm/postgres-js") as typeof import("drizzle-orm/postgres-js");
