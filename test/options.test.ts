import { describe, expect, it } from "vitest";
import { SettingsError } from "../src/errors.js";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueue, CancelResult, DeadLetterFilter, DeadLetterGroup, LanesQuery, ListQuery, NodeView, Output, QueueSettings, QueueView } from "../src/index.js";
import { queueSettings, readSettings } from "../src/options.js";
import type { QueueSettingsInput } from "../src/options.js";

describe("settings", () => {
  it("have the documented defaults", () => {
    expect(readSettings({})).toMatchObject({
      port: 3001, host: "127.0.0.1", concurrency: 3, buildTimeoutMs: 10_000, maxAttempts: 3, retryBaseMs: 500, retryMaxMs: 30_000, leaseMs: 4000, maxPendingPerChat: 100,
      maxPending: 10_000, maxCodeBytes: 1_048_576, maxBodyBytes: 8_388_608, maxOutputBytes: 8_388_608, workerMemoryMb: 512, agingMs: 30_000, maxNodeLosses: 5, drainMs: 10_000,
      dataDir: ".buildlane", databaseUrl: undefined, rateLimit: undefined, tenantWeights: { text: "", weights: {} }, retention: { ageMs: 7 * 86_400_000, count: 100_000 },
    });
  });

  it("come from flags before the environment before defaults, and an empty variable is unset", () => {
    expect(readSettings({ PORT: "4000", BUILDLANE_CONCURRENCY: "" }, { port: "5000" })).toMatchObject({ port: 5000, concurrency: 3 });
  });

  it.each([
    [{ BUILDLANE_CONCURRENCY: "many" }, /BUILDLANE_CONCURRENCY.*"many"/],
    [{ BUILDLANE_CONCURRENCY: "0" }, /BUILDLANE_CONCURRENCY/],
    [{ BUILDLANE_LEASE_MS: "1" }, /BUILDLANE_LEASE_MS/],
    [{ BUILDLANE_CONCURENCY: "3" }, /Unknown setting BUILDLANE_CONCURENCY/],
    [{ BUILDLANE_RATE_LIMIT: "lots" }, /120\/minute/],
    [{ BUILDLANE_RETENTION: "7d" }, /7d,100000/],
    [{ BUILDLANE_TENANT_WEIGHTS: "acme=0" }, /BUILDLANE_TENANT_WEIGHTS.*acme=3,free=1/],
    [{ BUILDLANE_TENANT_WEIGHTS: "acme=1001" }, /1 to 1000/],
    [{ BUILDLANE_TENANT_WEIGHTS: "acme=2,acme=3" }, /each tenant once/],
    [{ BUILDLANE_TENANT_WEIGHTS: "acme" }, /acme=3/],
    [{ PORT: "65536" }, /PORT/],
  ])("%j stops the start and is named", (env, message) => {
    expect(() => readSettings(env)).toThrow(SettingsError);
    expect(() => readSettings(env)).toThrow(message);
  });

  it("are named in a message as they were given: by their flag, or by their variable", () => {
    expect(() => readSettings({}, { maxAttempts: "x" })).toThrow(/^Expected --max-attempts to be valid/);
    expect(() => readSettings({ BUILDLANE_MAX_ATTEMPTS: "x" })).toThrow(/^Expected BUILDLANE_MAX_ATTEMPTS to be valid/);
  });

  it("take a tenant's weight up to its limit", () => {
    expect(readSettings({ BUILDLANE_TENANT_WEIGHTS: "acme=1000, free=1" }).tenantWeights.weights).toEqual({ acme: 1000, free: 1 });
  });

  it("never show a secret in the message", () => {
    expect(() => readSettings({ DATABASE_URL: "mysql://me:hunter2@db" })).toThrow(/DATABASE_URL/);
    expect(() => readSettings({ DATABASE_URL: "mysql://me:hunter2@db" })).not.toThrow(/hunter2/);
  });

  it("ignore what Kubernetes injects, and what is the command line's own", () => {
    expect(() => readSettings({ BUILDLANE_PORT: "tcp://10.0.0.1:80", BUILDLANE_PORT_80_TCP: "x", BUILDLANE_SERVICE_HOST: "x", BUILDLANE_URL: "x", BUILDLANE_API_KEY: "x" })).not.toThrow();
    // A person who wants another port is told its name.
    expect(() => readSettings({ BUILDLANE_PORT: "3411" })).toThrow(/^Unknown setting BUILDLANE_PORT\. The port is PORT\. Known are: /);
  });

  it.each([
    [{ concurency: 3 }, /^Unknown option concurency\. Known are: .*\bconcurrency\b.*\brun\b/],
    [{ port: 3001 }, /^Unknown option port \(a setting of the service\)\./],
    [{ concurrency: 0 }, /^Expected concurrency to be valid \(an integer from 1 to 1000\), got 0\.$/],
    [{ run: "esbuild" }, /^Expected run to be a function, got string\.$/],
    [{ store: "redis" }, /^Expected store to be "memory" or one of buildlane\/testing, got "redis"\.$/],
    [{ store: {} }, /^Expected store to be "memory" or one of buildlane\/testing, got \{\}\.$/],
    [{ store: null }, /^Expected store to be "memory" or one of buildlane\/testing, got null\.$/],
    [{ store: undefined, db: null }, /^Expected db to be a Drizzle database over postgres\.js or PGlite, got null\.$/],
    [{ store: undefined, db: {} }, /^Expected db to be a Drizzle database over postgres\.js or PGlite, got another object\.$/],
    [{ store: undefined, db: () => {} }, /^Expected db to be a Drizzle database over postgres\.js or PGlite, got a function\.$/],
    [{ clock: {} }, /^Expected clock to be one of buildlane\/testing, got another object\.$/],
    [{ packagesDir: "/nope" }, /^Expected packagesDir \(BUILDLANE_PACKAGES_DIR\) to name a folder/],
    [{ importMap: "/nope.json" }, /^Expected importMap \(BUILDLANE_IMPORT_MAP\) to name a JSON file/],
    [{ databaseUrl: "postgres://db/x" }, /^Expected one of store, db and databaseUrl, got several\.$/],
  ])("of the module that cannot be meant are refused: %j", async (wrong, message) => {
    const outcome = await createBuildQueue({ store: "memory", run: () => "", ...wrong } as never).then((queue) => queue.stop(), (error: unknown) => error);
    expect(outcome).toBeInstanceOf(SettingsError);
    expect((outcome as Error).message).toMatch(message);
  });

  it.each([5, null, "memory", []])("of the module are an object: %j is none", async (wrong) => {
    await expect(createBuildQueue(wrong as never)).rejects.toThrow(new SettingsError(`Expected the options to be an object, got ${JSON.stringify(wrong)}.`));
  });

  it("take a number, or its digits, and nothing that only could be made one; to TypeScript too", () => {
    const cyclic: unknown[] = [];
    cyclic.push(cyclic);
    expect([queueSettings({ drainMs: 5 }), queueSettings({ drainMs: "5" }), queueSettings({ drainMs: " 5\r" })].map(({ drainMs }) => drainMs)).toEqual([5, 5, 5]);
    for (const [wrong, told] of [[true, "true"], [[], "[]"], ["", '""'], ["1e3", '"1e3"'], [new Date(5), '"1970-01-01T00:00:00.005Z"'], [5n, "5n"], [Number.NaN, "null"], [cyclic, "what cannot be shown (object)"], [Symbol("five"), "Symbol(five)"]] as const)
      expect(() => queueSettings({ drainMs: wrong as never })).toThrow(new SettingsError(`Expected drainMs to be valid (an integer from 0 to 3600000), got ${told}.`));
    const typed = (input: QueueSettingsInput["concurrency"]) => input;
    expect(typed(3)).toBe(typed(3));
    // @ts-expect-error -- a number or digits
    typed(true);
  });

  it("of the module may be undefined, each, and what is asked and answered has names", async () => {
    const queue: QueueView & { settings: QueueSettings; node(): Promise<NodeView> } = await createBuildQueue({ store: "memory", db: undefined, run: () => "built", onReport: undefined, onProgress: undefined, clock: undefined, concurrency: undefined });
    const [list, lanes, filter]: [ListQuery, LanesQuery, DeadLetterFilter] = [{}, {}, {}];
    const groups: DeadLetterGroup[] = await queue.deadLetters.groups(filter);
    expect([groups, (await queue.list(list)).jobs, (await queue.lanes(lanes)).lanes]).toEqual([[], [], []]);
    const { id } = await queue.enqueue({ chatId: "a", messageId: "m", code: "1", delayMs: 60_000 });
    const cancelled: CancelResult = await queue.cancel(id);
    const output: Output = await queue.output(id);
    expect([cancelled, output.status]).toEqual(["cancelled", "failed"]);
    await (queue as BuildQueue).stop();
  });

  it("of the module leave out those of the service", () => {
    expect(Object.keys(queueSettings({}))).not.toContain("port");
    expect(queueSettings({ rateLimit: "60/minute" }).rateLimit).toEqual({ text: "60/minute", burst: 60, intervalMs: 1000 });
  });
});
