/** The memory store's reads: rows as the vocabulary sees them. Everything handed out is a copy. */
import { laneKey, shownLane } from "../scope.js";
import type { Scope } from "../scope.js";
import { groupedMax, groupExamplesMax } from "../store.js";
import type { ChatView, DeadLetterFilter, DeadLetterGroup, ListRead, Output, StoredJob } from "../store.js";
import { createHash } from "node:crypto";
import { isFinal } from "../../job.js";
import type { Failure, HistoryEvent } from "../../job.js";
import { validationFailed } from "../../errors.js";
import { attemptsOf } from "../../history/attempts.js";
import { copy, holdOf, isDeadLetter, iso, isShownTo, jobWithin, laneOf, positionOf } from "./tables.js";
import type { JobRow, Tables } from "./tables.js";

interface Include {
  code: boolean;
  result: boolean;
}
const everything: Include = { code: true, result: true };

function toJob(tables: Tables, row: JobRow, include: Include, at: number): StoredJob {
  const base = {
    id: row.id, ...shownLane(row.chatId), messageId: row.messageId, chatSeq: row.chatSeq, priority: row.priority, attempt: row.attempt, maxAttempts: row.maxAttempts,
    createdAt: iso(row.createdAt), code: include.code ? row.code : null, files: include.code ? copy(row.files) : null, entry: row.entry, options: copy(row.options),
    warnings: copy(row.built?.warnings ?? []), externals: copy(row.built?.externals ?? []), attempts: attemptsOf(row.events), supersededBy: row.supersededBy,
    cached: (row.origin?.from ?? null) !== null, cachedFrom: row.origin?.from ?? null,
  };
  const nothing = { result: null, error: null, failure: null, nextAttemptAt: null };
  const startedAt = row.startedAt === null ? null : iso(row.startedAt);
  const completedAt = row.completedAt === null ? null : iso(row.completedAt);
  switch (row.status) {
    case "pending": {
      const lane = laneOf(tables, row.chatId);
      const nextAttemptAt = row.runAt > at ? iso(row.runAt) : null;
      return { ...base, ...nothing, status: "pending", startedAt, completedAt: null, nextAttemptAt, queuePosition: positionOf(lane, row), ...holdOf(lane, at) };
    }
    case "running":
      return { ...base, ...nothing, status: "running", startedAt: startedAt as string, completedAt: null };
    case "completed":
      // A summary leaves the result out; the type says that a completed job has one.
      return { ...base, ...nothing, status: "completed", startedAt: startedAt as string, completedAt: completedAt as string, result: (include.result ? row.built?.result : null) as string };
    case "failed":
      if (!row.failed) throw new Error(`failed job ${row.id} has no failure`);
      return { ...base, ...nothing, status: "failed", startedAt, completedAt: completedAt as string, error: row.failed.error, failure: copy(row.failed.failure) };
    default:
      return row.status satisfies never;
  }
}

export function get(tables: Tables, scope: Scope, jobId: string, at: number): StoredJob | null {
  const row = jobWithin(tables, scope, jobId);
  return row ? toJob(tables, row, everything, at) : null;
}

export function hasEnded(tables: Tables, jobId: string): boolean {
  const row = tables.jobs.get(jobId);
  return row === undefined || isFinal(row.status);
}

export function output(tables: Tables, scope: Scope, jobId: string): Output | null {
  const row = jobWithin(tables, scope, jobId);
  return row ? { status: row.status, result: row.built?.result ?? null, sourceMap: row.built?.sourceMap ?? null } : null;
}

export function chat(tables: Tables, chatId: string, limit: number, include: Include, at: number): ChatView {
  const lane = tables.lanes.get(chatId);
  if (!lane) return { pending: [], running: [], completed: [], failed: [] };
  const show = (rows: JobRow[]) => rows.map((row) => toJob(tables, row, include, at));
  const newest = (status: JobRow["status"]): JobRow[] => {
    const found: JobRow[] = [];
    for (let index = lane.finished.size - 1; index >= 0 && found.length < limit; index--) {
      const row = lane.finished.at(index) as JobRow;
      if (row.status === status) found.push(row);
    }
    return found;
  };
  return { pending: show(lane.pending.slice(0, limit)), running: show(lane.running ? [lane.running] : []), completed: show(newest("completed")), failed: show(newest("failed")) };
}

/** Opaque to callers: creation time and id of the page's last job. */
const encodeCursor = ({ createdAt, id }: JobRow): string => Buffer.from(JSON.stringify([createdAt, id])).toString("base64url");
function decodeCursor(cursor: string): Pick<JobRow, "createdAt" | "id"> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    if (Array.isArray(parsed) && parsed.length === 2 && typeof parsed[0] === "number" && typeof parsed[1] === "string") return { createdAt: parsed[0], id: parsed[1] };
  } catch {
    // Falls through to the same answer as a well-formed cursor of something else.
  }
  throw validationFailed([{ path: "/cursor", message: "Expected a cursor from the page before." }]);
}

