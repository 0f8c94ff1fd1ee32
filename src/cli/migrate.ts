/** `buildlane migrate`: brings a PostgreSQL's schema up to date without serving. */
import { Command } from "commander";
import { systemClock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { readSettings } from "../options.js";
import { migrateDatabase } from "../store/open.js";
import { withSettings } from "./settings-flags.js";

export function migrateCommand(): Command {
  const command = withSettings(new Command("migrate").description("Apply missing migrations to the PostgreSQL of DATABASE_URL."), ["databaseUrl"]);
  return command.action(async (flags: Record<string, unknown>) => {
    const { databaseUrl } = readSettings(process.env, flags);
    if (databaseUrl === undefined) throw new SettingsError("Set DATABASE_URL or --database-url. The embedded database migrates itself when the service starts.");
    const applied = await migrateDatabase(databaseUrl, systemClock);
    process.stdout.write(applied.length > 0 ? `${applied.join("\n")}\n` : "");
    process.stderr.write(applied.length > 0 ? `Applied ${applied.length} migrations.\n` : "The schema is up to date.\n");
  });
}
