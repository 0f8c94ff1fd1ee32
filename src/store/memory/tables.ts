/**
 * What the memory store holds, and the few steps that every verb is made of: write an event, put a lane in line, finish
 * a job. The same rows as migrations/0001_tables.sql, where the data is told; times are milliseconds since 1970.
 */
import type { BuildOptions, Diagnostic, EventType, Failure, FailureCode, HistoryEvent, JobStatus, Origin } from "../../job.js";
import type { ChatPolicy, Hold } from "../store.js";
import { isWithin, ofLane } from "../scope.js";
import type { Scope } from "../scope.js";
import { ownFailures } from "../code.js";
import { Sorted } from "./sorted.js";

export interface JobRow {
  readonly id: string;
  readonly chatId: string;
  readonly chatSeq: number;
  readonly messageId: string;
  readonly code: string | null;
  readonly files: Record<string, string> | null;
  readonly entry: string | null;
  readonly options: BuildOptions;
  readonly codeHash: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly timeoutMs: number;
  readonly traceparent: string | null;
  readonly createdAt: number;
  place: number;
  rank: number;
  status: JobStatus;
  attempt: number;
  /** Attempts that cost one. */
  spent: number;
  strikes: number;
  nodeLosses: number;
  runAt: number;
  startedAt: number | null;
  completedAt: number | null;
  cancelRequestedAt: number | null;
  discardedAt: number | null;
  supersededBy: string | null;
  /** Who runs it: the guard of its end. */
  held: { nodeId: string; fence: number; claimId: string } | null;
  built: { result: string; sourceMap: string | null; warnings: Diagnostic[]; externals: string[] } | null;
  failed: { failure: Failure; error: string } | null;
  /** Of its outcome, where any build of the same code would end so. */
  origin: Origin | null;
  readonly events: HistoryEvent[];
}

export interface Lane {
  readonly chatId: string;
  readonly tenant: string;
  tail: number;
  placeTail: number;
  eventTail: number;
  eventFloor: number;
  /** Jobs that ever became so. */
  completed: number;
  failed: number;
  fence: number;
  acceptedAt: number;
  settledAt: number | null;
  /** Theoretical arrival time of the rate limiter (GCRA). */
  rateAt: number | null;
  pausedAt: number | null;
  /** The failed job for which it is paused. */
  heldBy: string | null;
  policy: ChatPolicy;
  state: "idle" | "ready" | "delayed" | "paused" | "running";
  turnAt: number;
  readyAt: number;
  running: JobRow | null;
  /** A node has it in hand until then, ahead of a free slot; with no claim: had it until then. */
  taken: { until: number; claimId: string | null } | null;
  readonly pending: Sorted<JobRow>;
  readonly finished: Sorted<JobRow>;
  events: HistoryEvent[];
}

export interface NodeRow {
  readonly id: string;
  slots: number;
  draining: boolean;
  clusterCap: number | null;
  readonly startedAt: number;
  leaseMs: number;
  leaseUntil: number;
}

export interface Crashes {
  count: number;
  cause: FailureCode;
  /** The latest. */
  crashedAt: number;
  quarantinedAt: number | null;
}

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const byPlace = (a: JobRow, b: JobRow): number => a.rank - b.rank || a.place - b.place;
const byEnd = (a: JobRow, b: JobRow): number => (a.completedAt ?? 0) - (b.completedAt ?? 0) || byText(a.id, b.id);
const byEndInChat = (a: JobRow, b: JobRow): number => (a.completedAt ?? 0) - (b.completedAt ?? 0) || a.chatSeq - b.chatSeq;
const byAge = (a: Pick<JobRow, "createdAt" | "id">, b: Pick<JobRow, "createdAt" | "id">): number => a.createdAt - b.createdAt || byText(a.id, b.id);
type EventKey = Pick<HistoryEvent, "at" | "chatId" | "number">;
const byTime = (a: EventKey, b: EventKey): number => byText(a.at, b.at) || byText(a.chatId, b.chatId) || a.number - b.number;
type Turn = Pick<Lane, "tenant" | "turnAt" | "chatId">;
const byTurn = (a: Turn, b: Turn): number => byText(a.tenant, b.tenant) || a.turnAt - b.turnAt || byText(a.chatId, b.chatId);
const byReadyAt = (a: Lane, b: Lane): number => a.readyAt - b.readyAt || byText(a.chatId, b.chatId);

