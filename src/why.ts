/** One answer to "why is it not running?", from what the store read at one moment. Pure. */
import type { WhyFacts } from "./store/reading.js";

export const whyReasons = ["queue_paused", "chat_paused", "chat_held", "behind", "backing_off", "delayed", "draining", "no_node", "no_slot", "starting", "running", "final"] as const;
export type WhyReason = (typeof whyReasons)[number];

export interface Why {
  id: string;
  chatId: string;
  tenant?: string;
  status: WhyFacts["status"];
  /** What keeps it, most important first, is `reasons`; this is the first of them. */
  reason: WhyReason;
  reasons: WhyReason[];
  /** One sentence for a person, and one of what ends the wait. */
  message: string;
  unblocks: string | null;
  /** While pending: 1 for the job that runs next in its chat. */
  queuePosition: number;
  /** The job of its chat that stands in front. */
  behind: { id: string; chatSeq: number; status: "pending" | "running"; attempt: number } | null;
  /** ISO; when it, or the one in front, may start. */
  until: string | null;
  /** Chats before its chat in the line for a slot. */
  lanesAhead: number;
  slots: { running: number; total: number };
  nodeId: string | null;
}

export function explain(facts: WhyFacts): Why {
  const reasons = reasonsOf(facts);
  const reason = reasons[0] as WhyReason;
  const { front } = facts;
  const until = front ? front.nextAttemptAt : facts.nextAttemptAt;
  return {
    id: facts.id, chatId: facts.chatId, ...(facts.tenant === undefined ? {} : { tenant: facts.tenant }), status: facts.status, reason, reasons, ...say(reason, facts), queuePosition: facts.queuePosition,
    behind: front && { id: front.id, chatSeq: front.chatSeq, status: front.status, attempt: front.attempt }, until,
    lanesAhead: facts.lanesAhead, slots: { running: facts.nodes.running, total: facts.nodes.slots }, nodeId: facts.nodeId,
  };
}

function reasonsOf({ status, front, nextAttemptAt, attempt, chatPaused, heldBy, queuePaused, nodes }: WhyFacts): WhyReason[] {
  if (status === "running") return ["running"];
  if (status !== "pending") return ["final"];
  const found: WhyReason[] = [];
  if (queuePaused) found.push("queue_paused");
  if (chatPaused) found.push(heldBy === null ? "chat_paused" : "chat_held");
  if (front) found.push("behind");
  const waiting = front?.status === "running" ? null : (front ?? { nextAttemptAt, attempt });
  if (waiting?.nextAttemptAt) found.push(waiting.attempt > 0 ? "backing_off" : "delayed");
  if (nodes.alive === 0) found.push("no_node");
  else if (nodes.claiming === 0) found.push("draining");
  else if (nodes.running >= nodes.slots && front?.status !== "running") found.push("no_slot");
  return found.length > 0 ? found : ["starting"];
}

function say(reason: WhyReason, { status, front, nextAttemptAt, attempt, lanesAhead, nodes, failureCode, queuePosition, heldBy }: WhyFacts): { message: string; unblocks: string | null } {
  const slots = `${nodes.running} of ${nodes.slots} slots`;
  switch (reason) {
    case "queue_paused":
      return { message: "The whole queue is paused.", unblocks: "It goes on when the queue is resumed." };
    case "chat_paused":
      return { message: "Its chat is paused.", unblocks: "It goes on when the chat is resumed." };
    case "chat_held":
      return { message: `Its chat is held since job ${heldBy} failed for good, as the chat's policy says.`, unblocks: "It goes on when the chat is resumed, or that job is redriven." };
    case "behind": {
      const untilThen = front?.nextAttemptAt && `${front.attempt > 0 ? `backs off after attempt ${front.attempt}` : "is delayed"} until ${front.nextAttemptAt}`;
      const doing = front?.status === "running" ? "is running" : (untilThen ?? "waits for a slot");
      const more = queuePosition > 2 ? `, with ${queuePosition - 2} more between them` : "";
      return { message: `Behind job ${front?.chatSeq} of its chat, which ${doing}${more}.`, unblocks: more ? "Its turn comes when those before it have ended or are cancelled." : `Its turn comes when job ${front?.chatSeq} ends or is cancelled.` };
    }
    case "backing_off":
      return { message: `Backing off after attempt ${attempt}, until ${nextAttemptAt}.`, unblocks: "It is tried again then, as soon as a slot is free." };
    case "delayed":
      return { message: `Delayed by its submitter, until ${nextAttemptAt}.`, unblocks: "It starts then, as soon as a slot is free." };
    case "draining":
      return { message: "Every node is draining: nothing new is started.", unblocks: "It goes on when a node starts." };
    case "no_node":
      return { message: "No node is alive.", unblocks: "It goes on when a node starts, or reaches the database again." };
    case "no_slot":
      return { message: `No slot is free: ${slots} are taken, and ${lanesAhead === 0 ? "its chat is next in line" : lanesAhead === 1 ? "one chat stands before its chat" : `${lanesAhead} chats stand before its chat`}.`, unblocks: lanesAhead === 0 ? "It starts when a running build ends." : "It starts when running builds have ended and those chats have had their turn." };
    case "starting":
      return { message: `It is next, and a slot is free (${slots} are taken).`, unblocks: "It is claimed in a moment." };
    case "running":
      return { message: `It is running, attempt ${attempt}.`, unblocks: null };
    case "final":
      return { message: status === "failed" ? `It has failed: ${failureCode}.` : "It is completed.", unblocks: null };
    default:
      return reason satisfies never;
  }
}
