/**
 * Every setting, once: its name as option (camelCase), as environment variable, its meaning, unit, default and limit.
 * The service reads flags > environment > defaults; the module takes the same names as an object. Validated here.
 */
import { z } from "zod";
import { SettingsError } from "./errors.js";

const integer = (min: number, max: number) => {
  const expected = `an integer from ${min} to ${max}`;
  // Not coerced: then `true`, `[]` and a Date would be numbers, and to TypeScript anything would do.
  return z.union([z.number(), z.string()], expected).transform((given, context) => {
    const value = typeof given === "number" ? given : /^\s*\d+\s*$/.test(given) ? Number(given) : Number.NaN;
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
};
const flag = z.union([z.boolean(), z.enum(["true", "false", "1", "0"]).transform((text) => text === "true" || text === "1")], "true or false");
const KiB = 1024;
const MiB = 1024 * KiB;
const day = 24 * 60 * 60 * 1000;

/** `120/minute` → a burst of 120, refilled over a minute. */
const rate = z.string().transform((text, context) => {
  const match = /^(\d{1,6})\/(second|minute|hour)$/.exec(text);
  const count = Number(match?.[1] ?? 0);
  if (!match || count < 1) {
    context.addIssue({ code: "custom", message: 'a count and a unit such as "120/minute" (second, minute or hour)' });
    return z.NEVER;
  }
  const unitMs = { second: 1000, minute: 60_000, hour: 3_600_000 }[match[2] as "second" | "minute" | "hour"];
  return { text, burst: count, intervalMs: unitMs / count };
});

/** `7d,100000` → age and count of finished jobs that are kept. */
const retention = z.string().transform((text, context) => {
  const match = /^(\d{1,5})([smhd]),(\d{1,9})$/.exec(text);
  if (!match) {
    context.addIssue({ code: "custom", message: 'an age and a count such as "7d,100000" (s, m, h or d)' });
    return z.NEVER;
  }
  const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: day }[match[2] as "s" | "m" | "h" | "d"];
  return { text, ageMs: Number(match[1]) * unitMs, count: Number(match[3]) };
});

/** `key`, `key:tenant` or `key:tenant:scope+scope`. Messages never show a key. */
const apiKeys = z.string().transform((text, context) => {
  const entries = text.split(",").map((entry) => entry.trim()).filter(Boolean);
  return entries.map((entry, index) => {
    const [, key, tenant = "*", scopes = "admin"] = /^([\w.~+/=-]{16,200})(?::([A-Za-z0-9][A-Za-z0-9_.-]{0,62}|\*)?(?::((?:submit|read|operate|admin)(?:\+(?:submit|read|operate|admin))*))?)?$/.exec(entry) ?? [];
    if (key === undefined) {
      context.addIssue({ code: "custom", message: `entry ${index + 1}: 16 to 200 letters, digits and .~+/=_-, then perhaps :tenant and :scope+scope` });
      return z.NEVER;
    }
    return { key, tenant, scopes: scopes.split("+") as ("submit" | "read" | "operate" | "admin")[] };
  });
});

const tenantWeightMax = 1000;
/** `acme=3,free=1` → weights by tenant. */
const tenantWeights = z.string().transform((text, context) => {
  const weights: Record<string, number> = {};
  for (const entry of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const [, tenant, digits] = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,62})=(\d{1,4})$/.exec(entry) ?? [];
    const weight = Number(digits);
    if (tenant === undefined || weight < 1 || weight > tenantWeightMax || Object.hasOwn(weights, tenant)) {
      context.addIssue({ code: "custom", message: `each tenant once with a weight of 1 to ${tenantWeightMax}, such as "acme=3,free=1"` });
      return z.NEVER;
    }
    weights[tenant] = weight;
  }
  return { text, weights };
});

const origins = z.string().transform((text, context) => {
  const found = text.split(",").map((origin) => origin.trim()).filter(Boolean);
  if (found.length === 0 || found.some((origin) => !URL.canParse(origin) || new URL(origin).origin !== origin)) {
    context.addIssue({ code: "custom", message: 'origins such as "https://app.example", comma-separated, without a path' });
    return z.NEVER;
  }
  return found;
});

