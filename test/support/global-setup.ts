/** Once per test run: the embedded database's template, and a PostgreSQL cluster for all test files (or the one that TEST_DATABASE_URL names), stopped at the end. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { templateFiles } from "../../src/store/embedded-template.js";
import { PostgresUnavailable } from "./postgres-binaries.js";
import { postgresCluster, reapOrphans } from "./postgres-cluster.js";

declare module "vitest" {
  interface ProvidedContext {
    postgres: { url: string; databasePrefix: string } | { reason: string };
  }
}

export default async function globalSetup(project: TestProject): Promise<() => Promise<void>> {
  await prepareTemplate();
  return prepareServer(project);
}

async function prepareServer(project: TestProject): Promise<() => Promise<void>> {
  const databasePrefix = `buildlane_test_${randomBytes(4).toString("hex")}_`;
  const given = process.env["TEST_DATABASE_URL"];
  if (given) {
    project.provide("postgres", { url: given, databasePrefix });
    return () => dropDatabases(given, databasePrefix);
  }
  await reapOrphans();
  try {
    const cluster = await postgresCluster();
    project.provide("postgres", { url: cluster.url, databasePrefix });
    return async () => {
      await cluster.drop();
      // Clusters that a test file made and, killed by a timeout, left behind.
      await reapOrphans();
    };
  } catch (error) {
    const reason = error instanceof PostgresUnavailable ? error.message : `PostgreSQL does not run here: ${String(error)}`;
    process.stderr.write(`Tests on PostgreSQL are skipped. ${reason}\nSet TEST_DATABASE_URL to run them on a server of yours.\n`);
    project.provide("postgres", { reason });
    return async () => {};
  }
}

/** Here, so that no test has to wait for it (5 to 20 s), and in a process of its own, as it takes 800 MB. */
async function prepareTemplate(): Promise<void> {
  if (templateFiles().some((file) => existsSync(file))) return;
  const script = 'const { embeddedTemplate } = await import("./src/store/embedded-template.ts"); await embeddedTemplate();';
  await promisify(execFile)(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], { cwd: new URL("../..", import.meta.url) });
}

/** A server that is not ours keeps nothing of a run, not even of one whose tests were cut short. */
async function dropDatabases(url: string, prefix: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const left = await sql<{ datname: string }[]>`select datname from pg_database where starts_with(datname, ${prefix})`;
  for (const { datname } of left) await sql.unsafe(`drop database if exists "${datname}" with (force)`);
  await sql.end();
}
