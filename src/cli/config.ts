/** `buildlane config`: the settings that `serve` would use here, and where each comes from. Secrets are not shown. */
import { Command } from "commander";
import { readSettings, settings } from "../options.js";
import type { SettingName } from "../options.js";
import { withSettings } from "./settings-flags.js";
import { print, printJson, table } from "./talk.js";

export const configCommand = (): Command =>
  withSettings(new Command("config").description("Show the settings in force and where each comes from."))
    .option("--json", "print them as JSON")
    .addHelpText("after", "\nExamples:\n  $ buildlane config\n  $ BUILDLANE_CONCURRENCY=8 buildlane config --json\n")
    .action(({ json, ...flags }: Record<string, unknown>) => {
      readSettings(process.env, flags);
      const rows = (Object.keys(settings) as SettingName[]).map((name) => {
        const { env, default: fallback, secret } = settings[name] as { env: string; default: string | undefined; secret?: boolean };
        const given = process.env[env] === "" ? undefined : process.env[env];
        const [source, value] = flags[name] !== undefined ? ["flag", String(flags[name])] : given !== undefined ? ["environment", given] : ["default", fallback ?? null];
        return { name, env, source, value: value !== null && secret ? "(not shown)" : value };
      });
      if (json) printJson(rows);
      else print(table([["SETTING", "VARIABLE", "VALUE", "FROM"], ...rows.map((row) => [row.name, row.env, row.value ?? "(unset)", row.source])]));
    });