/** `1d` → milliseconds; `off` → null. */
const cacheAge = z.string().transform((text, context) => {
  if (text === "off") return { text, ageMs: null };
  const match = /^(\d{1,5})([smhd])$/.exec(text);
  if (!match) {
    context.addIssue({ code: "custom", message: 'an age such as "1d" (s, m, h or d), or "off"' });
    return z.NEVER;
  }
  const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: day }[match[2] as "s" | "m" | "h" | "d"];
  return { text, ageMs: Number(match[1]) * unitMs };
});

const webAddress = z.string().refine((text) => {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password } = new URL(text);
  return /^https?:$/.test(protocol) && username === "" && password === "";
}, "an http:// or https:// address without user name and password");
/** As Standard Webhooks has them, so that its libraries take the same text. */
const webhookSecret = z.string().refine((text) => {
  const bytes = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1];
  return bytes !== undefined && Buffer.from(bytes, "base64").length >= 24 && Buffer.from(bytes, "base64").length <= 64;
}, "whsec_ and the base64 of 24 to 64 random bytes");

interface Setting {
  /** Environment variable. */
  env: string;
  schema: z.ZodType;
  /** As text, the way a person would write it; undefined: unset. */
  default: string | undefined;
  meaning: string;
  /** Only the service has it, not the module. */
  service?: boolean;
  /** Never shown in a message or by `config`. */
  secret?: boolean;
}
const setting = <S extends z.ZodType>(shape: Omit<Setting, "schema"> & { schema: S }) => shape;

