/** Database rows as the vocabulary sees them: a job by its status, an event of the history. */
import type { HistoryEvent, JobStatus } from "../../job.js";
import { attemptsOf } from "../../history/attempts.js";
import type { AttemptEvent } from "../../history/attempts.js";
import { shownLane } from "../scope.js";
import type { StoredJob } from "../store.js";
import type { buildJobs, jobEvents } from "../schema.js";

type Row = typeof buildJobs.$inferSelect;
/** The columns of a job that are told of it. */
type JobRow = Pick<Row, "id" | "chatId" | "messageId" | "chatSeq" | "priority" | "status" | "attempt" | "maxAttempts" | "createdAt" | "startedAt" | "completedAt" | "runAt" | "code" | "files" | "entry" | "options" | "result" | "warnings" | "externals" | "error" | "failure" | "supersededBy" | "copiedFrom"> & {
  position: number;
  chatPaused: boolean;
  chatReadyAt: string | null;
};
/** The same as the database's functions tell it: times as text, and the events of its attempts beside it; null when it had none. */
export type ToldJob = Omit<JobRow, Times> & Record<"createdAt" | "runAt", string> & Record<"startedAt" | "completedAt", string | null> & { attempts: AttemptEvent[] | null };
type Times = "createdAt" | "startedAt" | "completedAt" | "runAt";

export const toldJobs = (rows: ToldJob[], nowMs: number): StoredJob[] =>
  rows.map((row) => toJob(row, (row.attempts ?? []).map((event) => ({ ...event, at: iso(event.at) })), nowMs));

const iso = (at: Date | string): string => new Date(at).toISOString();
const isoOrNull = (at: Date | string | null): string | null => (at === null ? null : iso(at));

/**
 * What every read of jobs asks for; `code`, `files` and `result` are null in summaries. One literal and what its status adds:
 * each spread into a large object would cost a hundred times that on Node 20 (bench/README.md), and a page has up to two hundred.
 */
export function toJob(row: JobRow | ToldJob, events: AttemptEvent[], nowMs: number): StoredJob {
  const { chatId, tenant } = shownLane(row.chatId);
  const job = {
    id: row.id,
    chatId,
    messageId: row.messageId,
    chatSeq: row.chatSeq,
    priority: row.priority,
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    createdAt: iso(row.createdAt),
    code: row.code,
    files: row.files,
    entry: row.entry,
    options: row.options,
    warnings: row.warnings ?? [],
    externals: row.externals ?? [],
    attempts: attemptsOf(events),
    supersededBy: row.supersededBy,
    cached: row.copiedFrom !== null,
    cachedFrom: row.copiedFrom,
    startedAt: isoOrNull(row.startedAt),
    completedAt: isoOrNull(row.completedAt),
    result: null,
    error: null,
    failure: null,
    nextAttemptAt: null,
  };
  if (tenant !== undefined) Object.assign(job, { tenant });
  const startedAt = job.startedAt as string;
  const completedAt = job.completedAt as string;
  const runAt = iso(row.runAt);
  switch (row.status) {
    case "pending":
      return Object.assign(job, {
        status: "pending" as const, completedAt: null, nextAttemptAt: Date.parse(runAt) > nowMs ? runAt : null, queuePosition: row.position,
        chatPaused: row.chatPaused, chatReadyAt: row.chatReadyAt !== null && Date.parse(row.chatReadyAt) > nowMs ? row.chatReadyAt : null,
      });
    case "running":
      return Object.assign(job, { status: "running" as const, startedAt, completedAt: null });
    case "completed":
      // A summary leaves the result out; the type says that a completed job has one.
      return Object.assign(job, { status: "completed" as const, startedAt, completedAt, result: row.result as string });
    case "failed":
      if (!row.failure) throw new Error(`failed job ${row.id} has no failure`);
      return Object.assign(job, { status: "failed" as const, completedAt, error: row.error as string, failure: row.failure });
    default:
      return unknownStatus(row.status);
  }
}

function unknownStatus(status: never): never {
  throw new Error(`unknown status ${String(status satisfies JobStatus)}`);
}

export const toEvent = (row: typeof jobEvents.$inferSelect): HistoryEvent => ({ ...row, ...shownLane(row.chatId), at: row.at.toISOString() });
