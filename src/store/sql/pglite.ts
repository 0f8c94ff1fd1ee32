/**
 * PGlite, PostgreSQL inside this process: the embedded default, or a caller's own. One connection, so calls follow one
 * another, and all wait while a transaction of the caller's is open.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Clock } from "../../clock.js";
import { databaseBusy } from "../../errors.js";
import { drizzlePglite } from "../drizzle.js";
import { backUp } from "../embedded-backup.js";
import type { Hint } from "../store.js";
import { channel } from "./database.js";
import type { Database, Orm } from "./database.js";

/** How long a call waits for a transaction that holds the connection, milliseconds. */
const busyWaitMs = 5000;

export interface PgliteDatabaseOptions {
  clock: Clock;
  close(): Promise<void>;
  /** Hears of jobs that a caller's own transaction enqueued, when it commits. */
  listens?: boolean;
}

export function pgliteDatabase(raw: PGlite, { clock, close, listens = false }: PgliteDatabaseOptions): Database {
  const client = patient(raw, clock);
  let listening: Promise<(() => Promise<void>) | undefined> = Promise.resolve(undefined);
  return {
    kind: "pglite",
    orm: drizzlePglite(client) as unknown as Orm,
    async call<T>(statement: string, args: unknown[]) {
      const { rows } = await client.query<{ answer: T }>(statement, args);
      return (rows[0] as { answer: T }).answer;
    },
    reading: (read) => read(),
    transaction: (work) =>
      client.transaction((tx) =>
        work({
          script: async (text) => void (await tx.exec(text)),
          rows: async <R>(text: string, args: unknown[] = []) => (await tx.query<R>(text, args)).rows,
        }),
      ),
    // Nobody else can have the directory open, so there is nobody to tell.
    notify: () => {},
    onNotify(listener) {
      if (!listens) return;
      listening = raw.listen(channel, (payload) => (JSON.parse(payload) as { hints: Hint[] }).hints.forEach(listener)).catch(() => undefined);
    },
    backUp: () => backUp(raw),
    async close() {
      await (await listening)?.();
      await close();
    },
  };
}

/**
 * The client, but a call that would wait longer for the connection rejects with `database_busy` instead, and is never
 * run after that. Who waits is let in first come, first served: passing an empty turn first means that it is ours next.
 */
function patient(client: PGlite, clock: Clock): PGlite {
  const admitted = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const timer = clock.after(busyWaitMs, () => reject(databaseBusy(busyWaitMs)));
      void client._runExclusiveTransaction(async () => undefined).then(() => {
        timer.cancel();
        resolve();
      }, reject);
    });
  const waiting = new Set<PropertyKey>(["query", "exec", "transaction"]);
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      const call = value as (...args: unknown[]) => unknown;
      return waiting.has(name) ? async (...args: unknown[]) => (await admitted(), call.apply(target, args)) : call.bind(target);
    },
  });
}