export const createTables = () => ({
  jobs: new Map<string, JobRow>(),
  /** All jobs, oldest first. */
  byAge: new Sorted<JobRow, Pick<JobRow, "createdAt" | "id">>(byAge),
  /** Finished jobs, by their end. */
  finished: new Sorted<JobRow>(byEnd),
  deadLetters: new Set<JobRow>(),
  /** Finished jobs whose outcome is that of their code, by code and stamp, in order of their ends. */
  known: new Map<string, Sorted<JobRow>>(),
  lanes: new Map<string, Lane>(),
  /** Of chats themselves, oldest first. */
  chatEvents: new Sorted<HistoryEvent, EventKey>(byTime),
  /** Each tenant's lanes in a line, one tenant after another. */
  ready: new Sorted<Lane, Turn>(byTurn),
  delayed: new Sorted<Lane>(byReadyAt),
  paused: new Set<Lane>(),
  /** Lanes in hand, by node. */
  owned: new Map<string, Set<Lane>>(),
  nodes: new Map<string, NodeRow>(),
  keys: new Map<string, { requestHash: string; jobIds: string[]; createdAt: number }>(),
  crashes: new Map<string, Crashes>(),
  /** Running totals; the last two only grow. */
  totals: { pending: 0, running: 0, completed: 0, failed: 0 },
  queuePausedAt: null as number | null,
  /** Of starts between tenants (migrations/0015_tenant_shares.sql): tags of their next starts, shared time, weights other than 1. */
  shares: { next: new Map<string, { tag: number; servedAt: number }>(), at: 0, weights: new Map<string, number>() },
  /** Attempts that may run over all nodes: the lowest of what living nodes were given, as of the latest pulse. */
  clusterCap: Number.POSITIVE_INFINITY,
  /** Whether more could run than the cap lets. */
  capBinds: false,
  /** Until then nodes may have runs that they began ahead of their record before the cap began to bind; as many as they had slots, by node. */
  hands: { until: Number.NEGATIVE_INFINITY, slots: new Map<string, number>() },
});
export type Tables = ReturnType<typeof createTables>;

export const iso = (ms: number): string => new Date(ms).toISOString();

/** A copy as a database would give it back: nothing of the caller's stays shared, and undefined members are gone. */
export const copy = <T>(value: T): T => (value === null ? value : (JSON.parse(JSON.stringify(value)) as T));

export function laneOf(tables: Tables, chatId: string): Lane {
  const lane = tables.lanes.get(chatId);
  if (!lane) throw new Error(`no lane ${chatId}`);
  return lane;
}

export const isShownTo = (scope: Scope, job: JobRow): boolean => isWithin(scope, job.chatId);

/** The job, unless it is outside the scope. */
export function jobWithin(tables: Tables, scope: Scope, jobId: string): JobRow | undefined {
  const job = tables.jobs.get(jobId);
  return job && isShownTo(scope, job) ? job : undefined;
}

export const createLane = (chatId: string, at: number): Lane => ({
  chatId, tenant: ofLane(chatId).tenant, tail: 0, placeTail: 0, eventTail: 0, eventFloor: 0, completed: 0, failed: 0, fence: 0, acceptedAt: at, settledAt: null, rateAt: null, pausedAt: null,
  heldBy: null, policy: { whileRetrying: "block", afterFailure: "skip" },
  state: "idle", turnAt: 0, readyAt: 0, running: null, taken: null, pending: new Sorted(byPlace), finished: new Sorted(byEndInChat), events: [],
});

/** Writes an event with the chat's next number. */
export function write(lane: Lane, job: JobRow, type: EventType, at: number, data: Record<string, unknown> = {}): void {
  job.events.push(append(lane, job, type, at, data));
}
/** The same of the chat itself. */
export function writeOfChat(tables: Tables, lane: Lane, type: EventType, at: number, data: Record<string, unknown> = {}): void {
  tables.chatEvents.add(append(lane, null, type, at, data));
}
function append(lane: Lane, job: JobRow | null, type: EventType, at: number, data: Record<string, unknown>): HistoryEvent {
  const event: HistoryEvent = {
    chatId: lane.chatId, number: ++lane.eventTail, type, jobId: job?.id ?? null, chatSeq: job?.chatSeq ?? null,
    status: job?.status ?? null, attempt: job?.attempt ?? null, at: iso(at), data,
  };
  lane.events.push(event);
  return event;
}

/** Puts a lane where it belongs by its pending jobs and by who runs it. Last in every step that changes one of them. */
export function lineUp(tables: Tables, lane: Lane, at: number): void {
  tables.ready.remove(lane);
  tables.delayed.remove(lane);
  tables.paused.delete(lane);
  const wasInLine = lane.state === "ready" || (lane.state === "delayed" && lane.readyAt <= at);
  const head = lane.pending.first;
  if (lane.running) lane.state = "running";
  else if (!head) lane.state = "idle";
  else {
    lane.readyAt = head.runAt;
    // What was not in line comes to its end, and in line none moves to before where it stood.
    lane.turnAt = Math.max(head.rank, head.runAt, lane.settledAt ?? Number.NEGATIVE_INFINITY, wasInLine ? Math.min(lane.turnAt, at) : at);
    lane.state = lane.pausedAt !== null ? "paused" : head.runAt > at ? "delayed" : "ready";
  }
  if (lane.state === "ready") tables.ready.add(lane);
  else if (lane.state === "delayed") tables.delayed.add(lane);
  else if (lane.state === "paused") tables.paused.add(lane);
}

