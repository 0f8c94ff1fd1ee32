/** The built service as a stranger meets it: who is let in, and what its log keeps to itself. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildService, startService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";
import { usedFolder } from "../support/used-folder.js";

const project = path.resolve(import.meta.dirname, "../..");
const folders: AsyncDisposable[] = [];
beforeAll(() => buildService(), 120_000);
afterAll(async () => void (await Promise.all(folders.map((one) => one[Symbol.asyncDispose]()))));

async function folder(): Promise<string> {
  const made = await tempFolder();
  folders.push(made);
  return path.join(made.path, "data");
}
function buildlane(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(project, "dist/src/cli/main.js"), ...args], { encoding: "utf8", timeout: 60_000, env: { PATH: process.env["PATH"] ?? "", ...env } });
  return { status, stdout, stderr };
}
/** Reached by loopback only, and yet not a loopback name: what guards another bind is on. */
const otherBind = "::ffff:127.0.0.1";

test("a bind that others may reach refuses to start without a key, and says how to get one", async () => {
  const data = await folder();
  const { status, stderr, stdout } = buildlane(["serve"], { HOST: "0.0.0.0", PORT: "0", BUILDLANE_DATA_DIR: data });
  // Looking for a key makes no database where there is none.
  expect([status, stdout, existsSync(data)]).toEqual([2, "", false]);
  expect(stderr).toMatch(/Refusing to listen on 0\.0\.0\.0.*BUILDLANE_API_KEYS.*buildlane keys create.*--insecure/s);
}, 60_000);

test("keys are made, listed, rotated and revoked on the database and through the service, and the service asks for them", async () => {
  const data = await folder();
  const made = buildlane(["keys", "create", "--name", "ops", "--scopes", "admin", "--tenant", "*"], { BUILDLANE_DATA_DIR: data });
  expect([made.status, made.stdout]).toEqual([0, expect.stringMatching(/^bl_[0-9A-Za-z]{60}\n$/)]);
  const admin = made.stdout.trim();

  // With a key in its database it may be reached by others.
  const service = await startService({ HOST: otherBind, BUILDLANE_DATA_DIR: data });
  try {
    const url = service.url;
    expect((await service.call("GET", "/api/builds/stats")).status).toBe(401);
    expect((await service.call("GET", "/livez")).status).toBe(200);
    const viaRest = { BUILDLANE_URL: url, BUILDLANE_API_KEY: admin };
    const created = buildlane(["keys", "create", "--tenant", "acme", "--expires", "1h", "--json"], viaRest);
    const acme = JSON.parse(created.stdout) as { key: string; id: string; tenant: string; scopes: string[]; expiresAt: string };
    expect(acme).toMatchObject({ tenant: "acme", scopes: ["submit", "read"], expiresAt: expect.stringMatching(/Z$/) });
    const submitted = await service.call("POST", "/api/builds", { chatId: "c", messageId: "m", code: "export const a = 1" }, { authorization: `Bearer ${acme.key}` });
    expect([submitted.status, submitted.json.data.chatSeq]).toEqual([202, 1]);
    const rotated = buildlane(["keys", "rotate", acme.id], viaRest);
    expect(rotated.stdout).toMatch(/^bl_/);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${acme.key}` })).status).toBe(401);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${rotated.stdout.trim()}` })).status).toBe(200);
    expect(buildlane(["keys", "revoke", rotated.stdout.slice(3, 15)], viaRest).status).toBe(0);
    expect((await service.call("GET", "/api/builds/stats", undefined, { authorization: `Bearer ${rotated.stdout.trim()}` })).status).toBe(401);
    // Its folder is in use: who asks there is told of the other way.
    expect(buildlane(["keys", "list"], { BUILDLANE_DATA_DIR: data })).toMatchObject({ status: 2, stderr: expect.stringMatching(/in use by another process.*Or ask the service that uses it: --url http/) });
    const listed = buildlane(["keys", "list"], viaRest);
    expect([listed.stdout.trim().split("\n").length, listed.stdout.includes(admin)]).toEqual([3, false]);
    // The folder is the running service's: the way in is said.
    expect(buildlane(["keys", "list"], { BUILDLANE_DATA_DIR: data }).status).not.toBe(0);
    expect(buildlane(["keys", "list"], { BUILDLANE_URL: url }).stderr).toMatch(/API key/);
  } finally {
    service.kill();
    await service.exited;
  }
}, 120_000);

test("a database that is named on the command line is the one that keys are made in, whatever service the environment names", async () => {
  const data = await folder();
  const elsewhere = { BUILDLANE_URL: "http://127.0.0.1:1" };
  // The first key must be one that can make others, unless there is such a one in the settings.
  expect(buildlane(["keys", "create", "--data-dir", data], elsewhere)).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining("keys create --name operator --scopes admin") });
  const made = buildlane(["keys", "create", "--scopes", "admin", "--data-dir", data], elsewhere);
  expect([made.status, made.stdout]).toEqual([0, expect.stringMatching(/^bl_/)]);
  expect(buildlane(["keys", "list", "--data-dir", data], elsewhere).stdout).toContain(made.stdout.slice(3, 15));
  for (const where of [["--data-dir", data], ["--database-url", "postgres://127.0.0.1:1/x"]])
    expect(buildlane(["keys", "list", "--url", "http://127.0.0.1:1", ...where])).toMatchObject({ status: 2, stderr: expect.stringMatching(/either --url or a database/) });
}, 120_000);

test("over a whole run the log names no code, key, token, password or folder of the host", async () => {
  const used = await usedFolder();
  folders.push(used);
  const { data } = used;
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

test("a database's password is in no message when it cannot be reached or is not valid", () => {
  const away = buildlane(["serve"], { DATABASE_URL: "postgres://user:canary9f3c@127.0.0.1:1/db", PORT: "0", LOG_LEVEL: "trace" });
  const wrong = buildlane(["serve"], { DATABASE_URL: "mysql://user:canary9f3c@127.0.0.1/db" });
  const keys = buildlane(["serve"], { BUILDLANE_API_KEYS: "canary9f3c!" });
  for (const { status, stdout, stderr } of [away, wrong, keys]) expect([status === 0, stderr.length > 20, (stdout + stderr).includes("canary9f3c")]).toEqual([false, true, false]);
}, 120_000);
