/** accept: numbers jobs in their lanes. A refused group changes nothing, so everything is looked at before anything is written. */
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, NewJob } from "../store.js";
import { invariant } from "../../errors.js";
import { copy, createLane, enterPending, iso, laneOf, lineUp, positionOf, write } from "./tables.js";
import type { JobRow, Tables } from "./tables.js";

export const acceptedOf = (tables: Tables, job: JobRow): Accepted => ({
  id: job.id, chatId: job.chatId, messageId: job.messageId, chatSeq: job.chatSeq, status: job.status,
  queuePosition: positionOf(laneOf(tables, job.chatId), job), createdAt: iso(job.createdAt),
});

export function accept(tables: Tables, groups: AcceptGroup[], limits: AcceptLimits, at: number): AcceptAnswer[] {
  const decided = groups.map((group) => acceptGroup(tables, group, limits, at));
  // Positions last: a later group may have put a job of higher priority before an earlier one.
  return decided.map((answer) => ("rows" in answer ? { kind: answer.kind, jobs: answer.rows.map((job) => acceptedOf(tables, job)) } : answer));
}

type Decided = Exclude<AcceptAnswer, { jobs: Accepted[] }> | { kind: "accepted" | "replayed"; rows: JobRow[] };

function acceptGroup(tables: Tables, { jobs, idempotency }: AcceptGroup, limits: AcceptLimits, at: number): Decided {
  const key = idempotency && JSON.stringify([idempotency.scope, idempotency.key]);
  const kept = key === null ? undefined : tables.keys.get(key);
  if (kept && kept.requestHash !== idempotency?.requestHash) return { kind: "idempotencyConflict" };
  // Of the jobs of the first time, those that the retention has left.
  if (kept) return { kind: "replayed", rows: kept.jobIds.flatMap((id) => tables.jobs.get(id) ?? []) };

  const perChat = new Map<string, number>();
  for (const { chatId } of jobs) perChat.set(chatId, (perChat.get(chatId) ?? 0) + 1);
  const refusal = refuse(tables, perChat, jobs.length, limits, at);
  if (refusal) return refusal;

  const rows = jobs.map((job) => insert(tables, job, limits.agingMs, at));
  for (const [chatId, count] of perChat) {
    const lane = laneOf(tables, chatId);
    lane.rateAt = limits.rate ? arrival(lane.rateAt, count, limits.rate.intervalMs, at) : null;
    lineUp(tables, lane, at);
  }
  if (key !== null && idempotency) tables.keys.set(key, { requestHash: idempotency.requestHash, jobIds: jobs.map((job) => job.id), createdAt: at });
  return { kind: "accepted", rows };
}

const arrival = (rateAt: number | null, count: number, intervalMs: number, at: number): number => Math.max(rateAt ?? at, at) + count * intervalMs;

function refuse(tables: Tables, perChat: Map<string, number>, count: number, { pendingPerChatMax, pendingMax, rate }: AcceptLimits, at: number): Exclude<AcceptAnswer, { jobs: Accepted[] }> | null {
  const chats = [...perChat].sort(([a], [b]) => (a < b ? -1 : 1)).map(([chatId, n]) => ({ chatId, n, lane: tables.lanes.get(chatId) }));
  const full = chats.find(({ n, lane }) => (lane?.pending.size ?? 0) + n > pendingPerChatMax);
  if (full) return { kind: "chatQueueFull", chatId: full.chatId };
  if (tables.totals.pending + count > pendingMax) return { kind: "queueFull" };
  if (!rate) return null;
  const over = chats
    .map(({ chatId, n, lane }) => ({ chatId, ms: arrival(lane?.rateAt ?? null, n, rate.intervalMs, at) - at - rate.burst * rate.intervalMs }))
    .filter(({ ms }) => ms > 0);
  return over[0] ? { kind: "rateLimited", chatId: over[0].chatId, retryAfterMs: Math.max(1, Math.ceil(Math.max(...over.map(({ ms }) => ms)))) } : null;
}

function insert(tables: Tables, offered: NewJob, agingMs: number, at: number): JobRow {
  invariant(!tables.jobs.has(offered.id), `job id ${offered.id} was given twice`);
  let lane = tables.lanes.get(offered.chatId);
  if (!lane) {
    lane = createLane(offered.chatId, at);
    tables.lanes.set(lane.chatId, lane);
  }
  lane.acceptedAt = Math.max(lane.acceptedAt, at);
  const { id, chatId, messageId, code, entry, codeHash, priority, maxAttempts, timeoutMs, delayMs } = offered;
  const job: JobRow = {
    id, chatId, messageId, code, entry, codeHash, priority, maxAttempts, timeoutMs, files: copy(offered.files), options: copy(offered.options),
    chatSeq: ++lane.tail, place: ++lane.placeTail, rank: lane.acceptedAt - priority * agingMs, createdAt: lane.acceptedAt, runAt: lane.acceptedAt + delayMs,
    status: "pending", attempt: 0, spent: 0, strikes: 0, nodeLosses: 0, startedAt: null, completedAt: null, cancelRequestedAt: null, discardedAt: null,
    held: null, built: null, failed: null, events: [],
  };
  tables.jobs.set(id, job);
  tables.byAge.add(job);
  enterPending(tables, lane, job);
  write(lane, job, "job.accepted", lane.acceptedAt, { messageId, priority });
  return job;
}