export function list(tables: Tables, scope: Scope, query: ListRead, at: number): { jobs: StoredJob[]; nextCursor: string | null } {
  const after = query.createdAfter === undefined ? Number.NEGATIVE_INFINITY : Date.parse(query.createdAfter);
  const before = query.createdBefore === undefined ? Number.POSITIVE_INFINITY : Date.parse(query.createdBefore);
  const matches = (row: JobRow): boolean =>
    isShownTo(scope, row) &&
    (query.status?.includes(row.status) ?? true) &&
    (query.chatId === undefined || row.chatId === laneKey(scope, query.chatId)) &&
    (query.failureCode === undefined || row.failed?.failure.code === query.failureCode) &&
    row.createdAt <= before &&
    (!query.deadLetters || (isDeadLetter(row) && (query.fingerprint === undefined || fingerprintOf((row.failed as { failure: Failure }).failure) === query.fingerprint)));
  const found: JobRow[] = [];
  let index = (query.cursor === undefined ? tables.byAge.size : tables.byAge.rankOf(decodeCursor(query.cursor))) - 1;
  for (; index >= 0 && found.length <= query.limit; index--) {
    const row = tables.byAge.at(index) as JobRow;
    if (row.createdAt < after) break;
    if (matches(row)) found.push(row);
  }
  const page = found.slice(0, query.limit);
  const last = page.at(-1);
  return { jobs: page.map((row) => toJob(tables, row, query.include, at)), nextCursor: found.length > query.limit && last ? encodeCursor(last) : null };
}

/** As buildlane_fingerprint in migrations/0012_dead_letters.sql. */
const fingerprintOf = ({ code, message }: Failure): string =>
  createHash("md5").update(`${code}\n${message.replace(/"[^"]*"/g, '"').replace(/[0-9]+/g, "#")}`).digest("hex").slice(0, 12);

/** Oldest first. */
function lettersOf(tables: Tables, scope: Scope, { ids, chatId, failureCode, fingerprint }: DeadLetterFilter): JobRow[] {
  const wanted = ids && new Set(ids);
  const matches = (row: JobRow): boolean =>
    isShownTo(scope, row) && (wanted?.has(row.id) ?? true) && (chatId === undefined || row.chatId === laneKey(scope, chatId)) &&
    (failureCode === undefined || row.failed?.failure.code === failureCode) && (fingerprint === undefined || fingerprintOf((row.failed as { failure: Failure }).failure) === fingerprint);
  return [...tables.deadLetters].filter(matches).sort((a, b) => (a.completedAt ?? 0) - (b.completedAt ?? 0) || (a.id < b.id ? -1 : 1));
}

export const deadLetterIds = (tables: Tables, scope: Scope, filter: DeadLetterFilter, limit = Number.POSITIVE_INFINITY): string[] => lettersOf(tables, scope, filter).slice(0, limit).map((row) => row.id);

export function deadLetterGroups(tables: Tables, scope: Scope, filter: DeadLetterFilter, limit: number): DeadLetterGroup[] {
  const groups = new Map<string, JobRow[]>();
  for (const row of lettersOf(tables, scope, filter).slice(-groupedMax).reverse()) {
    const name = fingerprintOf((row.failed as { failure: Failure }).failure);
    const group = groups.get(name);
    if (group) group.push(row);
    else groups.set(name, [row]);
  }
  return [...groups]
    .map(([fingerprint, rows]): DeadLetterGroup => {
      const latest = rows[0] as JobRow;
      const { code, message } = (latest.failed as { failure: Failure }).failure;
      return {
        fingerprint, failureCode: code, message, count: rows.length, chats: new Set(rows.map((row) => row.chatId)).size,
        firstAt: iso(rows.at(-1)?.completedAt ?? 0), latestAt: iso(latest.completedAt ?? 0), examples: rows.slice(0, groupExamplesMax).map((row) => row.id),
      };
    })
    .sort((a, b) => b.count - a.count || (a.fingerprint < b.fingerprint ? -1 : 1))
    .slice(0, limit);
}

/** Index of the first event after `number`; events stand in the order of their numbers. */
function firstAfter(events: HistoryEvent[], number: number): number {
  let from = 0;
  let to = events.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((events[middle] as HistoryEvent).number <= number) from = middle + 1;
    else to = middle;
  }
  return from;
}

export function events(tables: Tables, chatId: string, { after, limit, jobId }: { after: number; limit: number; jobId?: string }): { events: HistoryEvent[]; floor: number; tail: number } {
  const lane = tables.lanes.get(chatId);
  const job = jobId === undefined ? undefined : tables.jobs.get(jobId);
  const from = jobId === undefined ? (lane?.events ?? []) : job?.chatId === chatId ? job.events : [];
  const first = firstAfter(from, after);
  return { events: from.slice(first, first + limit).map((event) => ({ ...copy(event), ...shownLane(event.chatId) })), floor: lane?.eventFloor ?? 0, tail: lane?.eventTail ?? 0 };
}

export function eventStart(tables: Tables, chatId: string): number {
  const lane = tables.lanes.get(chatId);
  if (!lane) return 0;
  let oldest = lane.running;
  for (const job of lane.pending) if (!oldest || job.chatSeq < oldest.chatSeq) oldest = job;
  return oldest ? (oldest.events[0]?.number ?? 1) - 1 : lane.eventTail;
}
