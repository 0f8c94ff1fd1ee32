/** Tenants: chats of one name share nothing, and what is another's is not there. */
import { expect, test } from "vitest";
import type { HistoryEvent } from "../src/job.js";
import { createBuildQueue } from "../src/queue.js";
import type { QueueView } from "../src/queue-api.js";
import { isTenantName, laneKey, laneOfShown, ofLane, shownLane } from "../src/store/scope.js";

const request = (messageId: string, code = "1") => ({ chatId: "chat", messageId, code });

async function twoTenants() {
  const seen: { chatId: string; tenant?: string | undefined }[] = [];
  const queue = await createBuildQueue({
    store: "memory",
    run: async ({ chatId, tenant, code }) => {
      seen.push({ chatId, tenant });
      if (code === "fail") throw Object.assign(new Error("no"), { retryable: false });
      return "built";
    },
  });
  return { queue, a: queue.forTenant("a"), b: queue.forTenant("b"), seen, [Symbol.asyncDispose]: () => queue.stop() };
}

test("a lane's key reads in one way only", () => {
  expect(laneKey({ tenant: "a" }, "c")).toBe("a\u001fc");
  expect([laneKey("everyone", "c"), laneKey({ tenant: "" }, "c")]).toEqual(["c", "c"]);
  for (const key of ["c", "a\u001fc"]) {
    const { tenant, chatId } = ofLane(key);
    expect(laneKey({ tenant }, chatId)).toBe(key);
    expect(laneOfShown(shownLane(key))).toBe(key);
  }
  expect(["a", "A-1_b.c", "x".repeat(63)].map(isTenantName)).toEqual([true, true, true]);
  expect(["", "-a", "a\u001fb", "a b", "*", "x".repeat(64)].map(isTenantName)).toEqual(Array(6).fill(false));
});

test("a chat's name with a control character is refused, and so is a tenant's", async () => {
  await using it = await twoTenants();
  await expect(it.queue.enqueue({ chatId: "a\u001fchat", messageId: "m", code: "1" })).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/chatId" }] });
  expect(() => it.queue.forTenant("a\u001fb")).toThrow(/letters/);
});

test("chats of one name are numbered apart, and builders see the plain name", async () => {
  await using it = await twoTenants();
  const jobs = [];
  for (const view of [it.queue, it.a, it.b, it.a]) jobs.push(await view.enqueue(request("m")));
  expect(jobs.map(({ chatId, chatSeq }) => [chatId, chatSeq])).toEqual([["chat", 1], ["chat", 1], ["chat", 1], ["chat", 2]]);
  await Promise.all(jobs.map(({ id }) => it.queue.waitFor(id)));
  expect(it.seen.map(({ tenant }) => tenant ?? "").sort()).toEqual(["", "a", "a", "b"]);
  expect(new Set(it.seen.map(({ chatId }) => chatId))).toEqual(new Set(["chat"]));
});

test("every verb that names another tenant's job finds none", async () => {
  await using it = await twoTenants();
  const { id } = await it.a.enqueue(request("m", "fail"));
  await it.a.waitFor(id);
  const verbs: ((view: QueueView) => Promise<unknown>)[] = [
    (view) => view.get(id), (view) => view.output(id), (view) => view.waitFor(id), (view) => view.cancel(id), (view) => view.retry(id),
    (view) => view.events({ jobId: id }, { signal: new AbortController().signal })[Symbol.asyncIterator]().next(),
  ];
  for (const view of [it.b, it.queue.forTenant("")]) for (const verb of verbs) await expect(verb(view)).rejects.toMatchObject({ code: "job_not_found" });
  await expect(it.b.pauseChat("chat")).resolves.toBe(false);
  await expect(it.b.deadLetters.count({})).resolves.toBe(0);
  await expect(it.b.deadLetters.redrive({ ids: [id] }, 10)).resolves.toBe(0);
  await expect(it.b.deadLetters.discard({ ids: [id] }, 10)).resolves.toBe(0);
  expect(await it.b.chat("chat")).toEqual({ pending: [], running: [], completed: [], failed: [] });
  expect((await it.b.list({ limit: 10, include: { code: true, result: true } })).jobs).toEqual([]);
  expect(await it.b.stats()).toMatchObject({ totalFailed: 0, deadLetters: 0, activeChats: 0, nodes: [], averageProcessingTime: 0 });
  expect(await it.a.stats()).toMatchObject({ totalFailed: 1, deadLetters: 1, nodes: [] });
  expect(await it.queue.get(id)).toMatchObject({ chatId: "chat", tenant: "a", status: "failed" });
  expect(await it.a.retry(id)).toMatchObject({ id, chatId: "chat" });
});

test("an idempotency key is a tenant's own", async () => {
  await using it = await twoTenants();
  const first = await it.a.enqueue(request("m"), { idempotencyKey: "k" });
  const other = await it.b.enqueue(request("m", "2"), { idempotencyKey: "k" });
  expect([other.replayed, other.id === first.id]).toEqual([false, false]);
  expect(await it.a.enqueue(request("m"), { idempotencyKey: "k" })).toMatchObject({ id: first.id, replayed: true, chatId: "chat" });
});

test("a chat's events are those of the tenant's own chat, under its plain name", async () => {
  await using it = await twoTenants();
  const ids: Record<string, string> = {};
  for (const [name, view] of [["a", it.a], ["b", it.b]] as const) {
    ids[name] = (await view.enqueue(request("m"))).id;
    await view.waitFor(ids[name]);
  }
  const controller = new AbortController();
  const events: HistoryEvent[] = [];
  for await (const event of it.a.events({ chatId: "chat" }, { after: 0, signal: controller.signal })) {
    if (event !== "reset") events.push(event);
    if (events.length === 3) controller.abort();
  }
  expect(events.map(({ type, jobId, chatId, tenant }) => [type, jobId, chatId, tenant])).toEqual(["job.accepted", "job.started", "job.completed"].map((type) => [type, ids["a"], "chat", "a"]));
});

test("a full chat of one tenant is told by its plain name, and hinders no other tenant", async () => {
  const queue = await createBuildQueue({ store: "memory", maxPendingPerChat: 1, run: (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("stopped")))), drainMs: 0 });
  await using _stopped = { [Symbol.asyncDispose]: () => queue.stop() };
  await queue.pause();
  const a = queue.forTenant("a");
  await a.enqueue(request("m1"));
  await expect(a.enqueue(request("m2"))).rejects.toMatchObject({ code: "chat_queue_full", message: expect.stringMatching(/^Chat chat /) });
  await expect(queue.forTenant("b").enqueue(request("m1"))).resolves.toMatchObject({ chatSeq: 1 });
});
