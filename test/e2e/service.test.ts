import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildService, startService } from "../support/service.js";
import type { Service } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

const open: Service[] = [];
const folders: AsyncDisposable[] = [];
const start: typeof startService = async (...args) => {
  const service = await startService(...args);
  open.push(service);
  return service;
};
const folder = async (): Promise<string> => {
  const made = await tempFolder();
  folders.push(made);
  return made.path;
};
type Job = Record<string, any>;

beforeAll(() => buildService(), 120_000);
afterEach(async () => {
  for (const service of open.splice(0)) {
    service.kill();
    await service.exited;
  }
});
afterAll(async () => {
  await Promise.all(folders.map((one) => one[Symbol.asyncDispose]()));
});

/** Starts of a chat's jobs that came before the end of the one ahead. */
const overlaps = (jobs: Job[]): number => {
  const ordered = [...jobs].sort((a, b) => a["chatSeq"] - b["chatSeq"]);
  return ordered.filter((job, index) => index > 0 && job["startedAt"] < (ordered[index - 1] as Job)["completedAt"]).length;
};
/** The most jobs that ran at one moment. */
const mostAtOnce = (jobs: Job[]): number => {
  const moments = jobs.flatMap((job) => [[job["startedAt"], 1], [job["completedAt"], -1]] as [string, number][]).sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x - y));
  let running = 0;
  return Math.max(...moments.map(([, change]) => (running += change)));
};

