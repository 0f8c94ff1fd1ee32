/** What the way in asks of the store (store.ts has the rules): jobs become rows, numbered under their lanes' locks. */
import type { Clock } from "../clock.js";
import type { AcceptedJob, BuildOptions, Supersede } from "../job.js";
import type { Claim, StartRequest } from "./working.js";

/** A job as it is offered for acceptance; validated, with every default filled in. */
export interface NewJob {
  id: string;
  chatId: string;
  messageId: string;
  code: string | null;
  files: Record<string, string> | null;
  entry: string | null;
  options: BuildOptions;
  /** SHA-256 of code, files, entry and options, hexadecimal. */
  codeHash: string;
  priority: number;
  maxAttempts: number;
  timeoutMs: number;
  /** The submitter's trace. */
  traceparent?: string | null | undefined;
  delayMs: number;
  /** Ends the chat's older jobs as `superseded`: pending ones at once; with `running` the running one is stopped too. */
  supersede: Supersede | null;
}

/** Jobs that are accepted all or none, in their order. */
export interface AcceptGroup {
  jobs: NewJob[];
  /** The same scope and key with the same hash answers with the jobs of the first time. */
  idempotency: { scope: string; key: string; requestHash: string } | null;
}

export interface AcceptLimits {
  agingMs: number;
  pendingPerChatMax: number;
  /** Pending jobs of the whole queue: exact for one node, and over nodes within what they accept at the same moment. */
  pendingMax: number;
  /** Null: no rate limit. GCRA: `burst` at once, then one each `intervalMs`, per chat. */
  rate: { burst: number; intervalMs: number } | null;
  /** What one job of a full chat, or of the full queue, takes; for a refusal within a caller's transaction. Default 1000. */
  turnMs?: number;
  /** Waits for a lane that somebody holds, rather than rejecting with ContendedError. */
  patient?: boolean;
}

/** A caller's own Drizzle transaction, of whichever copy of Drizzle. */
export interface CallersTransaction {
  execute(query: never): PromiseLike<unknown>;
}
/** A caller's own Drizzle database, over postgres.js or PGlite. */
export interface CallersDatabase {
  readonly $client: unknown;
}

/** What keeps all of a chat from starting. */
export interface Hold {
  chatPaused: boolean;
  /** While its first job is delayed or backs off: until when, ISO. It holds its place, so nobody starts before. */
  chatReadyAt: string | null;
}
/** Where a pending job stands; what an estimate of its wait is made of. */
export type Standing = Hold & { queuePosition: number; /** ISO; null when nothing of its own keeps it. */ nextAttemptAt: string | null };

export type Accepted = Pick<AcceptedJob, "id" | "chatId" | "messageId" | "chatSeq" | "status" | "createdAt"> & Standing;

/** Nobody knows when a person resumes what is paused. */
export const pausedRetryMs = 60_000;
/** When to offer again what a full chat had no room for, milliseconds; `turnMs`: what one job of it takes. */
export const untilRoomMs = ({ chatPaused, chatReadyAt }: Hold, turnMs: number, clock: Pick<Clock, "now">): number =>
  chatPaused ? pausedRetryMs : Math.max(turnMs, chatReadyAt === null ? 0 : Date.parse(chatReadyAt) - clock.now());

export interface Stopping {
  chatId: string;
  jobId: string;
  nodeId: string;
}

export type AcceptAnswer =
  /** `stopping`: running jobs that were superseded; their holders must stop them. */
  | { kind: "accepted"; jobs: Accepted[]; stopping: Stopping[] }
  | { kind: "replayed"; jobs: Accepted[] }
  | ({ kind: "chatQueueFull"; chatId: string } & Hold)
  | { kind: "queueFull" }
  | { kind: "rateLimited"; chatId: string; retryAfterMs: number }
  | { kind: "idempotencyConflict" };

export interface Accepting {
  /**
   * Accepts groups of jobs: numbers them under their lanes' locks, writes jobs and `job.accepted` events, all in one
   * step. Groups are independent: one that is refused does not hinder the others. No two of one call have the same
   * idempotency key, and one that supersedes shares its chats with no other.
   */
  accept(groups: AcceptGroup[], limits: AcceptLimits, now?: number): Promise<AcceptAnswer[]>;

  /**
   * The same, and in the same step what a turn of this node would claim then: a job that need not wait starts with its
   * acceptance. Claims nothing unless every group is accepted anew.
   */
  acceptAndStart(groups: AcceptGroup[], limits: AcceptLimits, start: StartRequest, now?: number): Promise<{ answers: AcceptAnswer[]; claims: Claim[] }>;

  /**
   * The same as accept inside the caller's own Drizzle transaction: the jobs exist if and only if it commits. Rejects with
   * BuildlaneError when a group is refused. With `notify` nodes hear of them at the commit, not only at their next
   * pulse. Absent where the store has no transactions.
   */
  acceptWithin?(tx: CallersTransaction, groups: AcceptGroup[], limits: AcceptLimits, notify: boolean): Promise<AcceptAnswer[]>;
}
