/** Every setting as a flag, made from the one list of settings. */
import { Command, Option } from "commander";
import { settings } from "../options.js";
import type { SettingName } from "../options.js";

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Adds `--port`, `--database-url` and so on, for the given settings or all. */
export function withSettings(command: Command, names = Object.keys(settings) as SettingName[]): Command {
  for (const name of names) {
    const { env, meaning, default: fallback } = settings[name];
    const flag = name === "insecure" || name === "readOnly" || name === "inspect" ? `--${kebab(name)}` : `--${kebab(name)} <value>`;
    command.addOption(new Option(flag, `${meaning} (${env}${fallback === undefined ? "" : `, ${fallback}`})`));
  }
  return command;
}
