/** What people ask of a whole chat: a policy for its order, an end to all its jobs, or to be forgotten. */
import type { CancelChatAnswer, ChatPolicy, ChatState, EraseAnswer } from "../store.js";
import { cancel } from "./verbs.js";
import { createLane, failPending, failureOf, leaveFinished, lineUp, writeOfChat } from "./tables.js";
import type { Lane, Tables } from "./tables.js";

export function setPolicy(tables: Tables, chatId: string, { whileRetrying, afterFailure }: Partial<ChatPolicy>, at: number): ChatPolicy {
  const lane = tables.lanes.get(chatId) ?? createLane(chatId, at);
  tables.lanes.set(chatId, lane);
  const wanted: ChatPolicy = { whileRetrying: whileRetrying ?? lane.policy.whileRetrying, afterFailure: afterFailure ?? lane.policy.afterFailure };
  if (wanted.whileRetrying !== lane.policy.whileRetrying || wanted.afterFailure !== lane.policy.afterFailure) {
    lane.policy = wanted;
    writeOfChat(tables, lane, "chat.policyChanged", at, { ...wanted });
  }
  return { ...wanted };
}

export function chatState(tables: Tables, chatId: string): ChatState | null {
  const lane = tables.lanes.get(chatId);
  return lane ? { paused: lane.pausedAt !== null, heldBy: lane.heldBy, policy: { ...lane.policy } } : null;
}

export function setChatPaused(tables: Tables, chatId: string, paused: boolean, at: number): boolean {
  const lane = tables.lanes.get(chatId);
  if (!lane) return false;
  // From now on the pause is a person's own.
  lane.heldBy = null;
  if ((lane.pausedAt !== null) !== paused) {
    lane.pausedAt = paused ? at : null;
    writeOfChat(tables, lane, paused ? "chat.paused" : "chat.resumed", at);
    lineUp(tables, lane, at);
  }
  return true;
}

export function cancelChat(tables: Tables, chatId: string, at: number): CancelChatAnswer {
  const lane = tables.lanes.get(chatId);
  if (!lane) return { kind: "unknown" };
  const waiting = [...lane.pending].sort((a, b) => a.place - b.place);
  for (const job of waiting) failPending(tables, job, failureOf("cancelled", "Cancelled before it ran."), at);
  const { running } = lane;
  if (running) cancel(tables, "everyone", running.id, at);
  return { kind: "done", cancelled: waiting.length, stopping: running?.held ? { chatId, jobId: running.id, nodeId: running.held.nodeId } : null };
}

export function erase(tables: Tables, chatId: string, at: number): EraseAnswer {
  const cancelled = cancelChat(tables, chatId, at);
  if (cancelled.kind === "unknown") return cancelled;
  if (cancelled.stopping) return { kind: "stopping", stopping: cancelled.stopping };
  const lane = tables.lanes.get(chatId) as Lane;
  const gone = [...lane.finished];
  for (const job of gone) {
    leaveFinished(tables, lane, job);
    tables.byAge.remove(job);
    tables.jobs.delete(job.id);
  }
  for (const event of lane.events) if (event.jobId === null) tables.chatEvents.remove(event);
  Object.assign(lane, { events: [], eventFloor: lane.eventTail, pausedAt: null, heldBy: null, policy: { whileRetrying: "block", afterFailure: "skip" } } satisfies Partial<Lane>);
  // All that is left: that it was erased, for whoever watches it or keeps a copy.
  writeOfChat(tables, lane, "chat.erased", at);
  lineUp(tables, lane, at);
  return { kind: "erased", jobs: gone.length };
}
