/** What reaches the operator's address: every event, in order for each chat, whatever fails or dies on the way. */
import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { HistoryEvent } from "../../src/job.js";
import type { Report } from "../../src/report.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { signedMessage } from "../../src/webhook/message.js";
import type { Send, Sent } from "../../src/webhook/send.js";
import { claimMs, startWebhook } from "../../src/webhook/webhook.js";

const secret = `whsec_${Buffer.from("0123456789abcdef0123456789abcdef").toString("base64")}`;
const limits = { agingMs: 0, pendingPerChatMax: 1000, pendingMax: 1000, rate: null };
const ok: Sent = { kind: "answered", status: 200, retryAfterMs: null };
const broken: Sent = { kind: "answered", status: 500, retryAfterMs: null };

interface Got {
  chatId: string;
  number: number;
  node: string;
  at: number;
}

/** Nodes on one memory store under a simulated clock; `answer` is what the address says. */
function world() {
  const clock = createSimulatedClock();
  const store = createMemoryStore({ clock });
  const got: Got[] = [];
  const reports: Report[] = [];
  let answer: (got: Got) => Sent | Promise<Sent> = () => ok;
  let ids = 0;
  const node = (nodeId: string, over: Partial<Store> = {}) => {
    const send: Send = async ({ body }) => {
      const { chatId, number } = JSON.parse(body) as Got;
      const one = { chatId, number, node: nodeId, at: clock.now() };
      got.push(one);
      return answer(one);
    };
    return startWebhook({ store: { ...store, ...over }, nodeId, secret, send, clock, report: (one) => void reports.push(one) });
  };
  const accept = async (chatId: string, hint = true) => {
    await store.accept([{ jobs: [{ id: `j${ids++}`, chatId, messageId: "m", code: "1", files: null, entry: null, options: {} as never, codeHash: "h", priority: 0, maxAttempts: 1, timeoutMs: 1000, delayMs: 0, supersede: null }], idempotency: null }], limits);
    if (hint) store.hint({ kind: "chat", chatId });
  };
  /** From here on history is told. */
  const begin = async () => {
    await store.webhook.begin();
    await clock.advance(1000);
  };
  const numbers = (chatId: string) => got.filter((one) => one.chatId === chatId).map(({ number }) => number);
  return { clock, store, got, reports, node, accept, begin, numbers, answers: (next: typeof answer) => void (answer = next) };
}

