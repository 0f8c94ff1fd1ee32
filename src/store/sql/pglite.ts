/** PGlite, PostgreSQL inside this process: the embedded default. One connection, so calls follow one another. */
import type { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import type { Database, Orm } from "./database.js";

export function pgliteDatabase(client: PGlite, close: () => Promise<void>): Database {
  return {
    kind: "pglite",
    orm: drizzle(client) as unknown as Orm,
    async call<T>(statement: string, args: unknown[]) {
      const { rows } = await client.query<{ answer: T }>(statement, args);
      return (rows[0] as { answer: T }).answer;
    },
    transaction: (work) =>
      client.transaction((tx) =>
        work({
          script: async (text) => void (await tx.exec(text)),
          rows: async <R>(text: string, args: unknown[] = []) => (await tx.query<R>(text, args)).rows,
        }),
      ),
    // Nobody else can have the directory open, so there is nobody to tell.
    notify: () => {},
    onNotify: () => {},
    close,
  };
}