/** Lanes whose head's time has come stand in line like any other. */
export function lineUpDue(tables: Tables, at: number): void {
  for (let due = tables.delayed.first; due && due.readyAt <= at; due = tables.delayed.first) {
    tables.delayed.remove(due);
    due.state = "ready";
    tables.ready.add(due);
  }
}

export function enterPending(tables: Tables, lane: Lane, job: JobRow): void {
  job.status = "pending";
  lane.pending.add(job);
  tables.totals.pending++;
}
export function leavePending(tables: Tables, lane: Lane, job: JobRow): void {
  lane.pending.remove(job);
  tables.totals.pending--;
}

export const isDeadLetter = ({ status, failed, discardedAt }: JobRow): boolean =>
  status === "failed" && failed?.failure.code !== "cancelled" && failed?.failure.code !== "superseded" && discardedAt === null;

/** Gives a job its final status; its outcome is in it already. */
export function enterFinished(tables: Tables, lane: Lane, job: JobRow, status: "completed" | "failed", at: number): void {
  job.status = status;
  job.completedAt = at;
  lane.finished.add(job);
  tables.finished.add(job);
  tables.totals[status]++;
  lane[status]++;
  if (isDeadLetter(job)) tables.deadLetters.add(job);
  const key = knownKey(job);
  if (key === null) return;
  const alike = tables.known.get(key) ?? new Sorted<JobRow>(byEnd);
  alike.add(job);
  tables.known.set(key, alike);
}

/** Of jobs whose outcome any build of the same code would have. */
function knownKey({ codeHash, origin, failed }: JobRow): string | null {
  return origin && (failed === null || ownFailures.includes(failed.failure.code)) ? `${codeHash}/${origin.stamp}` : null;
}

export function leaveFinished(tables: Tables, lane: Lane, job: JobRow): void {
  lane.finished.remove(job);
  tables.finished.remove(job);
  tables.deadLetters.delete(job);
  const key = knownKey(job) ?? "";
  const alike = tables.known.get(key);
  alike?.remove(job);
  if (alike?.size === 0) tables.known.delete(key);
}

/** What a `job.failed` event says of the failure. */
export const failedData = ({ code, message, quarantined }: Failure, { supersededBy }: JobRow): Record<string, unknown> => ({
  failureCode: code, message, ...(quarantined === undefined ? {} : { quarantined }), ...(supersededBy === null ? {} : { supersededBy }),
});

export const supersededMessage = "Superseded by a newer job of its chat.";

export const failureOf = (code: FailureCode, message: string, quarantined = false): Failure => ({ code, message, retryable: false, diagnostics: [], ...(quarantined ? { quarantined } : {}) });

/** Fails a pending job without a run: cancelled, superseded, or its code is quarantined. */
export function failPending(tables: Tables, job: JobRow, failure: Failure, at: number): void {
  const lane = laneOf(tables, job.chatId);
  const endedAt = Math.max(at, job.startedAt ?? 0, job.createdAt);
  leavePending(tables, lane, job);
  job.failed = { failure, error: failure.message };
  enterFinished(tables, lane, job, "failed", endedAt);
  write(lane, job, "job.failed", endedAt, failedData(failure, job));
  hold(tables, lane, job, at);
  lineUp(tables, lane, at);
}

/** A job that failed for good pauses its chat where the policy says so. The lane is put in line after this. */
export function hold(tables: Tables, lane: Lane, job: JobRow, at: number): void {
  if (lane.policy.afterFailure !== "hold" || lane.pausedAt !== null || !isDeadLetter(job)) return;
  lane.pausedAt = at;
  lane.heldBy = job.id;
  writeOfChat(tables, lane, "chat.paused", Math.max(at, job.completedAt ?? at), { heldBy: job.id });
}

/** 1 for the job that runs next; a running one counts as ahead; 0 when it is not pending. */
export const positionOf = (lane: Lane, job: JobRow): number => (job.status === "pending" ? lane.pending.rankOf(job) + 1 + (lane.running ? 1 : 0) : 0);

/** What keeps all of a chat from starting; nothing holds one that has no lane yet. */
export function holdOf(lane: Lane | undefined, at: number): Hold {
  const front = lane?.pending.first;
  return { chatPaused: (lane?.pausedAt ?? null) !== null, chatReadyAt: front && lane.running === null && front.runAt > at ? iso(front.runAt) : null };
}
