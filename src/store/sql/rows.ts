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
  rows.map(({ attempts, createdAt, startedAt, completedAt, runAt, ...row }) =>
    toJob(
      { ...row, createdAt: new Date(createdAt), startedAt: startedAt === null ? null : new Date(startedAt), completedAt: completedAt === null ? null : new Date(completedAt), runAt: new Date(runAt) },
      (attempts ?? []).map((event) => ({ ...event, at: new Date(event.at).toISOString() })),
      nowMs,
    ),
  );

/** What every read of jobs asks for; `code`, `files` and `result` are null in summaries. */
export function toJob(row: JobRow, events: AttemptEvent[], nowMs: number): StoredJob {
  const base = {
    id: row.id,
    ...shownLane(row.chatId),
    messageId: row.messageId,
    chatSeq: row.chatSeq,
    priority: row.priority,
    attempt: row.attempt,
    maxAttempts: row.maxAttempts,
    createdAt: row.createdAt.toISOString(),
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
  };
  const startedAt = row.startedAt?.toISOString() ?? null;
  const completedAt = row.completedAt?.toISOString() ?? null;
  const nothing = { result: null, error: null, failure: null, nextAttemptAt: null };
  switch (row.status) {
    case "pending":
      return { ...base, ...nothing, status: "pending", startedAt, completedAt: null, nextAttemptAt: row.runAt.getTime() > nowMs ? row.runAt.toISOString() : null, queuePosition: row.position, chatPaused: row.chatPaused, chatReadyAt: row.chatReadyAt !== null && Date.parse(row.chatReadyAt) > nowMs ? row.chatReadyAt : null };
    case "running":
      return { ...base, ...nothing, status: "running", startedAt: startedAt as string, completedAt: null };
    case "completed":
      // A summary leaves the result out; the type says that a completed job has one.
      return { ...base, ...nothing, status: "completed", startedAt: startedAt as string, completedAt: completedAt as string, result: row.result as string };
    case "failed":
      if (!row.failure) throw new Error(`failed job ${row.id} has no failure`);
      return { ...base, ...nothing, status: "failed", startedAt, completedAt: completedAt as string, error: row.error as string, failure: row.failure };
    default:
      return unknownStatus(row.status);
  }
}

function unknownStatus(status: never): never {
  throw new Error(`unknown status ${String(status satisfies JobStatus)}`);
}

export const toEvent = (row: typeof jobEvents.$inferSelect): HistoryEvent => ({ ...row, ...shownLane(row.chatId), at: row.at.toISOString() });
