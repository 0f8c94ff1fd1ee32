/** The command line against a running service, as processes of their own: data on stdout, talk on stderr, and the exit codes. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createClient } from "../../src/client/index.js";
import { controlledQueue, listening, server } from "../http/support.js";
import { startCommand } from "../support/command.js";
import type { Ran } from "../support/command.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

let service: Awaited<ReturnType<typeof controlledQueue>>;
let app: Awaited<ReturnType<typeof server>>;
let folder: Awaited<ReturnType<typeof tempFolder>>;
let url: string;
beforeAll(async () => {
  buildService();
  service = await controlledQueue({ maxAttempts: 1, concurrency: 8 });
  app = await server(service.queue);
  url = await listening(app);
  folder = await tempFolder();
}, 60_000);
afterAll(async () => {
  await app.close();
  await service.queue.stop();
  await folder[Symbol.asyncDispose]();
});

const start = (args: string[], { input, env = {} }: { input?: string; env?: Record<string, string> } = {}) => startCommand(args, { ...(input === undefined ? {} : { input }), env: { BUILDLANE_URL: url, ...env } });
const run = (args: string[], options?: Parameters<typeof start>[1]): Promise<Ran> => start(args, options).ended;
const file = async (name: string, text: string): Promise<string> => {
  await writeFile(path.join(folder.path, name), text);
  return path.join(folder.path, name);
};

describe("the command line", () => {
  it("submits a file and prints the job's id, or waits for its end and writes the output", async () => {
    const app1 = await file("app.tsx", "export const a = 1;");
    const out = path.join(folder.path, "out.js");
    const [plain, waited, json, piped] = await Promise.all([
      run(["submit", app1, "--chat", "c1"]),
      run(["submit", app1, "--chat", "c2", "--wait", "--out", out]),
      run(["submit", app1, "--chat", "c3", "--watch", "--json"]),
      run(["submit", "-", "--chat", "c4", "--out", "-", "--loader", "ts"], { input: "from a pipe" }),
    ]);
    expect(plain).toMatchObject({ code: 0, err: expect.stringContaining("Accepted as number 1 of chat c1") });
    expect(plain.out).toMatch(/^[0-9A-Za-z]{21}\n$/);
    expect(waited).toMatchObject({ code: 0, err: expect.stringContaining("completed in") });
    expect(await readFile(out, "utf8")).toBe("built export const a = 1;");
    expect(JSON.parse(json.out)).toMatchObject({ status: "completed", chatId: "c3", messageId: "app.tsx", options: { loader: "tsx" } });
    expect(json.err).toMatch(/job\.started/);
    expect(piped).toMatchObject({ code: 0, out: "built from a pipe" });
  });

  it("ends with 1 when a build fails, 4 when it takes too long, 2 when it is misused, 3 when nobody is there, 130 when interrupted", async () => {
    const bad = await file("bad.ts", "fail here");
    const hold = await file("hold.ts", "hold");
    const interrupted = start(["submit", hold, "--chat", "held", "--wait"]);
    const [failed, late, misused, unknown, gone, wrongFile] = await Promise.all([
      run(["submit", bad, "--chat", "bad", "--wait"]),
      run(["submit", hold, "--chat", "late", "--wait", "--timeout", "1"]),
      run(["submit"]),
      run(["staus"]),
      run(["status"], { env: { BUILDLANE_URL: "http://127.0.0.1:1" } }),
      run(["submit", "/nowhere/at/all.ts", "--chat", "c"]),
      (async () => {
        await interrupted.until(({ err }) => err.includes("running"));
        interrupted.child.kill("SIGINT");
      })(),
    ]);
    expect(failed).toMatchObject({ code: 1, err: expect.stringMatching(/failed: run_failed[\s\S]*no: fail here/) });
    expect(late).toMatchObject({ code: 4, err: expect.stringContaining("goes on") });
    expect(misused).toMatchObject({ code: 2, out: "" });
    expect(unknown).toMatchObject({ code: 2, err: expect.stringContaining("Did you mean status?") });
    expect(gone).toMatchObject({ code: 3, err: expect.stringContaining("cannot be reached") });
    expect(wrongFile).toMatchObject({ code: 2, err: expect.stringContaining("cannot be read (ENOENT)") });
    expect(await interrupted.ended).toMatchObject({ code: 130, err: expect.stringContaining("goes on; see buildlane status") });
    service.release();
  });

  it("shows jobs, lists, reasons and figures, as JSON without the envelope too", async () => {
    const client = createClient({ url });
    const { id } = await client.submit({ chatId: "shown", messageId: "m", code: "1" });
    await client.waitFor(id);
    const [status, statusJson, list, figures, why, logs, nope] = await Promise.all([
      run(["status", id]), run(["status", id, "--json"]), run(["list", "--chat", "shown", "--json"]), run(["status", "--json"]), run(["why", id]), run(["logs", id]), run(["status", "nope"]),
    ]);
    expect(status.out).toMatch(/status +completed/);
    expect(JSON.parse(statusJson.out)).toMatchObject({ id, status: "completed", result: "built 1" });
    expect(JSON.parse(list.out)).toMatchObject([{ id }]);
    expect(JSON.parse(figures.out)).toMatchObject({ totalCompleted: expect.any(Number), nodes: [{ alive: true }] });
    expect(why).toMatchObject({ code: 0, out: "It is completed.\n" });
    expect(logs.out.trim().split("\n").map((line) => line.trim().split(/ +/)[2])).toEqual(["job.accepted", "job.started", "job.completed"]);
    expect(nope).toMatchObject({ code: 1, err: expect.stringContaining("There is no job nope") });
  });

  it("pauses and resumes, cancels, redrives and erases", async () => {
    const client = createClient({ url });
    const { id } = await client.submit({ chatId: "managed", messageId: "m", code: "fail" });
    await client.waitFor(id);
    expect(await run(["pause", "--chat", "managed"])).toMatchObject({ code: 0, out: "chat managed is paused\n" });
    const waiting = await client.submit({ chatId: "managed", messageId: "m", code: "1" });
    const [groups, cancelled, retried] = await Promise.all([run(["dead-letters", "--groups", "--chat", "managed", "--json"]), run(["cancel", waiting.id]), run(["redrive", id, "no-such-job", "--dry-run"])]);
    expect(JSON.parse(groups.out)).toMatchObject([{ failureCode: "run_failed", count: 1, examples: [id] }]);
    expect(cancelled).toMatchObject({ code: 0, out: "cancelled\n" });
    expect(retried).toMatchObject({ code: 0, out: "1 match\n", err: "1 of these is no dead letter.\n" });
    expect(await run(["resume", "--chat", "managed", "--json"])).toMatchObject({ code: 0, out: '{"chatId":"managed","paused":false}\n' });
    expect(await run(["erase", "managed"])).toMatchObject({ code: 2, err: expect.stringContaining("Say --yes") });
    expect(await run(["erase", "managed", "--yes", "--json"])).toMatchObject({ code: 0, out: '{"chatId":"managed","erased":2}\n' });
    expect((await run(["redrive"])).code).toBe(2);
  });

  it("keeps why an operator did something, in any language, and shows and changes a chat's policy and what is quarantined", async () => {
    const client = createClient({ url });
    const { id } = await client.submit({ chatId: "why", messageId: "m", code: "fail" });
    await client.waitFor(id);
    const reason = "für 客户\n“A”";
    const [paused, policy, shown, lifted, quarantined] = await Promise.all([
      run(["pause", "--chat", "why", "--reason", reason]), run(["policy", "why2", "--while-retrying", "yield", "--reason", "demo", "--json"]), run(["policy", "never"]),
      run(["quarantine", "--lift", "0".repeat(64)]), run(["quarantine"]),
    ]);
    expect(paused.code).toBe(0);
    expect(JSON.parse(policy.out)).toEqual({ whileRetrying: "yield", afterFailure: "skip" });
    expect(shown.out).toMatch(/^while retrying +block\nafter failure +skip\n$/);
    expect(lifted).toMatchObject({ code: 1, err: expect.stringContaining("quarantined") });
    expect(quarantined).toMatchObject({ code: 0, err: "Nothing is quarantined.\n" });
    expect((await Promise.all([run(["retry", id, "--reason", "again"]), run(["cancel", "--chat", "why", "--reason", "enough"])])).map(({ code }) => code)).toEqual([0, 0]);
    await client.cancelChat("why", { reason: "by a program" });
    const { actions } = await client.audit();
    expect(actions.map((one) => [one.action, one.target, one.reason])).toEqual(expect.arrayContaining([
      ["chat.paused", "why", "für 客户 “A”"], ["chat.policyChanged", "why2", "demo"], ["job.redriven", id, "again"], ["chat.cancelled", "why", "enough"], ["chat.cancelled", "why", "by a program"],
    ]));
  });

  it("submits several files, and what a job may cost", async () => {
    const [a, b] = [await file("a.tsx", 'import "./b";'), await file("b.ts", "export const b = 1;")];
    const names = [a, b].map((one) => path.relative(folder.path, one));
    const many = startCommand(["submit", ...names, "--entry", names[1] as string, "--chat", "many", "--json"], { env: { BUILDLANE_URL: url }, cwd: folder.path });
    const [sent, outside, brief] = await Promise.all([
      many.ended, run(["submit", a, "--entry", b, "--chat", "many"]),
      run(["submit", "-", "--chat", "brief", "--timeout-ms", "100", "--max-attempts", "1", "--wait"], { input: "hold" }),
    ]);
    const job = await createClient({ url }).get((JSON.parse(sent.out) as { id: string }).id);
    expect(job).toMatchObject({ files: { "a.tsx": 'import "./b";', "b.ts": "export const b = 1;" }, entry: "b.ts", messageId: "b.ts", options: { loader: "ts" } });
    expect(outside).toMatchObject({ code: 2, err: expect.stringContaining("Expected --entry to be one of the files") });
    expect(brief).toMatchObject({ code: 1, err: expect.stringContaining("failed: timed_out") });
  });

  it("takes the API's address for the service's, and tells an address that is none", async () => {
    const [api, slash, keys, prefixed, ftp, empty, emptyKeys] = await Promise.all([
      run(["status", "--url", `${url}/api/builds`]), run(["status", "--url", `${url}/api/builds/`]), run(["keys", "list", "--url", `${url}/api/builds`]), run(["status", "--url", `${url}/console`]),
      run(["status", "--url", "ftp://x"]), run(["status"], { env: { BUILDLANE_URL: "" } }), run(["keys", "list"], { env: { BUILDLANE_URL: "", DATABASE_URL: "postgres://127.0.0.1:1/x" } }),
    ]);
    expect([api.code, slash.code, keys.code]).toEqual([0, 0, 0]);
    expect(prefixed).toMatchObject({ code: 1, err: expect.stringContaining("Leave /console out of --url") });
    expect(ftp).toMatchObject({ code: 2, err: expect.stringContaining("Expected --url to be") });
    expect(emptyKeys.err).toContain("The database cannot be reached");
    // Whether somebody is at the default address is not the test's to say.
    expect(empty.code).not.toBe(2);
  });

  it("refuses what cannot be meant: a limit of no wait, files that cannot be used, ids of no dead letter", async () => {
    const [timeout, redrive, verify, backup] = await Promise.all([
      run(["submit", "-", "--chat", "c", "--timeout", "5"], { input: "1" }), run(["redrive", "nope"]),
      run(["verify", "--promised", "/nowhere/ids"]), run(["backup", "/nowhere/at/all.tar.gz"]),
    ]);
    expect(timeout).toMatchObject({ code: 2, err: expect.stringContaining("--timeout") });
    expect(redrive).toMatchObject({ code: 1, out: "0 redriven\n", err: "1 of these is no dead letter.\n" });
    expect(verify).toMatchObject({ code: 2, err: "/nowhere/ids cannot be read (ENOENT).\n" });
    expect(backup).toMatchObject({ code: 2, err: "/nowhere/at/all.tar.gz cannot be written (ENOENT).\n" });
  });

  it("loads a service without a warning, and says in one line that there is none", async () => {
    const [loaded, gone] = await Promise.all([run(["bench", "--jobs", "60", "--chats", "30", "--parallel", "30", "--json"]), run(["bench"], { env: { BUILDLANE_URL: "http://127.0.0.1:1" } })]);
    expect(loaded).toMatchObject({ code: 0, err: "60 builds in 30 chats, 30 requests at once.\n" });
    expect(gone).toMatchObject({ code: 3, out: "", err: expect.stringMatching(/^.*cannot be reached.*\n$/) });
  });

  it("looks after itself: doctor, config without secrets, help with examples, colour only when asked", async () => {
    const bad = await file("frames.ts", "fail");
    const [doctor, config, help, coloured, plain] = await Promise.all([
      run(["doctor", "--json"]), run(["config"], { env: { DATABASE_URL: "postgres://u:secret@127.0.0.1/x" } }), run(["submit", "--help"]),
      run(["submit", bad, "--chat", "coloured", "--wait"], { env: { FORCE_COLOR: "1" } }), run(["submit", bad, "--chat", "plain", "--wait"], { env: { FORCE_COLOR: "1", NO_COLOR: "1" } }),
    ]);
    expect((JSON.parse(doctor.out) as { question: string; state: string }[]).filter(({ state }) => state === "wrong")).toEqual([]);
    expect(config.out).toMatch(/databaseUrl +DATABASE_URL +\(not shown\) +environment/);
    expect(config.out).not.toContain("secret");
    expect(help).toMatchObject({ code: 0, out: expect.stringContaining("Examples:\n  $ buildlane submit") });
    expect(coloured.err).toContain("\u001b[31m");
    expect(plain.err).not.toContain("\u001b[");
  });

  it("is refused with 5 where its key is not known", async () => {
    await service.queue.keys.create({ name: "first", scopes: ["read"] } as never);
    const [none, wrong, doctor] = await Promise.all([run(["status"]), run(["status"], { env: { BUILDLANE_API_KEY: "bl_nonsense" } }), run(["doctor"])]);
    expect(none).toMatchObject({ code: 5, err: expect.stringContaining("BUILDLANE_API_KEY") });
    expect([wrong.code, doctor.code]).toEqual([5, 5]);
  });
});