describe("the service on an embedded database", { timeout: 180_000 }, () => {
  it("does the seed's three manual tests on a new database", async () => {
    const service = await start({ BUILDLANE_DATA_DIR: await folder() });

    const one = await service.submit("chat1", "msg1", 'console.log("test")');
    expect(one.status).toBe(202);
    expect(one.headers.get("location")).toBe(`/api/builds/${one.json.data.id}`);
    expect(one.json).toMatchObject({ ok: true, data: { status: "pending", chatSeq: 1, queuePosition: 1 } });
    const done = await service.settled(one.json.data.id);
    expect(done).toMatchObject({ status: "completed", error: null, attempt: 1 });
    expect(done["result"]).toContain('console.log("test")');

    const five: Job[] = [];
    for (let index = 1; index <= 5; index++) five.push((await service.submit("chat2", `msg${index}`, `console.log(${index})`)).json.data);
    expect(five.map((job) => job["chatSeq"])).toEqual([1, 2, 3, 4, 5]);
    const built = await Promise.all(five.map((job) => service.settled(job["id"])));
    expect(overlaps(built)).toBe(0);
    expect((await service.call("GET", "/api/builds/chat/chat2")).json.data).toMatchObject({ pending: [], running: [], failed: [], completed: [{ chatSeq: 5 }, { chatSeq: 4 }, { chatSeq: 3 }, { chatSeq: 2 }, { chatSeq: 1 }] });

    const bad = await service.settled((await service.submit("chat1", "msg1", "syntax error{")).json.data.id);
    expect(bad).toMatchObject({ status: "failed", attempt: 1, result: null, failure: { code: "build_failed", diagnostics: [{ line: 1, column: 8, file: "message.tsx" }] } });
    expect(bad["error"]).toMatch(/message\.tsx:1:8: error: .*\n\n {2}1 \| syntax error\{\n {4}\| {8}\^/);
  });

  it("runs 40 chats of 5 jobs without overlap, overtaking or more at once than slots", async () => {
    const service = await start({ BUILDLANE_DATA_DIR: await folder() });
    const accepted = await Promise.all(Array.from({ length: 200 }, (_, index) => service.submit(`chat${index % 40}`, `m${Math.floor(index / 40)}`, `export const x: number = ${index}`)));
    expect(accepted.map((answer) => answer.status).filter((status) => status !== 202)).toEqual([]);
    // One after another: two hundred askers at once would take the processors from the builds.
    const jobs: Job[] = [];
    for (const answer of accepted) jobs.push(await service.settled(answer.json.data.id));
    expect(new Set(jobs.map((job) => job["status"]))).toEqual(new Set(["completed"]));
    const byChat = new Map<string, Job[]>();
    for (const job of jobs) byChat.set(job["chatId"], [...(byChat.get(job["chatId"]) ?? []), job]);
    expect([...byChat.values()].map((chat) => chat.map((job) => job["chatSeq"]).sort())).toEqual(Array.from({ length: 40 }, () => [1, 2, 3, 4, 5]));
    expect([...byChat.values()].reduce((sum, chat) => sum + overlaps(chat), 0)).toBe(0);
    expect(mostAtOnce(jobs)).toBe(3);
  });

  it("loses nothing to kill -9 in the middle of work, and records each outcome once", async () => {
    const dataDir = await folder();
    const first = await start({ BUILDLANE_DATA_DIR: dataDir });
    const ids: string[] = [];
    for (let index = 0; index < 30; index++) ids.push((await first.submit(`k${index % 3}`, `m${index}`, `console.log(${index})`)).json.data.id);
    first.kill("SIGKILL");
    await first.exited;

    const second = await start({ BUILDLANE_DATA_DIR: dataDir });
    expect(second.readyMs).toBeLessThan(60_000);
    const jobs = await Promise.all(ids.map((id) => second.settled(id)));
    expect(new Set(jobs.map((job) => job["status"]))).toEqual(new Set(["completed"]));
    for (const job of jobs) {
      const outcomes = (job["attempts"] as Job[]).map((attempt) => attempt["outcome"]);
      expect(outcomes.filter((outcome) => outcome === "completed")).toHaveLength(1);
      expect(outcomes.slice(0, -1).every((outcome) => outcome === "rescued")).toBe(true);
      // A rescue costs no attempt.
      expect(job["attempt"]).toBe(outcomes.length);
    }
    for (const chat of ["k0", "k1", "k2"]) expect(overlaps(jobs.filter((job) => job["chatId"] === chat))).toBe(0);
  });

  it("drains on SIGTERM: the running build is finished, what waits stays, and the process ends by itself", async () => {
    const dataDir = await folder();
    const service = await start({ BUILDLANE_DATA_DIR: dataDir, BUILDLANE_CONCURRENCY: "1" });
    const ids: string[] = [];
    for (let index = 0; index < 10; index++) ids.push((await service.submit("chat", `m${index}`, `export const x = ${index}`)).json.data.id);
    service.kill("SIGTERM");
    service.kill("SIGTERM");
    expect(await service.exited).toBe(0);
    expect(service.output()).not.toMatch(/lanes\.rescued|outcome\.refused/);

    const next = await start({ BUILDLANE_DATA_DIR: dataDir });
    const jobs = await Promise.all(ids.map((id) => next.settled(id)));
    expect(jobs.every((job) => job["status"] === "completed" && job["attempt"] === 1)).toBe(true);
    expect(overlaps(jobs)).toBe(0);
  });

  it("refuses a second service on the same folder, and says why", async () => {
    const dataDir = await folder();
    await start({ BUILDLANE_DATA_DIR: dataDir });
    await expect(start({ BUILDLANE_DATA_DIR: dataDir })).rejects.toThrow(/another process/i);
  });

  it("logs no code", async () => {
    const service = await start({ BUILDLANE_DATA_DIR: await folder(), LOG_LEVEL: "trace" });
    const canary = "c4n4ry_7f3a";
    await service.settled((await service.submit("chat", "m", `export const ${canary} = 1`)).json.data.id);
    await service.settled((await service.submit("chat", "m", `const ${canary} = ;`)).json.data.id);
    await service.call("POST", "/api/builds", { chatId: "chat", messageId: "m", code: canary, nope: 1 });
    await service.call("POST", "/api/builds", `{"code": "${canary}`);
    service.kill("SIGTERM");
    await service.exited;
    expect(service.output()).toMatch(/attempt\.ended/);
    expect(service.output()).not.toContain(canary);
  });
});

describe("the service's start", () => {
  it.each([
    [{ BUILDLANE_CONCURRENCY: "none" }, /Expected BUILDLANE_CONCURRENCY to be valid \(an integer from 1 to \d+\), got "none"\./],
    [{ BUILDLANE_INSPECT: "yes" }, /Expected BUILDLANE_INSPECT to be valid \(true or false\), got "yes"\./],
    [{ BUILDLANE_NOPE: "1" }, /Unknown setting BUILDLANE_NOPE/],
    [{ HOST: "0.0.0.0" }, /Refusing to listen on 0\.0\.0\.0.*--insecure/],
    [{ DATABASE_URL: "postgres://someone:s3cret@127.0.0.1:1/none" }, /The database cannot be reached \(ECONNREFUSED\)\. Check DATABASE_URL, and that the database runs\./],
  ])("with %j is refused with a message that names the matter, and no secret", async (env, message) => {
    const failure = await start({ BUILDLANE_DATA_DIR: "/nonexistent", ...(env as Record<string, string>) }).then(() => "it started", (error: Error) => error.message);
    expect(failure).toMatch(message);
    expect(failure).not.toMatch(/s3cret/);
  });
});
