/** The built service as a stranger meets it: who is let in, and what its log keeps to itself. */
import { existsSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../support/command.js";
import { buildService, startService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const project = path.resolve(import.meta.dirname, "../..");
const folders: AsyncDisposable[] = [];
beforeAll(() => buildService(), 120_000);
afterAll(async () => void (await Promise.all(folders.map((one) => one[Symbol.asyncDispose]()))));

async function folder(): Promise<string> {
  const made = await tempFolder();
  folders.push(made);
  return path.join(made.path, "data");
}
const buildlane = (args: string[], env: Record<string, string> = {}) => runCommand(args, { env });
/** Reached by loopback only, and yet not a loopback name: what guards another bind is on. */
const otherBind = "::ffff:127.0.0.1";

test("a bind that others may reach refuses to start without a key, and says how to get one", async () => {
  const data = await folder();
  const { code, err, out } = await buildlane(["serve"], { HOST: "0.0.0.0", PORT: "0", BUILDLANE_DATA_DIR: data });
  // Looking for a key makes no database where there is none.
  expect([code, out, existsSync(data)]).toEqual([2, "", false]);
  expect(err).toMatch(/Refusing to listen on 0\.0\.0\.0.*BUILDLANE_API_KEYS.*buildlane keys create.*--insecure/s);
}, 60_000);

test("keys are made, listed, rotated and revoked on the database and through the service, and the service asks for them", async () => {
  const data = await folder();
  const made = await buildlane(["keys", "create", "--name", "ops", "--scopes", "admin", "--tenant", "*"], { BUILDLANE_DATA_DIR: data });
  expect([made.code, made.out]).toEqual([0, expect.stringMatching(/^bl_[0-9A-Za-z]{60}\n$/)]);
  const admin = made.out.trim();

  // With a key in its database it may be reached by others.
  const service = await startService({ HOST: otherBind, BUILDLANE_DATA_DIR: data });
  try {
    const url = service.url;
    expect((await service.call("GET", "/api/builds/stats")).status).toBe(401);
    expect((await service.call("GET", "/livez")).status).toBe(200);
    const viaRest = { BUILDLANE_URL: url, BUILDLANE_API_KEY: admin };
    const created = await buildlane(["keys", "create", "--tenant", "acme", "--expires", "1h", "--json"], viaRest);
    const acme = JSON.parse(created.out) as { key: string; id: string; tenant: string; scopes: string[]; expiresAt: string };
    expect(acme).toMatchObject({ tenant: "acme", scopes: ["submit", "read"], expiresAt: expect.stringMatching(/Z$/) });
    const submitted = await service.call("POST", "/api/builds", { chatId: "c", messageId: "m", code: "export const a = 1" }, { authorization: `Bearer ${acme.key}` });
    expect([submitted.status, submitted.json.data.chatSeq]).toEqual([202, 1]);
    const rotated = await buildlane(["keys", "rotate", acme.id], viaRest);
    expect(rotated.out).toMatch(/^bl_/);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${acme.key}` })).status).toBe(401);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${rotated.out.trim()}` })).status).toBe(200);
    expect((await buildlane(["keys", "revoke", rotated.out.slice(3, 15)], viaRest)).code).toBe(0);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${rotated.out.trim()}` })).status).toBe(401);
    // Its folder is in use: who asks there is told of the other way.
    expect(await buildlane(["keys", "list"], { BUILDLANE_DATA_DIR: data })).toMatchObject({ code: 2, err: expect.stringMatching(/in use by another process.*Or ask the service that uses it: --url http/) });
    const listed = await buildlane(["keys", "list"], viaRest);
    expect([listed.out.trim().split("\n").length, listed.out.includes(admin)]).toEqual([3, false]);
    expect((await buildlane(["keys", "list"], { BUILDLANE_URL: url })).err).toMatch(/API key/);
  } finally {
    service.kill();
    await service.exited;
  }
}, 120_000);

test("a database that is named on the command line is the one that keys are made in, whatever service the environment names", async () => {
  const data = await folder();
  const elsewhere = { BUILDLANE_URL: "http://127.0.0.1:1" };
  // The first key must be one that can make others, unless there is such a one in the settings.
  expect(await buildlane(["keys", "create", "--data-dir", data], elsewhere)).toMatchObject({ code: 2, out: "", err: expect.stringContaining("keys create --name operator --scopes admin") });
  const made = await buildlane(["keys", "create", "--scopes", "admin", "--data-dir", data], elsewhere);
  expect([made.code, made.out]).toEqual([0, expect.stringMatching(/^bl_/)]);
  expect((await buildlane(["keys", "list", "--data-dir", data], elsewhere)).out).toContain(made.out.slice(3, 15));
  for (const where of [["--data-dir", data], ["--database-url", "postgres://127.0.0.1:1/x"]])
    expect(await buildlane(["keys", "list", "--url", "http://127.0.0.1:1", ...where])).toMatchObject({ code: 2, err: expect.stringMatching(/either --url or a database/) });
}, 120_000);

test("over a whole run the log names no code, key, token, password or folder of the host", async () => {
  const data = await folder();
  const canary = "canary9f3c";
  const key = `${canary}-setting-key-0123456789`;
  const service = await startService({ BUILDLANE_DATA_DIR: data, BUILDLANE_API_KEYS: key, LOG_LEVEL: "trace", BUILDLANE_RETRY_BASE_MS: "1", BUILDLANE_BUILD_TIMEOUT_MS: "3000" });
  const seen: unknown[] = [];
  try {
    const headers = { authorization: `Bearer ${key}` };
    const submit = async (code: string, extra = {}) => {
      const answer = await service.call("POST", "/api/builds", { chatId: "c", messageId: "m", code, ...extra }, { ...headers, prefer: "wait=20" });
      seen.push([answer.status, answer.json?.data?.status]);
      return answer.json?.data as { id: string };
    };
    const good = await submit(`export const a = "${canary}-good"`);
    await submit(`export const = "${canary}-syntax"`);
    await submit(`import x from "/etc/${canary}-import"; x;`);
    await submit(`import x from "./${canary}-missing"; x;`);
    await service.call("POST", "/api/builds", `{"chatId":"c","code":"${canary}-json`, headers);
    await service.call("POST", "/api/builds", { chatId: "c", messageId: "m", code: `${canary}\u0000` }, headers);
    await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${canary}-wrong-key-0123456789` });
    await service.call("GET", `/api/builds/${canary}-path?token=${canary}-query`, undefined, headers);
    const { json } = await service.call("POST", "/api/builds/chat/c/token", undefined, headers);
    const token = json.data.token as string;
    expect((await service.call("GET", `/api/builds/chat/c?token=${token}`)).status).toBe(200);
    const made = (await service.call("POST", "/api/builds/keys", { name: "x", tenant: "acme" }, headers)).json.data.key as string;
    await service.call("GET", `/api/builds/${good.id}/output`, undefined, { authorization: `Bearer ${made}` });
    service.kill("SIGTERM");
    await service.exited;
    const log = service.output();
    expect(log.split("\n").filter((line) => line.startsWith("{")).length).toBeGreaterThan(15);
    expect(seen).toEqual([[200, "completed"], [200, "failed"], [200, "failed"], [200, "failed"]]);
    for (const secret of [canary, token, made, made.slice(15), data, project, "node_modules"]) expect([secret.slice(0, 12), log.includes(secret)]).toEqual([secret.slice(0, 12), false]);
  } finally {
    service.kill();
    await service.exited;
  }
}, 120_000);

test("a database's password is in no message when it cannot be reached or is not valid", async () => {
  const refused = await Promise.all([
    buildlane(["serve"], { DATABASE_URL: "postgres://user:canary9f3c@127.0.0.1:1/db", PORT: "0", LOG_LEVEL: "trace" }),
    buildlane(["serve"], { DATABASE_URL: "mysql://user:canary9f3c@127.0.0.1/db" }),
    buildlane(["serve"], { BUILDLANE_API_KEYS: "canary9f3c!" }),
  ]);
  for (const { code, out, err } of refused) expect([code === 0, err.length > 20, (out + err).includes("canary9f3c")]).toEqual([false, true, false]);
}, 120_000);
