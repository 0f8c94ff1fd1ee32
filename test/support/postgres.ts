/**
 * What tests use of real PostgreSQL: a database of their own in the run's shared cluster, and `describePostgres` for the
 * tests that need one. Without PostgreSQL they are skipped with the reason, and fail when CI is set.
 */
import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { describe, inject, test } from "vitest";

export { postgresCluster } from "./postgres-cluster.js";
export type { PostgresCluster, PostgresClusterOptions } from "./postgres-cluster.js";

const shared = inject("postgres");

/** Why there is no PostgreSQL; undefined: there is. */
export const postgresMissing: string | undefined = "reason" in shared ? shared.reason : undefined;

/** `describe` for tests that need PostgreSQL. */
export function describePostgres(name: string, tests: () => void): void {
  if (postgresMissing === undefined) describe(name, tests);
  else if (process.env["CI"]) describe(name, () => test("needs PostgreSQL", () => Promise.reject(new Error(postgresMissing))));
  else describe.skip(`${name} (no PostgreSQL: ${postgresMissing})`, tests);
}

export interface FreshDatabase {
  url: string;
  /** Cuts every connection to it and removes it. Twice is fine. */
  drop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An empty database for the caller alone. */
export async function freshDatabase(): Promise<FreshDatabase> {
  if ("reason" in shared) throw new Error(shared.reason);
  const name = `${shared.databasePrefix}${randomBytes(6).toString("hex")}`;
  const url = new URL(shared.url);
  await runSql(shared.url, `create database "${name}"`);
  url.pathname = `/${name}`;
  const drop = () => runSql(shared.url, `drop database if exists "${name}" with (force)`);
  return { url: url.href, drop, [Symbol.asyncDispose]: drop };
}

async function runSql(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}
