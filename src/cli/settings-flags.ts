/** Every setting as a flag, made from the one list of settings. */
import { Command, Option } from "commander";
import { flagOf, settings } from "../options.js";
import type { SettingName } from "../options.js";

/** Its flag alone says true, so it takes no flag that follows for its value. */
const isBoolean = (name: SettingName): boolean => settings[name].schema.safeParse("true").data === true;

/** Adds `--port`, `--database-url` and so on, for the given settings or all. */
export function withSettings(command: Command, names = Object.keys(settings) as SettingName[]): Command {
  for (const name of names) {
    const { env, meaning, default: fallback } = settings[name];
    const says = `${meaning} (${env}${fallback === undefined ? "" : `, ${fallback}`})`;
    command.addOption(isBoolean(name) ? new Option(`${flagOf(name)} [true|false]`, says).preset(true) : new Option(`${flagOf(name)} <value>`, says));
  }
  return command;
}
