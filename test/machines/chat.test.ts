/** The chat machine by its pure transitions; whole chats at work are in `queue.test.ts` and in the simulation. */
import { expect, it } from "vitest";
import { createActor, initialTransition, setup, transition } from "xstate";
import { chatMachine } from "../../machines/chat.machine.js";
import { jobMachine } from "../../machines/job.machine.js";
import type { JobInput } from "../../machines/job.machine.js";
import type { Claim } from "../../src/store/store.js";
import { newJob } from "../store/programs.js";

const chat = chatMachine.provide({ actors: { job: jobMachine } });
const policy = { retryBaseMs: 1, retryMaxMs: 1, killGraceMs: 1, settleRetryMs: 1, watchMs: 1 };
function claimOf(id: string, fence: number): Claim {
  const { messageId, options, priority, maxAttempts, timeoutMs } = newJob(id, "a");
  return { job: { id, chatId: "a", messageId, chatSeq: fence, attempt: 1, code: "1", options, priority, maxAttempts, timeoutMs }, spent: 0, strikes: 0, fence, claimId: `c${fence}`, startedAt: "2027-01-15T08:00:00.000Z" };
}

it("a claim that waits behind the head is dropped when the lease is lost, for another node may have it by the head's end", () => {
  const [begun] = initialTransition(chat, { chatId: "a", claim: claimOf("j1", 1), jitter: 0, policy });
  const [granted] = transition(chat, begun, { type: "chat.granted", claim: claimOf("j2", 2), jitter: 0 });
  expect(granted.context.next?.claim.job.id).toBe("j2");
  const [lost] = transition(chat, granted, { type: "chat.leaseLost" });
  expect(lost.context.next).toBeNull();
  expect(lost.context.claim.job.id).toBe("j1");
});

it("a claim that waits behind the head goes back at once when the node drains, and the head goes on", () => {
  const [begun] = initialTransition(chat, { chatId: "a", claim: claimOf("j1", 1), jitter: 0, policy });
  const [granted] = transition(chat, begun, { type: "chat.granted", claim: claimOf("j2", 2), jitter: 0 });
  const [drained, actions] = transition(chat, granted, { type: "chat.recalled" });
  expect(actions).toMatchObject([{ type: "xstate.sendTo", params: { event: { type: "job.recalled" } } }, { type: "returnNext", params: { claim: { job: { id: "j2" } } } }]);
  expect(drained.context.next).toBeNull();
  expect(drained.value).toEqual({ serving: "working" });
  expect(transition(chat, begun, { type: "chat.recalled" })[1]).toMatchObject([{ type: "xstate.sendTo", params: { event: { type: "job.recalled" } } }]);
});

it("a grant that waits behind a head whose machine crashes is worked on next, not after the one that comes then", async () => {
  const begun: string[] = [];
  const abandoned: string[] = [];
  const { createMachine } = setup({
    types: { input: {} as JobInput, context: {} as JobInput },
    actions: { begin: ({ context }) => void begun.push(context.claim.claimId), crash: () => { throw new Error("crash"); } },
  });
  const job = createMachine({ context: ({ input }) => input, initial: "running", states: { running: { entry: "begin", on: { crash: { actions: "crash" }, end: "over" } }, over: { type: "final" } } });
  const actor = createActor(
    chatMachine.provide({ actors: { job: job as never }, actions: { abandonHead: (_, { claim }) => void abandoned.push(claim.claimId), returnNext: () => {} } }),
    { input: { chatId: "a", claim: claimOf("j1", 1), jitter: 0, policy } },
  ).start();
  const head = () => actor.getSnapshot().children["head"] as never as { send(event: { type: string }): void };
  actor.send({ type: "chat.granted", claim: claimOf("j2", 2), jitter: 0 });
  head().send({ type: "crash" });
  expect([begun, abandoned, actor.getSnapshot().context.next]).toEqual([["c1", "c2"], ["c1"], null]);
  head().send({ type: "end" });
  expect(actor.getSnapshot().value).toBe("idle");
});
