import { describe, expect, it } from "vitest";
import { SettingsError } from "../src/errors.js";
import { createBuildQueue } from "../src/index.js";
import { queueSettings, readSettings } from "../src/options.js";

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
    [{ databaseUrl: "postgres://db/x" }, /^Expected one of store, db and databaseUrl, got several\.$/],
  ])("of the module that cannot be meant are refused: %j", async (wrong, message) => {
    const outcome = await createBuildQueue({ store: "memory", run: () => "", ...wrong } as never).then((queue) => queue.stop(), (error: unknown) => error);
    expect(outcome).toBeInstanceOf(SettingsError);
    expect((outcome as Error).message).toMatch(message);
  });

  it("of the module leave out those of the service", () => {
    expect(Object.keys(queueSettings({}))).not.toContain("port");
    expect(queueSettings({ rateLimit: "60/minute" }).rateLimit).toEqual({ text: "60/minute", burst: 60, intervalMs: 1000 });
  });
});
