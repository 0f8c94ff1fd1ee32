/** `buildlane inspect` as a process of its own against a service with keys: narrowed, without secrets, for admins, and told apart from what it says beside. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { controlledQueue, listening, request, server } from "../http/support.js";
import { startCommand } from "../support/command.js";
import { buildService } from "../support/service.js";

type Wire = { type: string; name?: string; snapshot?: { value: unknown; context: Record<string, unknown> } };

let service: Awaited<ReturnType<typeof controlledQueue>>;
let app: Awaited<ReturnType<typeof server>>;
let url: string;
let admin: string;
let reader: string;
beforeAll(async () => {
  buildService();
  service = await controlledQueue({ inspect: true, concurrency: 8 });
  admin = (await service.queue.keys.create({ scopes: ["admin"] })).key;
  reader = (await service.queue.keys.create({ scopes: ["read", "operate"] })).key;
  app = await server(service.queue);
  url = await listening(app);
}, 60_000);
afterAll(async () => {
  await app.close();
  await service.queue.stop();
});

const inspect = (args: string[], env: Record<string, string> = { BUILDLANE_API_KEY: admin }) => startCommand(["inspect", ...args], { env: { BUILDLANE_URL: url, ...env } });
const lines = (out: string): Wire[] => out.split("\n").filter(Boolean).map((line) => JSON.parse(line) as Wire);
/** Whole lines only: the last one may still be on its way. */
const isOver = ({ out }: { out: string }): boolean => lines(out.slice(0, out.lastIndexOf("\n") + 1)).some(({ type, snapshot }) => type === "@xstate.snapshot" && snapshot?.value === "completed");
const chats = (out: string): unknown[] => lines(out).filter(({ type, name }) => type === "@xstate.actor" && name !== "supervisor" && name !== "head").map(({ name }) => name);

test("prints a chat's, a job's, or a sample's actors as JSON lines, without code, until it is interrupted", async () => {
  const held = await service.queue.enqueue(request({ chatId: "there-before", code: "hold" }));
  for await (const event of service.queue.events({ jobId: held.id }, { after: 0, signal: AbortSignal.timeout(20_000) })) if (event !== "reset" && event.type === "job.started") break;
  const [chat, job, sample] = [inspect(["--chat", "mine"]), inspect(["--job", held.id]), inspect(["--sample", "10000"])];
  // Each says so when it is attached; the job's actors lived already.
  await Promise.all([chat, job, sample].map(({ until }) => until(({ out, err }) => err.includes("Attached.") && out.includes("supervisor"))));
  await job.until(({ out }) => out.includes('"head"'));
  for (const chatId of ["other", "mine"]) await service.queue.waitFor((await service.queue.enqueue(request({ chatId, code: "secret-of-a-person" }))).id);
  service.release();
  await service.queue.waitFor(held.id);
  await Promise.all([chat.until(isOver), job.until(isOver)]);
  for (const { child } of [chat, job, sample]) child.kill("SIGINT");
  const ran = await Promise.all([chat, job, sample].map(({ ended }) => ended));
  expect(ran.map(({ code, out }) => [code, chats(out)])).toEqual([[130, ["mine"]], [130, ["there-before"]], [130, []]]);
  for (const { out, err } of ran) {
    expect(lines(out)[0]).toMatchObject({ type: "@xstate.actor", name: "supervisor" });
    expect(out).not.toContain("secret-of-a-person");
    expect(`${out}${err}`).not.toContain(admin);
  }
  expect(ran[0]?.out).toContain('"code":"(not shown)"');
  expect(ran[0]?.err).toContain(`${url}/api/builds/inspector?chatId=mine`);
});

test("is for admins: without a key, or with one that is not enough, it ends with 5 and says why", async () => {
  const [without, small, misused, gone] = await Promise.all([
    inspect([], {}).ended, inspect([], { BUILDLANE_API_KEY: reader }).ended, inspect(["--sample", "0"]).ended, inspect([], { BUILDLANE_URL: "http://127.0.0.1:1" }).ended,
  ]);
  expect(without).toMatchObject({ code: 5, out: "", err: expect.stringMatching(/API key/i) });
  expect(small).toMatchObject({ code: 5, out: "", err: expect.stringContaining("admin") });
  expect(misused).toMatchObject({ code: 2, out: "" });
  expect(gone).toMatchObject({ code: 3, err: expect.stringContaining("There is no service") });
});

test("says that the service must be started with the setting, and that it has stopped", async () => {
  await using plain = await controlledQueue();
  const other = await server(plain.queue);
  const where = await listening(other);
  expect(await inspect([], { BUILDLANE_URL: where }).ended).toMatchObject({ code: 1, out: "", err: expect.stringContaining("BUILDLANE_INSPECT=true") });
  await other.close();
  await using watched = await controlledQueue({ inspect: true });
  const stopping = await server(watched.queue);
  const cut = inspect([], { BUILDLANE_URL: await listening(stopping) });
  await cut.until(({ out }) => out.includes("supervisor"));
  await stopping.close();
  expect(await cut.ended).toMatchObject({ code: 1, err: expect.stringContaining("The service ended the stream") });
});