export const settings = {
  port: setting({ env: "PORT", schema: integer(0, 65_535), default: "3001", meaning: "Port to listen on; 0 takes a free one.", service: true }),
  host: setting({ env: "HOST", schema: z.string().min(1), default: "127.0.0.1", meaning: "Address to listen on.", service: true }),
  logLevel: setting({ env: "LOG_LEVEL", schema: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]), default: "info", meaning: "How much is logged.", service: true }),
  databaseUrl: setting({ env: "DATABASE_URL", schema: z.string().regex(/^postgres(ql)?:\/\//, "a postgres:// address").optional(), default: undefined, meaning: "PostgreSQL to use; unset: the embedded database.", secret: true }),
  databasePrepare: setting({ env: "BUILDLANE_DATABASE_PREPARE", schema: z.enum(["auto", "on", "off"]), default: "auto", meaning: "Prepared statements; auto: on, unless a transaction pooler (PgBouncer and the like) stands in between." }),
  databaseNotify: setting({ env: "BUILDLANE_DATABASE_NOTIFY", schema: flag, default: "true", meaning: "Whether nodes tell each other news by NOTIFY; without, they poll, which costs up to a second." }),
  dataDir: setting({ env: "BUILDLANE_DATA_DIR", schema: z.string().min(1), default: ".buildlane", meaning: "Folder of the embedded database." }),
  concurrency: setting({ env: "BUILDLANE_CONCURRENCY", schema: integer(1, 1000), default: "3", meaning: "Slots of this node: builds that run at once." }),
  takeAhead: setting({ env: "BUILDLANE_TAKE_AHEAD", schema: flag, default: "true", meaning: "Where runs are short, takes lanes ahead of free slots: their starts go on record a moment after they happened. False: every start is on record before it happens." }),
  clusterConcurrency: setting({ env: "BUILDLANE_CLUSTER_CONCURRENCY", schema: integer(1, 100_000).optional(), default: undefined, meaning: "Builds that run at once over all nodes; unset: the sum of their slots. The lowest of the living nodes' holds." }),
  buildTimeoutMs: setting({ env: "BUILDLANE_BUILD_TIMEOUT_MS", schema: integer(100, 3_600_000), default: "10000", meaning: "Wall-clock limit of one attempt, milliseconds." }),
  maxAttempts: setting({ env: "BUILDLANE_MAX_ATTEMPTS", schema: integer(1, 25), default: "3", meaning: "Attempts of a job that may cost one." }),
  retryBaseMs: setting({ env: "BUILDLANE_RETRY_BASE_MS", schema: integer(1, 3_600_000), default: "500", meaning: "Backoff before the second attempt, at most, milliseconds; doubles with each." }),
  retryMaxMs: setting({ env: "BUILDLANE_RETRY_MAX_MS", schema: integer(1, 86_400_000), default: "30000", meaning: "Longest backoff, milliseconds." }),
  leaseMs: setting({ env: "BUILDLANE_LEASE_MS", schema: integer(1000, 600_000), default: "4000", meaning: "How long a silent node keeps its lanes, milliseconds." }),
  maxPendingPerChat: setting({ env: "BUILDLANE_MAX_PENDING_PER_CHAT", schema: integer(1, 10_000_000), default: "100", meaning: "Pending jobs of one chat." }),
  maxPending: setting({ env: "BUILDLANE_MAX_PENDING", schema: integer(1, 1_000_000_000), default: "10000", meaning: "Pending jobs of the whole queue." }),
  maxCodeBytes: setting({ env: "BUILDLANE_MAX_CODE_BYTES", schema: integer(1, 64 * MiB), default: String(MiB), meaning: "Bytes of code, all files together, as UTF-8." }),
  maxBodyBytes: setting({ env: "BUILDLANE_MAX_BODY_BYTES", schema: integer(1 * KiB, 512 * MiB), default: String(8 * MiB), meaning: "Bytes of a request's body." }),
  maxOutputBytes: setting({ env: "BUILDLANE_MAX_OUTPUT_BYTES", schema: integer(1 * KiB, 256 * MiB), default: String(8 * MiB), meaning: "Bytes of a build's output with its source map." }),
  workerMemoryMb: setting({ env: "BUILDLANE_WORKER_MEMORY_MB", schema: integer(128, 65_536), default: "512", meaning: "Memory of one build process, MiB." }),
  packagesDir: setting({ env: "BUILDLANE_PACKAGES_DIR", schema: z.string().min(1).optional(), default: undefined, meaning: "Folder of packages (a node_modules, or the folder around one) that builds may import; unset: none." }),
  importMap: setting({ env: "BUILDLANE_IMPORT_MAP", schema: z.string().min(1).optional(), default: undefined, meaning: "JSON file of package names to addresses, for imports that are not in the package folder; sub-paths follow." }),
  cache: setting({ env: "BUILDLANE_CACHE", schema: cacheAge, default: "1d", meaning: "How old an outcome of the same code may be to be taken over without a build (s, m, h or d), or off. What is kept is bounded by the retention." }),
  allowUnconfined: setting({ env: "BUILDLANE_ALLOW_UNCONFINED", schema: flag, default: "false", meaning: "Builds run although this machine cannot confine them (anything but Linux with /bin/sh); for trusted code only." }),
  rateLimit: setting({ env: "BUILDLANE_RATE_LIMIT", schema: rate.optional(), default: undefined, meaning: "Submissions per chat, such as 120/minute; unset: no limit." }),
  tenantWeights: setting({ env: "BUILDLANE_TENANT_WEIGHTS", schema: tenantWeights, default: "", meaning: "Shares of the starts between tenants that wait, such as acme=3,free=1; a tenant that is not named weighs 1. Those of the node that started last hold." }),
  retention: setting({ env: "BUILDLANE_RETENTION", schema: retention, default: "7d,100000", meaning: "Age and count of finished jobs that are kept with their events. Beyond the count superseded jobs go first, then the oldest." }),
  agingMs: setting({ env: "BUILDLANE_AGING_MS", schema: integer(0, 86_400_000), default: "30000", meaning: "Head start that one step of priority is worth, milliseconds." }),
  maxNodeLosses: setting({ env: "BUILDLANE_MAX_NODE_LOSSES", schema: integer(1, 1000), default: "5", meaning: "Nodes that one job may lose before it fails as node_lost." }),
  drainMs: setting({ env: "BUILDLANE_DRAIN_MS", schema: integer(0, 3_600_000), default: "10000", meaning: "How long a stop waits for running builds, milliseconds." }),
  apiKeys: setting({ env: "BUILDLANE_API_KEYS", schema: apiKeys.optional(), default: undefined, meaning: "API keys of 16 characters or more, comma-separated. A plain one may do everything; `key:tenant:submit+read` limits it to a tenant and to scopes (submit, read, operate, admin). Keys with expiry and rotation: `buildlane keys`.", service: true, secret: true }),
  keyRateLimit: setting({ env: "BUILDLANE_KEY_RATE_LIMIT", schema: rate.optional(), default: undefined, meaning: "Submissions per API key and node, such as 6000/minute; unset: no limit.", service: true }),
  keyFailureLimit: setting({ env: "BUILDLANE_KEY_FAILURE_LIMIT", schema: rate, default: "60/minute", meaning: "Wrong keys and tokens per address and node that are looked at; beyond, only what was right in the last ten minutes passes and all else gets 429.", service: true }),
  maxLoopDelayMs: setting({ env: "BUILDLANE_MAX_LOOP_DELAY_MS", schema: integer(0, 60_000), default: "10000", meaning: "Mean lag of the event loop above which submissions get 503, milliseconds; 0: never.", service: true }),
  corsOrigins: setting({ env: "BUILDLANE_CORS_ORIGINS", schema: origins.optional(), default: undefined, meaning: "Origins whose pages may read answers, comma-separated, such as https://app.example; unset: none.", service: true }),
  allowedHosts: setting({ env: "BUILDLANE_ALLOWED_HOSTS", schema: z.string().transform((text) => text.split(",").map((host) => host.trim()).filter(Boolean)).optional(), default: undefined, meaning: "Host headers that are answered, comma-separated; loopback names always are.", service: true }),
  webhookUrl: setting({ env: "BUILDLANE_WEBHOOK_URL", schema: webAddress.optional(), default: undefined, meaning: "Where every chat's events are sent, http or https, without user name and password; unset: nowhere. Needs the secret.", secret: true }),
  webhookSecret: setting({ env: "BUILDLANE_WEBHOOK_SECRET", schema: webhookSecret.optional(), default: undefined, meaning: "Signs what is sent there: whsec_ and the base64 of 24 to 64 random bytes.", secret: true }),
  inspect: setting({ env: "BUILDLANE_INSPECT", schema: flag, default: "false", meaning: "Shows what the actors do to Stately's inspector: to admins, over loopback only. Costs nothing while nobody watches." }),
  readOnly: setting({ env: "BUILDLANE_READ_ONLY", schema: flag, default: "false", meaning: "Refuses over HTTP whatever would change something; the dashboard shows no buttons. The node still builds.", service: true }),
  insecure: setting({ env: "BUILDLANE_INSECURE", schema: flag, default: "false", meaning: "Allows another bind than loopback although nothing asks for a key.", service: true }),
} as const;

export type SettingName = keyof typeof settings;
type Output<N extends SettingName> = z.output<(typeof settings)[N]["schema"]>;
export type Settings = { [N in SettingName]: Output<N> };
/** What the module takes: the settings of section 6 but those of the service, each optional. */
export type QueueSettings = { [N in SettingName as (typeof settings)[N] extends { service: true } ? never : N]: Output<N> };
export type QueueSettingsInput = { [N in keyof QueueSettings]?: z.input<(typeof settings)[N]["schema"]> | undefined };

/** The setting on the command line: `--max-attempts`. */
export const flagOf = (name: SettingName): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Kubernetes injects the first ones for a Service named buildlane, and its address (tcp://…) as `BUILDLANE_PORT`; the last two are the command line's own. */
const notSettings = /^BUILDLANE_(PORT_.*|SERVICE_.*|URL|API_KEY)$/;
const isInjected = (name: string, value: string | undefined): boolean => notSettings.test(name) || (name === "BUILDLANE_PORT" && value?.includes("://") === true);

/** What was given, for a message; whatever it is. */
export function shown(value: unknown): string {
  if (typeof value === "function") return "a function";
  try {
    return (typeof value === "bigint" ? `${value}n` : JSON.stringify(value)) ?? String(value);
  } catch {
    return `what cannot be shown (${typeof value})`;
  }
}

const describe = (name: string, schema: z.ZodType, value: unknown, secret: boolean): unknown => {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const expected = parsed.error.issues.map((issue) => issue.message).join("; ");
  throw new SettingsError(`Expected ${name} to be valid (${expected}), got ${secret ? "a value that is not shown" : shown(value)}.`);
};

/** Reads the service's settings: `flags` by option name, then `env`, then defaults. Throws SettingsError with the setting's name. */
export function readSettings(env: Record<string, string | undefined>, flags: Partial<Record<SettingName, unknown>> = {}): Settings {
  const known = new Set<string>(Object.values(settings).map((one) => one.env));
  const unknown = Object.keys(env).filter((name) => name.startsWith("BUILDLANE_") && !known.has(name) && !isInjected(name, env[name]));
  const isPortMeant = unknown.includes("BUILDLANE_PORT");
  if (unknown.length > 0) throw new SettingsError(`Unknown setting ${unknown.join(", ")}.${isPortMeant ? " The port is PORT." : ""} Known are: ${[...known].sort().join(", ")}.`);
  const read = (name: SettingName) => {
    const { env: variable, schema, default: fallback, secret } = settings[name] as Setting;
    const fromEnv = env[variable] === "" ? undefined : env[variable];
    return flags[name] !== undefined
      ? describe(flagOf(name), schema, flags[name], secret ?? false)
      : describe(variable, schema, fromEnv ?? fallback, secret ?? false);
  };
  return Object.fromEntries((Object.keys(settings) as SettingName[]).map((name) => [name, read(name)])) as Settings;
}

const moduleSettings = (Object.keys(settings) as SettingName[]).filter((name) => !(settings[name] as Setting).service) as (keyof QueueSettings)[];

/** Names that the module does not take: neither one of its settings nor among `others`. Throws SettingsError. */
export function refuseUnknown(options: object, others: string[]): void {
  const known = [...moduleSettings, ...others];
  const unknown = Object.entries(options).filter(([name, value]) => value !== undefined && !known.includes(name)).map(([name]) => (Object.hasOwn(settings, name) ? `${name} (a setting of the service)` : name));
  if (unknown.length > 0) throw new SettingsError(`Unknown option ${unknown.join(", ")}. Known are: ${known.sort().join(", ")}.`);
}

/** The module's settings from an options object; other names in it are passed over. */
export function queueSettings(input: QueueSettingsInput): QueueSettings {
  return Object.fromEntries(
    moduleSettings.map((name) => {
      const { schema, default: fallback, secret } = settings[name] as Setting;
      return [name, describe(name, schema, (input as Record<string, unknown>)[name] ?? fallback, secret ?? false)];
    }),
  ) as QueueSettings;
}

/** Fixed limits that are not settings. Every list, text and number from outside has one. */
export const limits = {
  /** Bytes of chatId and messageId, URL-encoded. */
  idBytesMax: 100,
  batchJobsMax: 1000,
  filesMax: 200,
  filePathCharsMax: 200,
  idempotencyKeyCharsMax: 200,
  idempotencyMs: day,
  delayMsMax: 30 * day,
  waitSecondsMax: 30,
  listLimitDefault: 50,
  listLimitMax: 200,
  priorityMax: 10,
  diagnosticsMax: 20,
  diagnosticTextCharsMax: 300,
  diagnosticLineCharsMax: 200,
  errorCharsMax: 16_000,
  streamsMax: 1000,
  /** Of one API key, or of one chat's tokens. */
  streamsPerKeyMax: 250,
} as const;
