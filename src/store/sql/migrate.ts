/**
 * Brings the schema up to date: numbered files of migrations/, forward only, each applied once, all in one transaction
 * under an advisory lock, so that several nodes may start at once.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { SettingsError } from "../../errors.js";
import type { Database } from "./database.js";

export interface Migration {
  number: number;
  name: string;
  text: string;
  hash: string;
}

/** Any number will do, as long as every Buildlane takes the same one. */
const lockKey = 727_271_001;

function folder(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); at !== dirname(at); at = dirname(at)) {
    if (existsSync(join(at, "migrations", "0001_tables.sql"))) return join(at, "migrations");
  }
  throw new Error("The migrations folder is missing from the package.");
}

export function readMigrations(): Migration[] {
  const from = folder();
  return readdirSync(from)
    .filter((file) => /^\d{4}_.*\.sql$/.test(file))
    .sort()
    .map((file) => {
      const text = readFileSync(join(from, file), "utf8");
      return { number: Number(file.slice(0, 4)), name: file, text, hash: createHash("sha256").update(text).digest("hex") };
    });
}

/** Applies what is missing; the names of what was applied. Throws SettingsError when the database is newer than this program, or differs. */
export function migrate(database: Database, known: Migration[] = readMigrations()): Promise<string[]> {
  return database.transaction(async (tx) => {
    await tx.rows("select pg_advisory_xact_lock($1)", [lockKey]);
    await tx.script("create table if not exists buildlane_migrations (number integer primary key, name text not null, hash text not null, applied_at timestamptz not null default clock_timestamp())");
    const applied = await tx.rows<{ number: number; name: string; hash: string }>("select number, name, hash from buildlane_migrations order by number");
    for (const one of applied) {
      const ours = known.find((migration) => migration.number === one.number);
      if (!ours) throw new SettingsError(`The database has migration ${one.name}, which this version of Buildlane does not know. Start the newer version, or restore a backup from before.`);
      if (ours.hash !== one.hash) throw new SettingsError(`Migration ${one.name} differs from the one that the database was made with. Use the version of Buildlane that made it, or a new database.`);
    }
    const missing = known.filter((migration) => !applied.some((one) => one.number === migration.number));
    for (const migration of missing) {
      await tx.script(migration.text);
      await tx.rows("insert into buildlane_migrations (number, name, hash) values ($1, $2, $3)", [migration.number, migration.name, migration.hash]);
    }
    return missing.map((migration) => migration.name);
  });
}
