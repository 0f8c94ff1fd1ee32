/** The lesser verbs: leases, what people ask for (cancel, redrive, discard, pause), and the retention. */
import type { Scope } from "../scope.js";
import type { CancelAnswer, Keep, Pruned, PulseAnswer, PulseRequest, RedriveAnswer } from "../store.js";
import { isFinal } from "../../job.js";
import type { EventType, HistoryEvent } from "../../job.js";
import { acceptedOf } from "./accept.js";
import { lineFrom } from "./next-lanes.js";
import { enterPending, failPending, failureOf, isDeadLetter, jobWithin, laneOf, leaveFinished, lineUp, lineUpDue, write, writeOfChat } from "./tables.js";
import type { JobRow, Lane, Tables } from "./tables.js";

/** Beyond this many, how many lanes are ready says nothing more. */
const readyLanesMax = 1000;
const deadNodeKeptMs = 60_000;
const shareKeptMs = 3_600_000;

export function pulse(tables: Tables, { nodeId, leaseMs, slots, draining, clusterCap = null }: PulseRequest, at: number): PulseAnswer {
  const before = [...tables.nodes.values()].filter((one) => one.leaseUntil > at);
  const node = tables.nodes.get(nodeId) ?? { id: nodeId, slots, draining, clusterCap, startedAt: at, leaseMs, leaseUntil: at };
  tables.nodes.set(nodeId, Object.assign(node, { slots, draining, clusterCap, leaseMs, leaseUntil: at + leaseMs }));
  const living = [...tables.nodes.values()].filter((one) => one.leaseUntil > at);
  tables.clusterCap = Math.min(...living.map((one) => one.clusterCap ?? Number.POSITIVE_INFINITY));
  const orphaned = [...tables.owned].reduce((sum, [owner, lanes]) => sum + (living.some((one) => one.id === owner) ? 0 : lanes.size), 0);
  const binds = tables.clusterCap < living.reduce((sum, one) => sum + one.slots, orphaned);
  if (binds && !tables.capBinds) tables.hands = { until: at + Math.max(0, ...before.map((one) => one.leaseMs)), slots: new Map(before.map((one) => [one.id, one.slots])) };
  tables.capBinds = binds;
  lineUpDue(tables, at);
  const others = [...tables.owned.keys()].filter((owner) => owner !== nodeId).map((owner) => (tables.nodes.get(owner)?.leaseUntil ?? at) - at);
  return {
    held: [...(tables.owned.get(nodeId) ?? [])].flatMap(({ chatId, running }) =>
      running?.held ? [{ chatId, jobId: running.id, attempt: running.attempt, fence: running.held.fence, claimId: running.held.claimId, cancelRequested: running.cancelRequestedAt !== null }] : [],
    ),
    queuePaused: tables.queuePausedAt !== null,
    nextReadyInMs: tables.delayed.first ? tables.delayed.first.readyAt - at : null,
    readyLanes: Math.min(tables.ready.size, readyLanesMax),
    nextLeaseEndInMs: others.length > 0 ? Math.min(...others) : null,
    pending: tables.totals.pending,
    lineFrom: lineFrom(tables, at),
  };
}

export function endLeases(tables: Tables, which: { nodeId: string } | { exceptNodeId: string }, at: number): void {
  for (const node of tables.nodes.values()) {
    const meant = "nodeId" in which ? node.id === which.nodeId : node.id !== which.exceptNodeId;
    if (meant) node.leaseUntil = Math.min(node.leaseUntil, at);
  }
}

export function cancel(tables: Tables, scope: Scope, jobId: string, at: number): CancelAnswer {
  const job = jobWithin(tables, scope, jobId);
  if (!job) return { kind: "unknown" };
  if (isFinal(job.status)) return job.failed?.failure.code === "cancelled" ? { kind: "already" } : { kind: "final", status: job.status };
  if (job.status === "pending" || !job.held) {
    failPending(tables, job, failureOf("cancelled", "Cancelled before it ran."), at);
    return { kind: "cancelled", chatId: job.chatId };
  }
  if (job.cancelRequestedAt === null) {
    job.cancelRequestedAt = at;
    write(laneOf(tables, job.chatId), job, "job.cancelRequested", Math.max(at, job.startedAt ?? at));
  }
  return { kind: "requested", chatId: job.chatId, nodeId: job.held.nodeId };
}

export function redrive(tables: Tables, scope: Scope, jobId: string, { agingMs, delayMs = 0 }: { agingMs: number; delayMs?: number }, at: number): RedriveAnswer {
  const job = jobWithin(tables, scope, jobId);
  if (!job) return { kind: "unknown" };
  if (job.status !== "failed") return { kind: "notFailed", status: job.status };
  const lane = laneOf(tables, job.chatId);
  leaveFinished(tables, lane, job);
  lane.acceptedAt = Math.max(lane.acceptedAt, at);
  Object.assign(job, {
    place: ++lane.placeTail, rank: lane.acceptedAt - job.priority * agingMs, runAt: at + delayMs, spent: 0, strikes: 0, nodeLosses: 0,
    completedAt: null, failed: null, cancelRequestedAt: null, discardedAt: null, supersededBy: null, origin: null,
  } satisfies Partial<JobRow>);
  enterPending(tables, lane, job);
  write(lane, job, "job.redriven", lane.acceptedAt);
  if (lane.heldBy === job.id) {
    lane.heldBy = null;
    lane.pausedAt = null;
    writeOfChat(tables, lane, "chat.resumed", lane.acceptedAt);
  }
  lineUp(tables, lane, at);
  return { kind: "redriven", job: acceptedOf(tables, job, at) };
}

