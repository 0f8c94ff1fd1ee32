/** What a person is told who asks why a job is not running: whole sentences, of what keeps it and of what ends that. */
import { expect, it } from "vitest";
import type { WhyFacts } from "../src/store/store.js";
import { explain } from "../src/why.js";

const at = "2027-01-15T08:00:00.000Z";
const facts = (given: Partial<WhyFacts>): WhyFacts => ({
  id: "j2", chatId: "trip", status: "pending", attempt: 0, startedAt: null, completedAt: null, nextAttemptAt: null, failureCode: null, queuePosition: 1, front: null, chatPaused: false, heldBy: null, queuePaused: false, lanesAhead: 0,
  nodeId: null, nodes: { alive: 1, claiming: 1, running: 0, slots: 3 }, ...given,
});
const front = { id: "j1", chatSeq: 1, status: "pending" as const, attempt: 0, nextAttemptAt: null };
const told = (given: Partial<WhyFacts>): string => {
  const { message, unblocks } = explain(facts(given));
  return `${message} ${unblocks}`;
};

it("says of a job behind another what that one does, and why it waits", () => {
  const behind = { queuePosition: 2 };
  expect(told({ ...behind, front: { ...front, status: "running", attempt: 1 } })).toBe("Behind job 1 of its chat, which is running. Its turn comes when job 1 ends or is cancelled.");
  expect(told({ ...behind, front: { ...front, attempt: 1, nextAttemptAt: at } })).toBe(`Behind job 1 of its chat, which backs off after attempt 1 until ${at}. Its turn comes when job 1 ends or is cancelled.`);
  expect(told({ ...behind, front: { ...front, nextAttemptAt: at } })).toBe(`Behind job 1 of its chat, which is delayed until ${at}. Its turn comes when job 1 ends or is cancelled.`);
  expect(told({ queuePosition: 4, front })).toBe("Behind job 1 of its chat, which waits for a slot, with 2 more between them. Its turn comes when those before it have ended or are cancelled.");
});

it("says what ends the wait in a sentence that stands alone", () => {
  const ends = [{ queuePaused: true }, { chatPaused: true }, { chatPaused: true, heldBy: "j0" }, { nextAttemptAt: at, attempt: 1 }, { nextAttemptAt: at }, { nodes: { alive: 1, claiming: 0, running: 0, slots: 3 } }, { nodes: { alive: 0, claiming: 0, running: 0, slots: 0 } }, { nodes: { alive: 1, claiming: 1, running: 3, slots: 3 } }, { lanesAhead: 2, nodes: { alive: 1, claiming: 1, running: 3, slots: 3 } }, {}]
    .map((given) => explain(facts(given)).unblocks);
  expect(ends).toEqual([
    "It goes on when the queue is resumed.",
    "It goes on when the chat is resumed.",
    "It goes on when the chat is resumed, or that job is redriven.",
    "It is tried again then, as soon as a slot is free.",
    "It starts then, as soon as a slot is free.",
    "It goes on when a node starts.",
    "It goes on when a node starts, or reaches the database again.",
    "It starts when a running build ends.",
    "It starts when running builds have ended and those chats have had their turn.",
    "It is claimed in a moment.",
  ]);
});
