/**
 * `buildlane keys`: on the database itself, so that the first key can be made before the service is reachable, or by
 * `--url` through a running service with an admin key. The key is data and goes to stdout; everything else is talk.
 */
import { Command, Option } from "commander";
import { createClient } from "../client/index.js";
import { systemClock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { accessScopes, createKeys, refuseLockout } from "../keys.js";
import type { AccessScope, KeyInfo, KeyRequest, Keys, NewKeyInfo } from "../keys.js";
import { readSettings } from "../options.js";
import { FolderInUse } from "../store/embedded-lock.js";
import { openStore } from "../store/open.js";
import { defaultUrl, orVariable, serviceOf } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { withSettings } from "./settings-flags.js";

type Where = Pick<Keys, "create"> & { list(): Promise<KeyInfo[]>; revoke(id: string): Promise<KeyInfo>; rotate(id: string, graceMs: number): Promise<NewKeyInfo> };
type Flags = Record<string, unknown> & { url?: string; apiKey?: string; json?: boolean };

export function keysCommand(): Command {
  const keys = new Command("keys").description("API keys: make, list, revoke and rotate them.").addHelpText(
    "after",
    "\nExamples:\n  $ buildlane keys create --name operator --scopes admin\n  $ buildlane keys create --name ci --scopes submit,read --tenant acme --expires 90d\n  $ buildlane keys list --url http://127.0.0.1:3001\n  $ buildlane keys rotate 3fA9… --grace 1h\n",
  );
  const add = (name: string, description: string) => {
    const command = withSettings(keys.command(name).description(description), ["databaseUrl", "dataDir"]);
    return command
      .addOption(orVariable(new Option("--url <url>", "the running service to ask, instead of the database (BUILDLANE_URL)"), "BUILDLANE_URL"))
      .addOption(orVariable(new Option("--api-key <key>", "an admin key for it (BUILDLANE_API_KEY)"), "BUILDLANE_API_KEY"))
      .option("--json", "print what the API answers");
  };

  add("create", "Make a key. It is shown once.")
    .option("--name <name>", "for people")
    .option("--tenant <tenant>", "whose jobs it sees; * sees every tenant's")
    .addOption(new Option("--scopes <scopes>", `comma-separated: ${accessScopes.join(", ")}`).default("submit,read"))
    .option("--expires <time>", "until it stops working, such as 90d, 12h or 30m")
    .action(async ({ name, tenant, scopes, expires, ...flags }: Flags & { name?: string; tenant?: string; scopes: string; expires?: string }) => {
      const request: KeyRequest = { name, tenant, scopes: scopesOf(scopes), expiresInMs: expires === undefined ? undefined : durationMs(expires) };
      showNew(await within(flags, (where) => where.create(request)), flags);
    });
  add("list", "List the keys, newest first.").action(async (flags: Flags) => {
    const found = await within(flags, (where) => where.list());
    if (flags.json) return print(found);
    for (const key of found) process.stdout.write(`${key.id}  ${stateOf(key).padEnd(8)}  ${(key.tenant || "-").padEnd(12)}  ${key.scopes.join(",").padEnd(20)}  ${key.createdAt}  ${key.name}\n`);
    process.stderr.write(`${found.length} keys.\n`);
  });
  add("revoke", "Refuse a key from now on.")
    .argument("<id>", "its id, the first twelve characters after bl_")
    .action(async (id: string, flags: Flags) => {
      const key = await within(flags, (where) => where.revoke(id));
      if (flags.json) return print(key);
      process.stderr.write(`Key ${key.id} is revoked; every node refuses it within 2 seconds.\n`);
    });
  add("rotate", "Replace a key by a new one with the same rights.")
    .argument("<id>", "the old key's id")
    .option("--grace <time>", "how long the old one works on, such as 1h", "0s")
    .action(async (id: string, { grace, ...flags }: Flags & { grace: string }) => showNew(await within(flags, (where) => where.rotate(id, durationMs(grace))), flags));
  keys.hook("preAction", (_keys, command) => preferNamedDatabase(command));
  return keys;
}

/** A database named on the command line comes before a service of the environment: a key must not be made elsewhere than was said. */
function preferNamedDatabase(command: Command): void {
  if (command.getOptionValue("databaseUrl") === undefined && command.getOptionValue("dataDir") === undefined) return;
  if (command.getOptionValueSource("url") === "cli") throw new Exit(exitCodes.usage, "Expected either --url or a database (--database-url, --data-dir), got both.");
  command.setOptionValue("url", undefined);
}

const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

function showNew(key: NewKeyInfo, flags: Flags): void {
  if (flags.json) return print(key);
  process.stdout.write(`${key.key}\n`);
  process.stderr.write(`Key ${key.id} for ${key.tenant === "" ? "no tenant" : `tenant ${key.tenant}`}, ${key.scopes.join(", ")}${key.expiresAt === null ? "" : `, until ${key.expiresAt}`}. Keep it: it is not shown again.\n`);
}

const stateOf = ({ revokedAt, expiresAt }: KeyInfo): string => {
  const over = (at: string | null): boolean => at !== null && Date.parse(at) <= systemClock.now();
  return over(revokedAt) ? "revoked" : over(expiresAt) ? "expired" : "live";
};

function scopesOf(text: string): AccessScope[] {
  const found = text.split(",").map((scope) => scope.trim()).filter(Boolean);
  const unknown = found.find((scope) => !accessScopes.includes(scope as AccessScope));
  if (unknown !== undefined) throw new SettingsError(`Expected --scopes to be some of ${accessScopes.join(", ")}, got ${JSON.stringify(unknown)}.`);
  return found as AccessScope[];
}

export function durationMs(text: string): number {
  const [, count, unit] = /^(\d{1,6})(s|m|h|d)$/.exec(text) ?? [];
  if (count === undefined) throw new SettingsError(`Expected a time such as 90d, 12h, 30m or 10s, got ${JSON.stringify(text)}.`);
  return Number(count) * { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as "s" | "m" | "h" | "d"];
}

async function within<T>({ url, apiKey, json: _json, ...flags }: Flags, work: (where: Where) => Promise<T>): Promise<T> {
  if (url !== undefined) return work(overRest(url, apiKey));
  const { databaseUrl, dataDir, apiKeys } = readSettings(process.env, flags);
  const store = await openStore({ databaseUrl, dataDir, nodeId: systemClock.id(), clock: systemClock, onProgress: (line) => void process.stderr.write(`${line}\n`) }).catch((error: unknown) => {
    throw error instanceof FolderInUse ? new SettingsError(`${error.message} Or ask the service that uses it: --url ${defaultUrl}.`) : error;
  });
  try {
    const keys = createKeys({ store: store.access, clock: systemClock });
    const create = async (request: KeyRequest) => {
      await refuseLockout(keys, request, apiKeys);
      return keys.create(request);
    };
    return await work({ create, list: () => keys.list("everyone"), revoke: (id) => keys.revoke("everyone", id), rotate: (id, graceMs) => keys.rotate("everyone", id, graceMs) });
  } finally {
    await store.close();
  }
}

function overRest(url: string, apiKey: string | undefined): Where {
  const { keys } = createClient({ url: serviceOf(url), ...(apiKey === undefined ? {} : { apiKey }) });
  return { create: (request) => keys.create(request), list: () => keys.list(), revoke: (id) => keys.revoke(id), rotate: (id, graceMs) => keys.rotate(id, graceMs) };
}
