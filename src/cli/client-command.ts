/** What every command that talks to a running service has: where it is, a key for it, and its data as JSON. */
import { Command, InvalidArgumentError, Option } from "commander";
import { createClient } from "../client/index.js";
import type { Client } from "../client/index.js";
import { Exit, exitCodes } from "./exit.js";

export const defaultUrl = "http://127.0.0.1:3001";

export interface ClientFlags {
  url: string;
  apiKey?: string;
  json?: boolean;
}

export const clientCommand = (name: string, description: string, examples: string[]): Command =>
  new Command(name)
    .description(description)
    .addOption(new Option("--url <url>", "the running service (BUILDLANE_URL)").env("BUILDLANE_URL").default(defaultUrl))
    .addOption(new Option("--api-key <key>", "a key for it (BUILDLANE_API_KEY)").env("BUILDLANE_API_KEY"))
    .option("--json", "print the data as JSON, without the envelope")
    .addHelpText("after", `\nExamples:\n${examples.map((example) => `  $ buildlane ${example}\n`).join("")}`);

/** What operators do is recorded with why. */
export interface OperatorFlags extends ClientFlags {
  reason?: string;
}
export const operatorCommand = (name: string, description: string, examples: string[]): Command => clientCommand(name, description, examples).option("--reason <text>", "why, for the audit log");

/** Runs with a client; Ctrl-C aborts the signal and ends with 130. */
export async function withClient<T>({ url, apiKey }: ClientFlags, work: (client: Client, signal: AbortSignal) => Promise<T>): Promise<T> {
  if (!URL.canParse(url)) throw new Exit(exitCodes.usage, `Expected --url to be an address such as ${defaultUrl}, got ${JSON.stringify(url)}.`);
  const interrupted = new AbortController();
  const stop = () => interrupted.abort(new Exit(exitCodes.interrupted));
  process.once("SIGINT", stop);
  try {
    return await work(createClient({ url, ...(apiKey ? { apiKey } : {}) }), interrupted.signal);
  } finally {
    process.off("SIGINT", stop);
  }
}

export const wholeNumber = (min: number, max = Number.MAX_SAFE_INTEGER) => (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) throw new InvalidArgumentError(`Expected a whole number from ${min}${max < Number.MAX_SAFE_INTEGER ? ` to ${max}` : ""}.`);
  return value;
};
