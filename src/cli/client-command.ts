/** What every command that talks to a running service has: where it is, a key for it, and its data as JSON. */
import { Command, InvalidArgumentError, Option } from "commander";
import { ClientError, createClient } from "../client/index.js";
import type { Client } from "../client/index.js";
import { Exit, exitCodes } from "./exit.js";

export const defaultUrl = "http://127.0.0.1:3001";

export interface ClientFlags {
  url: string;
  apiKey?: string;
  json?: boolean;
}

/** An empty variable is unset, as it is for settings. */
export const orVariable = (option: Option, name: string): Option => (process.env[name] === "" ? option : option.env(name));

export const clientCommand = (name: string, description: string, examples: string[]): Command =>
  new Command(name)
    .description(description)
    .addOption(orVariable(new Option("--url <url>", "the running service (BUILDLANE_URL)").default(defaultUrl), "BUILDLANE_URL"))
    .addOption(orVariable(new Option("--api-key <key>", "a key for it (BUILDLANE_API_KEY)"), "BUILDLANE_API_KEY"))
    .option("--json", "print the data as JSON, without the envelope")
    .addHelpText("after", `\nExamples:\n${examples.map((example) => `  $ buildlane ${example}\n`).join("")}`);

/** What operators do is recorded with why. */
export interface OperatorFlags extends ClientFlags {
  reason?: string;
}
export const operatorCommand = (name: string, description: string, examples: string[]): Command => clientCommand(name, description, examples).option("--reason <text>", "why, for the audit log");

const apiPath = "/api/builds";

/** Where the service is; its API's own address is as good. */
export function serviceOf(url: string): string {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw new Exit(exitCodes.usage, `Expected --url to be an address such as ${defaultUrl}, got ${JSON.stringify(url)}.`);
  const plain = url.replace(/\/+$/, "");
  return plain.endsWith(apiPath) ? plain.slice(0, -apiPath.length) : plain;
}

/** Runs with a client; Ctrl-C aborts the signal and ends with 130. */
export async function withClient<T>({ url, apiKey }: ClientFlags, work: (client: Client, signal: AbortSignal) => Promise<T>): Promise<T> {
  const service = serviceOf(url);
  const interrupted = new AbortController();
  const stop = () => interrupted.abort(new Exit(exitCodes.interrupted));
  process.once("SIGINT", stop);
  try {
    return await work(createClient({ url: service, ...(apiKey ? { apiKey } : {}) }), interrupted.signal);
  } catch (error) {
    // A proxy would have taken off a path of its own: the service was asked for the whole of it.
    const { pathname } = new URL(service);
    const isPathWrong = pathname !== "/" && error instanceof ClientError && error.code === "not_found" && error.message.includes(`${pathname}${apiPath}`);
    throw isPathWrong ? new Exit(exitCodes.failed, `${error.message} Leave ${pathname} out of --url.`) : error;
  } finally {
    process.off("SIGINT", stop);
  }
}

export const wholeNumber = (min: number, max = Number.MAX_SAFE_INTEGER) => (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) throw new InvalidArgumentError(`Expected a whole number from ${min}${max < Number.MAX_SAFE_INTEGER ? ` to ${max}` : ""}.`);
  return value;
};
