/**
 * What the SQL store needs of a database, and how its two drivers' errors are told apart. PGlite and postgres.js each
 * fill it in (pglite.ts, postgres.ts); everything above them is the same SQL.
 */
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { sleep } from "../../clock.js";
import type { Clock } from "../../clock.js";
import { BuildlaneError, chatBusy, databaseUnavailable } from "../../errors.js";
import type { Hint } from "../store.js";

/** Where hints go by NOTIFY. */
export const channel = "buildlane";

export type Orm = PgDatabase<PgQueryResultHKT, Record<string, never>>;

/**
 * Which way a call goes: the node's pulse, by which its lease lives; a batch, which waits for no lane; one call of a
 * batch that met a held lane; what is neither and may wait for a lane as well; or a read.
 */
export type Line = "pulse" | "together" | "lone" | "apart" | "reads";

/** How long a call waits for a lane that somebody holds, milliseconds: one of a batch, and one alone. */
export const lockWaitMs = { together: 50, lone: 30_000 };

export interface Database {
  readonly kind: "pglite" | "postgres";
  readonly orm: Orm;
  /** Runs a prepared statement that answers one row with one column `answer`. Rejects in bounded time. */
  call<T>(statement: string, args: unknown[], line: Line): Promise<T>;
  /** Runs reads over `orm`; rejects in bounded time. */
  reading<T>(read: () => Promise<T>): Promise<T>;
  /** Runs work in one transaction. */
  transaction<T>(work: (tx: { script(sql: string): Promise<void>; rows<R>(sql: string, args?: unknown[]): Promise<R[]> }) => Promise<T>): Promise<T>;
  /** Sends to other processes on the same database; only ever a hint. */
  notify(hints: Hint[]): void;
  onNotify(listener: (hint: Hint) => void): void;
  /** The database as a file, where it has no tools of its own. */
  backUp?(): Promise<ReadableStream<Uint8Array>>;
  close(): Promise<void>;
}

interface DriverError {
  code?: string;
  constraint_name?: string;
  constraint?: string;
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
/** Lock time-outs (also by the role's own `statement_timeout`), deadlocks, serialization: another's doing; data and constraint errors: one row's doing. */
const contendedStates = /^(55P03|57014|40P01|40001|22|23)/;

export const isAway = (error: unknown): boolean => {
  const { code } = driverError(error);
  return code !== undefined && (connectionCodes.has(code) || awayStates.test(code));
};
export const isContended = (error: unknown): boolean => contendedStates.test(driverError(error).code ?? "");

/** The call never reached the database, or the database says itself that it undid it; otherwise nobody knows. */
const nothingDone = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENOENT", "CONNECT_TIMEOUT", "CONNECTION_CONNECT_TIMEOUT", "CONNECTION_ENDED"]);
const isUnsure = (error: unknown): boolean => {
  const { code = "" } = driverError(error);
  return connectionCodes.has(code) && !nothingDone.has(code);
};
/** The connection was there and broke: another one may be had at once. */
export const isCut = (error: unknown): boolean => {
  const { code = "" } = driverError(error);
  return (isUnsure(error) && code !== "ETIMEDOUT") || /^57P0[12]/.test(code);
};
/** A job with this id is there already: ids are never given twice, so it is the same job. */
export const isRecorded = (error: unknown): boolean => {
  const { code, constraint_name, constraint } = driverError(error);
  return code === "23505" && (constraint_name ?? constraint) === "build_jobs_pkey";
};

/** Runs a verb; what the database cannot do now becomes an error that callers know. */
export async function reaching<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // Drizzle wraps whatever the client below it throws.
    for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof BuildlaneError) throw at;
    throw isAway(error) ? databaseUnavailable(error, 1000, isUnsure(error)) : error;
  }
}

/** A server that ends all connections ends them one after another: another try may meet the next one. */
const triesMax = 4;
const pauseMs = 40;

/** A new connection that does not come about, perhaps because it was cut while it began: nothing was sent, and the next may come at once. */
const isStillborn = (error: unknown): boolean => driverError(error).code === "CONNECT_TIMEOUT";

/** Does what may be done twice; a connection that was cut under way costs another try, not an error. */
export async function uncut<T>(clock: Clock, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!(isCut(error) && tries < triesMax) && !(isStillborn(error) && tries === 1)) throw error;
      await sleep(clock, pauseMs * tries);
    }
  }
}
export const reads = (database: Database, clock: Clock) => <T>(read: () => Promise<T>): Promise<T> => reaching(() => uncut(clock, () => database.reading(read)));

/** A call that waited long enough for a lane that a transaction of somebody's own holds. */
const lockTimedOut = (error: unknown): boolean => /^(55P03|57014)$/.test(driverError(error).code ?? "");
export const busy = (error: unknown, chatId: string | null): unknown => (lockTimedOut(error) ? chatBusy(chatId, error) : error);
