/** How a claim and its times read as the database writes them; turns claim, and so do acceptances that start what they accept. */
import type { Claim } from "../store.js";

/** The database prints microseconds and its session's zone; callers get ISO with milliseconds. */
export const iso = (text: string): string => new Date(text).toISOString();

/** What has its usual value is left out: it is not worth its parsing. */
export type ClaimRow = Omit<Claim["job"], "code" | "files" | "entry"> & Pick<Claim, "spent" | "strikes" | "fence" | "startedAt"> & {
  code: string | null;
  files: Record<string, string> | null;
  entry: string | null;
  /** Whether no other job has its code; nothing where that was not asked. */
  isNovel?: boolean | null;
};

/** Name by name: on Node 20 a rest and two spreads cost as much as the statement's whole answer (bench/README.md). */
export function claimOf(row: ClaimRow, claimId: string): Claim {
  const { id, chatId, messageId, chatSeq, attempt, options, priority, maxAttempts, timeoutMs, traceparent, code, files, entry } = row;
  const job: Claim["job"] =
    files !== null && entry !== null
      ? { id, chatId, messageId, chatSeq, attempt, files, entry, options, priority, maxAttempts, timeoutMs, traceparent }
      : { id, chatId, messageId, chatSeq, attempt, code: code ?? "", options, priority, maxAttempts, timeoutMs, traceparent };
  return { job, spent: row.spent, strikes: row.strikes, fence: row.fence, claimId, startedAt: row.startedAt && iso(row.startedAt) };
}
