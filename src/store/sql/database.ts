/**
 * What the SQL store needs of a database, and how its two drivers' errors are told apart. PGlite and postgres.js each
 * fill it in (pglite.ts, postgres.ts); everything above them is the same SQL.
 */
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { BuildlaneError, databaseUnavailable } from "../../errors.js";
import type { Hint } from "../store.js";

/** Where hints go by NOTIFY. */
export const channel = "buildlane";

export type Orm = PgDatabase<PgQueryResultHKT, Record<string, never>>;

export interface Database {
  readonly kind: "pglite" | "postgres";
  readonly orm: Orm;
  /** Runs a prepared statement that answers one row with one column `answer`. */
  call<T>(statement: string, args: unknown[]): Promise<T>;
  /** Runs work in one transaction. */
  transaction<T>(work: (tx: { script(sql: string): Promise<void>; rows<R>(sql: string, args?: unknown[]): Promise<R[]> }) => Promise<T>): Promise<T>;
  /** Sends to other processes on the same database; only ever a hint. */
  notify(hints: Hint[]): void;
  onNotify(listener: (hint: Hint) => void): void;
  close(): Promise<void>;
}

interface DriverError {
  code?: string;
  detail?: string;
  cause?: unknown;
}

/** The innermost error that carries a code: Drizzle wraps the driver's. */
export function driverError(error: unknown): DriverError {
  let found: DriverError = {};
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (typeof (at as DriverError).code === "string") found = at as DriverError;
  }
  return found;
}

/** Node's and postgres.js' names for a connection that is not there. */
const connectionCodes = new Set([
  "CONNECTION_CLOSED", "CONNECTION_ENDED", "CONNECTION_DESTROYED", "CONNECT_TIMEOUT", "CONNECTION_CONNECT_TIMEOUT",
  "ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENOENT",
]);
/** Connection exceptions, shutdowns, too many connections, out of resources, read-only after a failover. */
const awayStates = /^(08|53|57P|58|25006)/;
/** Lock time-outs, deadlocks, serialization: another's doing; data and constraint errors: one row's doing. */
const contendedStates = /^(55P03|40P01|40001|22|23)/;

export const isAway = (error: unknown): boolean => {
  const { code } = driverError(error);
  return code !== undefined && (connectionCodes.has(code) || awayStates.test(code));
};
export const isContended = (error: unknown): boolean => contendedStates.test(driverError(error).code ?? "");

/** Runs a verb; a database that is away becomes the error that callers know. */
export async function reaching<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // Drizzle wraps whatever the client below it throws.
    for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof BuildlaneError) throw at;
    throw isAway(error) ? databaseUnavailable(error) : error;
  }
}
