/** The day after the demo: a running service with a key, operated from the command line alone, backed up while it works and brought back elsewhere. */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCommand } from "../support/command.js";
import { buildService, startService } from "../support/service.js";
import type { Service } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const key = "operator-key-0123456789";
let folder: Awaited<ReturnType<typeof tempFolder>>;
let service: Service;
beforeAll(async () => {
  buildService();
  folder = await tempFolder();
  service = await startService({ BUILDLANE_DATA_DIR: path.join(folder.path, "data"), BUILDLANE_API_KEYS: `${key},${key}-reads:*:read`, LOG_LEVEL: "warn" });
}, 180_000);
afterAll(async () => {
  service.kill();
  await service.exited;
  await folder[Symbol.asyncDispose]();
});

/** Runs a command as the operator, unless `env` says otherwise. */
const buildlane = (args: string[], env: Record<string, string> = {}) =>
  runCommand(args, { cwd: folder.path, input: "export const a = 1;", env: { BUILDLANE_URL: service.url, BUILDLANE_API_KEY: key, ...env } });
/** What the commands have shown already, without a process each. */
const auth = { authorization: `Bearer ${key}` };
const submitTo = async (where: Service): Promise<any> => (await where.call("POST", "/api/builds", { chatId: "c", messageId: "m", code: "export const a = 1;" }, { ...auth, prefer: "wait=30" })).json.data;
const get = (where: Service, id: string) => where.call("GET", `/api/builds/${id}`, undefined, auth);
const json = (ran: { out: string }): any => JSON.parse(ran.out);
const nobody = "http://127.0.0.1:1";

describe("an operator", () => {
  it("loads the service: all is built in order, and nothing of it is left", async () => {
    const ran = await buildlane(["bench", "--jobs", "24", "--chats", "6", "--json"]);
    expect(ran.code).toBe(0);
    expect(json(ran)).toMatchObject({ jobs: 24, failed: 0, outOfOrder: 0, builtPerSecond: expect.any(Number), waitingMs: { p50: expect.any(Number) } });
    expect(json(await buildlane(["list", "--json"]))).toEqual([]);
    expect(await buildlane(["bench", "--jobs", "500", "--chats", "2"])).toMatchObject({ code: 2, err: expect.stringContaining("at most 100 jobs a chat") });
  }, 120_000);

  it("backs the embedded database up while it runs, and another service goes on from there", async () => {
    const done = await submitTo(service);
    expect((await buildlane(["pause"])).code).toBe(0);
    const waiting = json(await buildlane(["submit", "-", "--chat", "c", "--json"]));
    expect(await buildlane(["backup", "monday.tar.gz"])).toMatchObject({ code: 0, out: "monday.tar.gz\n", err: expect.stringMatching(/^\d{5,} bytes/) });
    const after = (await service.call("POST", "/api/builds", { chatId: "c", messageId: "m", code: "1" }, auth)).json.data;

    expect(await buildlane(["restore", "monday.tar.gz", "--data-dir", "restored"])).toMatchObject({ code: 0, out: "restored\n", err: expect.stringContaining("with 2 jobs") });
    expect(await buildlane(["restore", "monday.tar.gz", "--data-dir", "restored"])).toMatchObject({ code: 2, err: expect.stringContaining("holds a database already") });
    const second = await startService({ BUILDLANE_DATA_DIR: path.join(folder.path, "restored"), BUILDLANE_API_KEYS: key, LOG_LEVEL: "warn" });
    try {
      const there = { BUILDLANE_URL: second.url };
      expect((await get(second, done.id)).json.data).toMatchObject({ status: "completed", result: done.result });
      // The pause was in the backup, too.
      expect(json(await buildlane(["why", waiting.id, "--json"], there))).toMatchObject({ reason: "queue_paused" });
      expect((await buildlane(["resume"], there)).code).toBe(0);
      expect(await submitTo(second)).toMatchObject({ status: "completed", chatSeq: 3 });
      expect((await get(second, waiting.id)).json.data).toMatchObject({ status: "completed", chatSeq: 2 });
      expect((await get(second, after.id)).json.code).toBe("job_not_found");
    } finally {
      second.kill();
      await second.exited;
    }
    expect((await service.call("POST", "/api/builds/resume", undefined, auth)).status).toBe(200);
    expect(await buildlane(["backup", "x.tar.gz"], { BUILDLANE_API_KEY: `${key}-reads` })).toMatchObject({ code: 5 });
  }, 180_000);

  it("erases a conversation and says why, and finds it in the record of what was done", async () => {
    const { id } = (await service.call("POST", "/api/builds", { chatId: "gone", messageId: "m", code: "1" }, { ...auth, prefer: "wait=30" })).json.data;
    expect(await buildlane(["erase", "gone", "--yes", "--reason", "account closed"])).toMatchObject({ code: 0, out: "1 jobs of chat gone erased\n" });
    expect((await get(service, id)).status).toBe(404);
    expect(json(await buildlane(["audit", "--limit", "1", "--json"]))).toMatchObject([{ action: "chat.erased", target: "gone", reason: "account closed", actor: "setting:1" }]);
    const told = await buildlane(["audit", "--limit", "1"]);
    expect([told.out.split("\n")[1], told.err]).toEqual([expect.stringMatching(/^\S+Z +setting:1 +chat\.erased +gone +account closed$/), expect.stringMatching(/^More: --cursor \d+/)]);
  }, 120_000);

  it("is told apart from who may not, and from nobody there", async () => {
    const [doctor, away, noKey, reads, config, wrong, keysAway, keysRefused] = await Promise.all([
      buildlane(["doctor", "--json"]), buildlane(["doctor"], { BUILDLANE_URL: nobody }), buildlane(["audit"], { BUILDLANE_API_KEY: "" }), buildlane(["audit"], { BUILDLANE_API_KEY: `${key}-reads` }),
      buildlane(["config", "--json"], { BUILDLANE_TENANT_WEIGHTS: "acme=3", BUILDLANE_API_KEYS: key }), buildlane(["config"], { BUILDLANE_TENANT_WEIGHTS: "acme" }),
      buildlane(["keys", "list"], { BUILDLANE_URL: nobody }), buildlane(["keys", "create"], { BUILDLANE_API_KEY: `${key}-reads` }),
    ]);
    expect([doctor.code, json(doctor).filter(({ state }: { state: string }) => state === "wrong")]).toEqual([0, []]);
    expect([away.code, noKey.code, reads.code, wrong.code, keysAway.code, keysRefused.code]).toEqual([3, 5, 5, 2, 3, 5]);
    expect(json(config)).toEqual(expect.arrayContaining([{ name: "tenantWeights", env: "BUILDLANE_TENANT_WEIGHTS", source: "environment", value: "acme=3" }, { name: "apiKeys", env: "BUILDLANE_API_KEYS", source: "environment", value: "(not shown)" }]));
    expect(wrong.err).toMatch(/BUILDLANE_TENANT_WEIGHTS.*acme=3,free=1/);
  }, 120_000);
});
