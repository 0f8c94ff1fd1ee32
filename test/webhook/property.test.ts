/** Whatever the address answers and whichever nodes die or stop: each chat's events are told in their order, each at least once, and no chat waits for another's failures. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import type { Send, Sent } from "../../src/webhook/send.js";
import { startWebhook } from "../../src/webhook/webhook.js";
import type { Webhook } from "../../src/webhook/webhook.js";
import { newJob } from "../store/programs.js";

const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
const chats = ["a", "b", "c"];
const moods = ["ok", "broken", "busy", "slow", "unreachable", "mixed"] as const;
type Mood = (typeof moods)[number];
type Step = { accept: string; hint: boolean } | { mood: Mood } | { advanceMs: number } | "start" | "stop" | "crash";
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ accept: fc.constantFrom(...chats), hint: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ mood: fc.constantFrom(...moods) }) },
    { weight: 4, arbitrary: fc.record({ advanceMs: fc.constantFrom(1, 150, 900, 4000, 26_000) }) },
    { weight: 1, arbitrary: fc.constantFrom("start" as const, "start" as const, "stop" as const, "crash" as const) },
  ),
  { minLength: 10, maxLength: 60 },
);

async function told(program: Step[]): Promise<void> {
  const clock = createSimulatedClock();
  const store = createMemoryStore({ clock });
  const taken = new Map<string, number>();
  const broken: string[] = [];
  const nodes: { webhook: Webhook; die(): void }[] = [];
  let mood: Mood = "ok";
  let made = 0;
  const counts = new Map<string, number>();

  async function address(chatId: string, number: number): Promise<Sent> {
    const before = taken.get(chatId) ?? 0;
    // Told again is fine; told ahead is not.
    if (number > before + 1) broken.push(`chat ${chatId}: event ${number} came when ${before} was the last taken`);
    const now = chatId === "bad" ? "broken" : mood === "mixed" ? (["ok", "broken", "unreachable"] as const)[Math.floor(clock.random() * 3)] : mood;
    if (now === "slow") await new Promise<void>((resolve) => void clock.after(3000, resolve));
    if (now === "unreachable") return { kind: "unreachable", reason: "ECONNREFUSED" };
    if (now === "broken" || now === "busy") return { kind: "answered", status: now === "busy" ? 429 : 500, retryAfterMs: now === "busy" ? 20_000 : null };
    taken.set(chatId, Math.max(taken.get(chatId) ?? 0, number));
    return { kind: "answered", status: 200, retryAfterMs: null };
  }

  /** A node whose process can be killed: nothing that it asked for is answered any more, and it asks for nothing. */
  function start(): void {
    let dead = false;
    const alive = <T>(work: () => Promise<T>): Promise<T> => (dead ? new Promise<T>(() => {}) : work().then((value) => (dead ? new Promise<T>(() => {}) : value)));
    const send: Send = ({ body }) => alive(() => {
      const { chatId, number } = JSON.parse(body) as { chatId: string; number: number };
      return address(chatId, number);
    });
    const { webhook } = store;
    const mortal: Store = {
      ...store, events: (...args) => alive(() => store.events(...args)),
      webhook: { ...webhook, sweep: (...args) => alive(() => webhook.sweep(...args)), claim: (...args) => alive(() => webhook.claim(...args)), record: (...args) => alive(() => webhook.record(...args)) },
      onHint: (listener) => store.onHint((hint) => void (dead || listener(hint))),
    };
    nodes.push({ webhook: startWebhook({ store: mortal, nodeId: `n${made++}`, secret, send, clock, report: () => {} }), die: () => void (dead = true) });
  }
  async function accept(chatId: string, hint: boolean): Promise<void> {
    await store.accept([{ jobs: [newJob(`j${made++}`, chatId)], idempotency: null }], { agingMs: 0, pendingPerChatMax: 1000, pendingMax: 1000, rate: null });
    counts.set(chatId, (counts.get(chatId) ?? 0) + 1);
    if (hint) store.hint({ kind: "chat", chatId });
  }

  await store.webhook.begin();
  start();
  await accept("bad", true);
  for (const step of program) {
    if (step === "start") start();
    else if (step === "crash") nodes.shift()?.die();
    else if (step === "stop") {
      const stopping = nodes.shift()?.webhook.stop();
      await clock.advance(5000);
      await stopping;
    } else if ("accept" in step) await accept(step.accept, step.hint);
    else if ("mood" in step) mood = step.mood;
    else await clock.advance(step.advanceMs);
  }
  // The address is well again for all but one chat: within the longest backoff everything has been told.
  mood = "ok";
  start();
  await clock.advance(6 * 60_000);
  for (const chatId of chats) expect([chatId, taken.get(chatId) ?? 0]).toEqual([chatId, counts.get(chatId) ?? 0]);
  // And one that has news now waits for nothing, though another chat's event fails for ever.
  await accept("fresh", true);
  await clock.advance(1000);
  expect(taken.get("fresh")).toBe(1);
  expect(broken).toEqual([]);
  const stopped = nodes.map(({ webhook }) => webhook.stop());
  await clock.advance(5000);
  await Promise.all(stopped);
}

it("tells every event of every chat in order, at least once, through failing addresses, dying nodes and restarts", async () => {
  await fc.assert(fc.asyncProperty(steps, told), { numRuns: 60, seed: 3 });
});
