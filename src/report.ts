/** Everything worth telling, as named facts. Code emits these; `log.ts` turns them into lines, `metrics` counts them. Never code, keys or paths. */
import type { FailureCode } from "./job.js";

export type Report =
  | { type: "job.accepted"; jobId: string; chatId: string; chatSeq: number; codeBytes: number }
  | { type: "attempt.started"; jobId: string; chatId: string; attempt: number; waitMs: number }
  | { type: "attempt.ended"; jobId: string; chatId: string; attempt: number; outcome: "completed" | "failed" | "retrying" | "released"; failureCode: FailureCode | null; runMs: number; quarantined: boolean }
  | { type: "outcome.refused"; jobId: string; chatId: string; attempt: number; fence: number }
  | { type: "outcome.waiting"; jobId: string; chatId: string; error: string }
  | { type: "runner.broken"; jobId: string; chatId: string; error: string }
  | { type: "lane.lost"; chatId: string; jobId: string; fence: number }
  | { type: "lane.returned"; chatId: string; jobId: string; reason: "draining" | "unknown" | "crashed" | "refused" }
  | { type: "lanes.rescued"; jobs: number; chatIds: string[] }
  | { type: "lease.lost"; lanes: number }
  | { type: "lease.renewed" }
  | { type: "database.away"; verb: string; error: string }
  | { type: "database.back" }
  | { type: "actor.crashed"; actorId: string; error: string }
  | { type: "queue.paused" }
  | { type: "queue.resumed" }
  | { type: "jobs.pruned"; jobs: number }
  | { type: "chat.erased"; jobs: number }
  | { type: "webhook.delivered"; chatId: string; number: number }
  | { type: "webhook.failed"; chatId: string; number: number; failures: number; reason: string; retryInMs: number }
  | { type: "webhook.gone"; silentMs: number }
  | { type: "webhook.claimLost"; chatId: string }
  | { type: "node.started"; nodeId: string; store: string; slots: number }
  | { type: "node.draining"; held: number }
  | { type: "node.stopped"; nodeId: string }
  | { type: "worker"; event: string; facts: Record<string, unknown> };

export type Reporter = (report: Report) => void;

/** An error's message for a log: first line, bounded. Anything may have been thrown, even what throws when it is read. */
export function messageOf(error: unknown): string {
  try {
    return (error instanceof Error ? String(error.message) : String(error)).split("\n")[0]?.slice(0, 300) ?? "";
  } catch {
    return "Something was thrown that cannot be written as text.";
  }
}
