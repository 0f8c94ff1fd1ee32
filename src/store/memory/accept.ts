/** accept: numbers jobs in their lanes. A refused group changes nothing, so everything is looked at before anything is written. */
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, NewJob, Stopping } from "../store.js";
import { invariant } from "../../errors.js";
import { copy, createLane, enterPending, failPending, failureOf, holdOf, iso, laneOf, lineUp, positionOf, supersededMessage, write } from "./tables.js";
import type { JobRow, Tables } from "./tables.js";

export const acceptedOf = (tables: Tables, job: JobRow, at: number): Accepted => ({
  id: job.id, chatId: job.chatId, messageId: job.messageId, chatSeq: job.chatSeq, status: job.status, createdAt: iso(job.createdAt),
  queuePosition: positionOf(laneOf(tables, job.chatId), job), nextAttemptAt: job.status === "pending" && job.runAt > at ? iso(job.runAt) : null, ...holdOf(laneOf(tables, job.chatId), at),
});

export function accept(tables: Tables, groups: AcceptGroup[], limits: AcceptLimits, at: number): AcceptAnswer[] {
  const decided = groups.map((group) => acceptGroup(tables, group, limits, at));
  // Positions last: a later group may have put a job of higher priority before an earlier one.
  return decided.map((answer): AcceptAnswer => {
    if (!("rows" in answer)) return answer;
    const jobs = answer.rows.map((job) => acceptedOf(tables, job, at));
    return answer.kind === "replayed" ? { kind: "replayed", jobs } : { kind: "accepted", jobs, stopping: answer.stopping };
  });
}

type Decided = Exclude<AcceptAnswer, { jobs: Accepted[] }> | { kind: "accepted"; rows: JobRow[]; stopping: Stopping[] } | { kind: "replayed"; rows: JobRow[] };

function acceptGroup(tables: Tables, { jobs, idempotency }: AcceptGroup, limits: AcceptLimits, at: number): Decided {
  const key = idempotency && JSON.stringify([idempotency.scope, idempotency.key]);
  const kept = key === null ? undefined : tables.keys.get(key);
  if (kept && kept.requestHash !== idempotency?.requestHash) return { kind: "idempotencyConflict" };
  // Of the jobs of the first time, those that the retention has left.
  if (kept) return { kind: "replayed", rows: kept.jobIds.flatMap((id) => tables.jobs.get(id) ?? []) };

  const perChat = new Map<string, number>();
  for (const { chatId } of jobs) perChat.set(chatId, (perChat.get(chatId) ?? 0) + 1);
  const refusal = refuse(tables, jobs, perChat, limits, at);
  if (refusal) return refusal;

  const rows = jobs.map((job) => insert(tables, job, limits.agingMs, at));
  const stopping = supersede(tables, rows.filter((_, index) => jobs[index]?.supersede), new Set(jobs.filter((job) => job.supersede === "running").map(({ id }) => id)), at);
  for (const [chatId, count] of perChat) {
    const lane = laneOf(tables, chatId);
    lane.rateAt = limits.rate ? arrival(lane.rateAt, count, limits.rate.intervalMs, at) : null;
    lineUp(tables, lane, at);
  }
  if (key !== null && idempotency) tables.keys.set(key, { requestHash: idempotency.requestHash, jobIds: jobs.map((job) => job.id), createdAt: at });
  return { kind: "accepted", rows, stopping };
}

const arrival = (rateAt: number | null, count: number, intervalMs: number, at: number): number => Math.max(rateAt ?? at, at) + count * intervalMs;

/** The chat's older jobs end in favour of the first newer one of these: pending ones at once, a running one by request. */
function supersede(tables: Tables, newer: JobRow[], alsoRunning: ReadonlySet<string>, at: number): Stopping[] {
  const stopping: Stopping[] = [];
  for (const chatId of new Set(newer.map((job) => job.chatId))) {
    const lane = laneOf(tables, chatId);
    const ours = newer.filter((job) => job.chatId === chatId);
    for (const old of [...lane.pending].sort((a, b) => a.place - b.place)) {
      const successor = ours.find((job) => job.place > old.place);
      if (!successor) continue;
      old.supersededBy = successor.id;
      failPending(tables, old, failureOf("superseded", supersededMessage), at);
    }
    const successor = ours.find(({ id }) => alsoRunning.has(id));
    const { running } = lane;
    if (!successor || !running?.held || running.cancelRequestedAt !== null) continue;
    running.cancelRequestedAt = at;
    running.supersededBy = successor.id;
    write(lane, running, "job.cancelRequested", Math.max(at, running.startedAt ?? at), { supersededBy: successor.id });
    stopping.push({ chatId, jobId: running.id, nodeId: running.held.nodeId });
  }
  return stopping;
}

function refuse(tables: Tables, jobs: NewJob[], perChat: Map<string, number>, { pendingPerChatMax, pendingMax, rate }: AcceptLimits, at: number): Exclude<AcceptAnswer, { jobs: Accepted[] }> | null {
  const chats = [...perChat].sort(([a], [b]) => (a < b ? -1 : 1)).map(([chatId, n]) => ({ chatId, n, lane: tables.lanes.get(chatId) }));
  // Before a job that supersedes nothing is left pending.
  const left = chats.map(({ chatId, n, lane }) => {
    const last = jobs.filter((job) => job.chatId === chatId).reverse().findIndex((job) => job.supersede !== null);
    const before = lane?.pending.size ?? 0;
    return { chatId, before, after: last >= 0 ? last + 1 : before + n };
  });
  const full = left.find(({ after }) => after > pendingPerChatMax);
  if (full) return { kind: "chatQueueFull", chatId: full.chatId, ...holdOf(tables.lanes.get(full.chatId), at) };
  if (left.reduce((sum, { before, after }) => sum + after - before, tables.totals.pending) > pendingMax) return { kind: "queueFull" };
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
  const { id, chatId, messageId, code, entry, codeHash, priority, maxAttempts, timeoutMs, delayMs, traceparent = null } = offered;
  const job: JobRow = {
    id, chatId, messageId, code, entry, codeHash, priority, maxAttempts, timeoutMs, traceparent, files: copy(offered.files), options: copy(offered.options),
    chatSeq: ++lane.tail, place: ++lane.placeTail, rank: lane.acceptedAt - priority * agingMs, createdAt: lane.acceptedAt, runAt: lane.acceptedAt + delayMs,
    status: "pending", attempt: 0, spent: 0, strikes: 0, nodeLosses: 0, startedAt: null, completedAt: null, cancelRequestedAt: null, discardedAt: null,
    supersededBy: null, origin: null,
    held: null, built: null, failed: null, events: [],
  };
  tables.jobs.set(id, job);
  tables.byAge.add(job);
  enterPending(tables, lane, job);
  write(lane, job, "job.accepted", lane.acceptedAt, { messageId, priority, ...(delayMs > 0 ? { runAt: iso(job.runAt) } : {}) });
  return job;
}