export function discard(tables: Tables, scope: Scope, jobIds: string[], at: number): number {
  const letters = [...new Set(jobIds)].flatMap((id) => jobWithin(tables, scope, id) ?? []).filter(isDeadLetter);
  for (const job of letters) {
    job.discardedAt = at;
    tables.deadLetters.delete(job);
  }
  return letters.length;
}

export function prune(tables: Tables, keep: Keep, at: number): Pruned {
  const isAged = (job: JobRow): boolean => (job.completedAt ?? 0) <= at - keep.ageMs;
  const isSuperseded = (job: JobRow): boolean => job.failed?.failure.code === "superseded";
  const aged = tables.finished.slice(0, keep.batch).filter(isAged);
  // Beyond the count superseded ones go first, then the oldest.
  const beyond = Math.max(0, Math.min(keep.batch, tables.finished.size - keep.count) - aged.length);
  const younger = beyond === 0 ? [] : [...tables.finished].slice(aged.length);
  const gone = [...aged, ...[...younger.filter(isSuperseded), ...younger.filter((job) => !isSuperseded(job))].slice(0, beyond)];
  for (const job of gone) {
    leaveFinished(tables, laneOf(tables, job.chatId), job);
    tables.byAge.remove(job);
    tables.jobs.delete(job.id);
  }
  for (const chatId of new Set(gone.map((job) => job.chatId))) {
    const lane = laneOf(tables, chatId);
    removeEvents(lane, new Set(gone.flatMap((job) => (job.chatId === chatId ? job.events : []))));
  }
  const { chatEvents, cursor } = pruneChats(tables, keep, at);
  // Keys stand in the order of their making.
  let keys = 0;
  for (const [key, { createdAt }] of tables.keys) {
    if (createdAt >= at - keep.idempotencyMs || keys++ >= keep.batch) break;
    tables.keys.delete(key);
  }
  for (const [tenant, { servedAt }] of tables.shares.next) if (servedAt < at - shareKeptMs) tables.shares.next.delete(tenant);
  for (const { id, leaseUntil } of tables.nodes.values()) if (leaseUntil < at - deadNodeKeptMs && !tables.owned.has(id)) tables.nodes.delete(id);
  for (const [hash, { crashedAt, quarantinedAt }] of tables.crashes) if (quarantinedAt === null && crashedAt <= at - keep.ageMs) tables.crashes.delete(hash);
  return { jobs: gone.length, chatEvents, more: gone.length >= keep.batch || (chatEvents > 0 && cursor !== undefined), ...(cursor === undefined ? {} : { cursor }) };
}

function removeEvents(lane: Lane, gone: Set<HistoryEvent>): void {
  lane.events = lane.events.filter((event) => !gone.has(event));
  for (const { number } of gone) lane.eventFloor = Math.max(lane.eventFloor, number);
}

/** What migrations/0016_retention.sql tells of events of chats themselves. */
function pruneChats(tables: Tables, { ageMs, batch, cursor }: Keep, at: number): { chatEvents: number; cursor: string | undefined } {
  const [time, chat, number] = cursor === undefined ? ["", "", 0] : (JSON.parse(cursor) as [string, string, number]);
  const first = tables.chatEvents.rankOf({ at: time, chatId: chat, number: number + 1 });
  const seen = tables.chatEvents.slice(first, first + batch).filter((event) => Date.parse(event.at) <= at - ageMs);
  let removed = 0;
  for (const chatId of new Set(seen.map((event) => event.chatId))) {
    const lane = laneOf(tables, chatId);
    const latest = latestOfKinds(lane);
    const gone = new Set(seen.filter((event) => event.chatId === chatId && event.number < (latest.get(kindOf(event)) ?? 0)));
    removeEvents(lane, gone);
    for (const event of gone) tables.chatEvents.remove(event);
    removed += gone.size;
  }
  const last = seen[batch - 1];
  return { chatEvents: removed, cursor: last && JSON.stringify([last.at, last.chatId, last.number]) };
}

const kindOf = ({ type }: HistoryEvent): EventType => (type === "chat.resumed" ? "chat.paused" : type);

/** Numbers of the chat's own events, the latest of each kind before all events of jobs. */
function latestOfKinds(lane: Lane): Map<EventType, number> {
  const latest = new Map<EventType, number>();
  for (const event of lane.events) {
    if (event.jobId !== null) break;
    latest.set(kindOf(event), event.number);
  }
  return latest;
}