describe("a webhook", () => {
  it("is told a chat's events in their order through failures, each until it is taken", async () => {
    const it = world();
    let tries = 0;
    it.answers(() => (tries++ % 3 === 2 ? ok : broken));
    const webhook = it.node("n1");
    await it.begin();
    for (let index = 0; index < 4; index++) await it.accept("a");
    await it.clock.advance(60_000);
    expect(it.numbers("a")).toEqual([1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    await webhook.stop();
    expect(it.clock.pendingTimers).toBe(0);
  });

  it("waits longer after each failure, with a bound, and as long as the address asks", async () => {
    const it = world();
    it.answers(() => broken);
    const webhook = it.node("n1");
    await it.begin();
    await it.accept("a");
    await it.clock.advance(3 * 3_600_000);
    const waits = it.got.slice(1).map(({ at }, index) => at - (it.got[index] as Got).at);
    expect(waits[0]).toBeLessThan(1500);
    expect(Math.max(...waits)).toBeLessThan(5 * 60_000 + 1000);
    expect(Math.min(...waits.slice(-10))).toBeGreaterThan(2.5 * 60_000 - 1);
    it.answers(() => ({ kind: "answered", status: 429, retryAfterMs: 77_000 }));
    await it.accept("b");
    await it.clock.advance(70_000);
    expect(it.numbers("b")).toEqual([1]);
    await it.clock.advance(10_000);
    expect(it.numbers("b")).toEqual([1, 1]);
    await webhook.stop();
  });

  it("gets other chats' events at once while one chat's are refused", async () => {
    const it = world();
    it.answers(({ chatId }) => (chatId === "bad" ? broken : ok));
    const webhook = it.node("n1");
    await it.begin();
    await it.accept("bad");
    await it.clock.advance(30_000);
    const from = it.clock.now();
    for (let index = 0; index < 10; index++) await it.accept(`good${index}`);
    await it.clock.advance(2000);
    const good = it.got.filter(({ chatId }) => chatId.startsWith("good"));
    expect(good).toHaveLength(10);
    expect(Math.max(...good.map(({ at }) => at - from))).toBeLessThan(1500);
    await webhook.stop();
  });

  it("is told again by another node what a node that died had sent and not recorded", async () => {
    const it = world();
    // The first node sends, and dies before it can record: from then on it asks for nothing.
    let dead = false;
    const never = new Promise<never>(() => {});
    it.node("n1", {
      webhook: { ...it.store.webhook, sweep: (...args) => (dead ? never : it.store.webhook.sweep(...args)), claim: (...args) => (dead ? never : it.store.webhook.claim(...args)), record: () => ((dead = true), never) },
    });
    await it.begin();
    await it.accept("a");
    await it.accept("a");
    await it.clock.advance(1000);
    expect(it.numbers("a")).toEqual([1, 2]);
    const other = it.node("n2");
    await it.clock.advance(claimMs - 2000);
    expect(it.numbers("a")).toEqual([1, 2]);
    await it.clock.advance(5000);
    expect(it.got.map(({ node, number }) => `${node} ${number}`)).toEqual(["n1 1", "n1 2", "n2 1", "n2 2"]);
    await it.accept("a");
    await it.clock.advance(1000);
    expect(it.got.at(-1)).toMatchObject({ node: "n2", number: 3 });
    await other.stop();
  });

  it("hears from one node at a time about each chat, though several have the news", async () => {
    const it = world();
    const inside = new Map<string, string>();
    const overlaps: string[] = [];
    let chance = 7;
    it.answers(async ({ chatId, node }) => {
      if (inside.has(chatId)) overlaps.push(chatId);
      inside.set(chatId, node);
      await new Promise<void>((resolve) => void it.clock.after(200 + ((chance = (chance * 31) % 97) * 20), resolve));
      inside.delete(chatId);
      return chance % 4 === 0 ? broken : ok;
    });
    const nodes = ["n1", "n2", "n3"].map((id) => it.node(id));
    await it.begin();
    for (let round = 0; round < 12; round++) {
      for (const chatId of ["a", "b", "c", "d", "e"]) await it.accept(chatId);
      await it.clock.advance(3000);
    }
    await it.clock.advance(600_000);
    expect(overlaps).toEqual([]);
    for (const chatId of ["a", "b", "c", "d", "e"]) {
      // Each number in turn, some of them more than once.
      expect(it.numbers(chatId).filter((number, index, all) => number !== all[index - 1])).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    }
    expect(new Set(it.got.map(({ node }) => node)).size).toBe(3);
    await Promise.all(nodes.map((one) => one.stop()));
  });

  it("is told without any hint, and asks for nothing but a sweep every few seconds when nothing happens", async () => {
    const it = world();
    const calls: string[] = [];
    const counted = Object.fromEntries(Object.entries(it.store.webhook).map(([name, verb]) => [name, (...args: unknown[]) => (calls.push(name), (verb as (...args: unknown[]) => unknown)(...args))]));
    const webhook = it.node("n1", { webhook: counted as never });
    await it.begin();
    await it.accept("a", false);
    await it.clock.advance(7000);
    expect(it.numbers("a")).toEqual([1]);
    calls.length = 0;
    await it.clock.advance(60_000);
    expect(new Set(calls)).toEqual(new Set(["sweep"]));
    expect(calls.length).toBeLessThanOrEqual(17);
    await webhook.stop();
  });

  it("is left alone for a while after 410 Gone, which is reported, and then told what came meanwhile", async () => {
    const it = world();
    it.answers(() => ({ kind: "answered", status: 410, retryAfterMs: null }));
    const webhook = it.node("n1");
    await it.begin();
    await it.accept("a");
    await it.clock.advance(1000);
    expect(it.reports).toContainEqual({ type: "webhook.gone", silentMs: 600_000 });
    await it.accept("b");
    await it.clock.advance(590_000);
    expect(it.got).toHaveLength(1);
    it.answers(() => ok);
    await it.clock.advance(30_000);
    expect([it.numbers("a"), it.numbers("b")]).toEqual([[1, 1], [1]]);
    await webhook.stop();
  });

  it("is told what the retention left, and goes on from there", async () => {
    const it = world();
    it.answers(() => broken);
    const webhook = it.node("n1");
    await it.begin();
    for (let index = 0; index < 3; index++) await it.accept("a");
    await it.clock.advance(1000);
    await it.store.erase("everyone", "a");
    await it.accept("a");
    it.answers(() => ok);
    it.got.length = 0;
    await it.clock.advance(60_000);
    const last = (await it.store.events("everyone", "a", { after: 0, limit: 100 })).events.map(({ number }) => number);
    expect(last).toHaveLength(2);
    expect(it.numbers("a")).toEqual(last);
    await webhook.stop();
  });
});

it("a message is signed as Standard Webhooks says, keeps its id, and says what a stream says", () => {
  const event: HistoryEvent = { chatId: "c.1", tenant: "acme", number: 7, type: "job.started", jobId: "j", chatSeq: 3, status: "running", attempt: 1, at: "2027-01-15T08:00:00.000Z", data: { nodeId: "n", number: 99, chatId: "forged" } };
  const { headers, body } = signedMessage(event, secret, 1_800_000_000_999);
  expect(JSON.parse(body)).toEqual({ type: "job.started", number: 7, jobId: "j", chatId: "c.1", tenant: "acme", chatSeq: 3, status: "running", attempt: 1, at: event.at, nodeId: "n" });
  const failed = signedMessage({ ...event, type: "job.failed", status: "failed", data: { failureCode: "cancelled", message: "No." } }, secret, 0).body;
  expect(JSON.parse(failed)).toMatchObject({ status: "failed", failure: { code: "cancelled", message: "No." } });
  expect(headers["webhook-timestamp"]).toBe("1800000000");
  expect(headers["webhook-id"]).toMatch(/^evt_[0-9a-f]{32}$/);
  const expected = createHmac("sha256", "0123456789abcdef0123456789abcdef").update(`${headers["webhook-id"]}.1800000000.${body}`).digest("base64");
  expect(headers["webhook-signature"]).toBe(`v1,${expected}`);
  expect(signedMessage(event, secret, 1_900_000_000_000).headers["webhook-id"]).toBe(headers["webhook-id"]);
  expect(signedMessage({ ...event, tenant: "other" }, secret, 0).headers["webhook-id"]).not.toBe(headers["webhook-id"]);
});
