/**
 * The store: a handful of verbs behind which all state lives. Three implementations keep this contract (memory,
 * PGlite, PostgreSQL) and pass one suite, `test/store/exercise-store.ts`.
 *
 * Rules that hold for every verb:
 * - On the side of the work `chatId` is the lane's key (scope.ts). Verbs for people take a Scope first, and the plain chat
 *   id; what is outside the scope is unknown to them, in SQL already, and what they show has the plain chat id.
 * - Whoever changes a lane or its jobs holds the lane's lock meanwhile; several lanes are locked in order of chat id.
 * - Every transition writes one event with the chat's next number, in the same atomic step.
 * - Times come from the database's clock unless `now` (milliseconds since 1970) is given, as tests do.
 * - When a promise resolves, what it says is durable.
 * - Every promise settles in bounded time. Verbs reject with BuildlaneError `database_unavailable` when the database is
 *   away, and with `chat_busy` when a lane was held by somebody else's transaction for too long. `accept` and `turn`,
 *   unless they are told to be patient, wait for no lane: they reject with ContendedError, nothing was written, and the
 *   caller offers each alone and patiently. Everything else that may happen is a member of the answer's union.
 * - An accept whose answer was lost is asked again; its ids tell whether the jobs are there.
 *
 * The order of work. Inside a chat: pending jobs by `rank`, then `place` (rank = acceptedAt − priority × agingMs).
 * A head that is delayed or backing off holds its place, so the chat waits. Between chats: lanes whose head may run
 * stand in line by `turn_at`, the latest of the head's rank, its `run_at` and the end of the lane's latest
 * attempt; so a lane that was served goes behind all that wait, and a priority overtakes by a bounded time. Each tenant
 * has a line of its own, and of several tenants that wait each gets starts by its weight.
 */
import type { AccessStore } from "./access.js";
import type { WebhookStore } from "./webhook.js";
import type { CodeStore } from "./code.js";
import type { CheckedEvent, CheckedJob, CheckedLane } from "../history/check.js";
import type { Scope } from "./scope.js";
import type { AcceptedJob, BuildOptions, Failure, FailureCode, HistoryEvent, Job, JobStatus, PendingJob, RunnableJob, Diagnostic, Supersede, Origin } from "../job.js";

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

export type Accepted = Pick<AcceptedJob, "id" | "chatId" | "messageId" | "chatSeq" | "status" | "queuePosition" | "createdAt">;

export interface Stopping {
  chatId: string;
  jobId: string;
  nodeId: string;
}

export type AcceptAnswer =
  /** `stopping`: running jobs that were superseded; their holders must stop them. */
  | { kind: "accepted"; jobs: Accepted[]; stopping: Stopping[] }
  | { kind: "replayed"; jobs: Accepted[] }
  | { kind: "chatQueueFull"; chatId: string }
  | { kind: "queueFull" }
  | { kind: "rateLimited"; chatId: string; retryAfterMs: number }
  | { kind: "idempotencyConflict" };

export type StartRequest = Pick<TurnRequest, "nodeId" | "claimId" | "want">;

/** Chats of each kind, and dead letters, that figures count: more of them are said to be so many. */
export const countedMax = 10_000;

/** What a claim gives a node: the right to run one attempt, guarded by node, fence and claim id. */
export interface Claim {
  job: RunnableJob & { priority: number; maxAttempts: number; timeoutMs: number };
  /** Attempts that cost one, before this one. */
  spent: number;
  /** Time-outs and memory kills before this attempt; one is forgiven. */
  strikes: number;
  fence: number;
  claimId: string;
  startedAt: string;
}

/** How an attempt ends, with everything that proves it is still ours. */
export interface Ending {
  jobId: string;
  chatId: string;
  attempt: number;
  fence: number;
  claimId: string;
  /** How long the run itself took, by the node's clock; the rest of the attempt is settling. Absent: it never ran to an end. */
  runMs?: number | undefined;
  end:
    | { kind: "completed"; result: string; sourceMap: string | null; warnings: Diagnostic[]; externals: string[]; origin?: Origin | undefined }
    | { kind: "failed"; failure: Failure; error: string; blameless?: boolean; origin?: Origin | undefined }
    /** `blameless`: the machinery failed, not the code, so it counts for no quarantine. */
    | { kind: "retrying"; failure: Failure; error: string; delayMs: number; blameless?: boolean }
    /** Given back by a clean stop; costs no attempt. */
    | { kind: "released" };
}

export type Settled =
  /** The guard did not hold: somebody else has the lane, or the outcome was recorded before. Nothing was written. */
  | { kind: "notMine"; jobId: string }
  | {
      kind: "settled";
      jobId: string;
      chatId: string;
      /** May differ from what was offered: a requested cancel wins, and a quarantined code is not tried again. */
      status: JobStatus;
      /** ISO; when a pending job may run again. */
      runAt: string | null;
      quarantined: boolean;
      /** Of the attempt; null when it was built or given back. A requested cancel may have put another in its place. */
      failureCode: FailureCode | null;
    };

export interface TurnRequest {
  nodeId: string;
  /** Made by the node for this call, never used again. */
  claimId: string;
  endings: Ending[];
  /** Lanes wanted, at most. */
  want: number;
  /** Lease losses of one job after which it fails as `node_lost`. */
  nodeLossesMax?: number;
  /** Waits for a lane that somebody holds, rather than rejecting with ContendedError. */
  patient?: boolean;
}
export interface TurnAnswer {
  /** In the order of the endings. */
  settled: Settled[];
  claims: Claim[];
}

export interface PulseRequest {
  nodeId: string;
  leaseMs: number;
  slots: number;
  draining: boolean;
  /** Attempts that may run over all nodes; null: as many as there are slots. The lowest of living nodes is in force from this pulse on. */
  clusterCap?: number | null;
}
export interface PulseAnswer {
  /** Everything this node holds by the store's word: compare, and stop what is not in it. */
  held: { chatId: string; jobId: string; attempt: number; fence: number; claimId: string; cancelRequested: boolean }[];
  queuePaused: boolean;
  /** Milliseconds from now until the earliest delayed head may run; null when there is none. */
  nextReadyInMs: number | null;
  /** Lanes that could be claimed now. */
  readyLanes: number;
  /** Milliseconds until the earliest lease of another node that holds lanes ends; ≤ 0: over already; null: none. */
  nextLeaseEndInMs: number | null;
  /** Pending jobs of the whole queue. */
  pending: number;
}

export interface Rescued {
  jobId: string;
  chatId: string;
  /** `failed` when it lost too many nodes, or its cancel had been requested. */
  status: "pending" | "failed";
}

export type CancelAnswer =
  | { kind: "cancelled"; chatId: string }
  /** It runs; its holder must stop it. `nodeId` holds it. */
  | { kind: "requested"; chatId: string; nodeId: string }
  | { kind: "already" }
  | { kind: "final"; status: "completed" | "failed" }
  | { kind: "unknown" };

export type RedriveAnswer = { kind: "redriven"; job: Accepted } | { kind: "notFailed"; status: JobStatus } | { kind: "unknown" };

/** How a chat's order deals with failures. */
export interface ChatPolicy {
  /** `yield`: later jobs pass one that backs off; it stands then where one accepted at the end of its backoff would. */
  whileRetrying: "block" | "yield";
  /** `hold`: a job that failed for good pauses its chat, until that is resumed or the job redriven. */
  afterFailure: "skip" | "hold";
}
export const chatPolicies = { whileRetrying: ["block", "yield"], afterFailure: ["skip", "hold"] } as const;

export interface ChatState {
  paused: boolean;
  /** The failed job for which it is paused. */
  heldBy: string | null;
  policy: ChatPolicy;
}

export type CancelChatAnswer =
  /** How many pending jobs were cancelled; the running one is to be stopped by its holder. */
  { kind: "done"; cancelled: number; stopping: Stopping | null } | { kind: "unknown" };

export type EraseAnswer =
  | { kind: "erased"; jobs: number }
  /** Everything else is cancelled; ask again when this one is gone. */
  | { kind: "stopping"; stopping: Stopping }
  | { kind: "unknown" };

/** Which dead letters are meant; all filters together. */
export interface DeadLetterFilter {
  ids?: string[] | undefined;
  chatId?: string | undefined;
  failureCode?: string | undefined;
  /** Of a group. */
  fingerprint?: string | undefined;
}

/** Dead letters that failed alike. */
export interface DeadLetterGroup {
  fingerprint: string;
  failureCode: FailureCode;
  /** Of the latest of them. */
  message: string;
  count: number;
  chats: number;
  /** ISO; when the first and the latest of them failed. */
  firstAt: string;
  latestAt: string;
  /** Ids of the latest, a few. */
  examples: string[];
}
/** Groups are made of so many of the latest dead letters. */
export const groupedMax = 10_000;
export const groupExamplesMax = 3;

export interface ListQuery {
  status?: JobStatus[] | undefined;
  chatId?: string | undefined;
  failureCode?: string | undefined;
  /** ISO bounds of `createdAt`. */
  createdAfter?: string | undefined;
  createdBefore?: string | undefined;
  deadLetters?: boolean | undefined;
  /** Dead letters of a group. */
  fingerprint?: string | undefined;
  limit: number;
  /** From the page before. */
  cursor?: string | undefined;
  include: { code: boolean; result: boolean };
}

/** Estimates are added above the store, which tells what they need. */
export type StoredPendingJob = Omit<PendingJob, "estimatedWaitTime" | "estimatedWaitTimeP90"> & { chatPaused: boolean; /** While the chat's first job is delayed or backs off: until when, ISO. It holds its place, so nobody starts before. */ chatReadyAt: string | null };
export type StoredJob = StoredPendingJob | Exclude<Job, { status: "pending" }>;

export interface ChatView {
  /** In the order in which they will run. */
  pending: StoredJob[];
  running: StoredJob[];
  /** Newest first. */
  completed: StoredJob[];
  failed: StoredJob[];
}

/** Distribution of the latest finished jobs, in milliseconds. */
export interface Spread {
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface StoreStats {
  totalQueued: number;
  totalRunning: number;
  /** Ever completed; retention does not lower it. */
  totalCompleted: number;
  totalFailed: number;
  /** Milliseconds, over the latest finished jobs; 0 when there are none. */
  averageProcessingTime: number;
  /** completed / (completed + failed) over the latest finished jobs, 0 … 1; null when there are none. */
  successRate: number | null;
  processing: Spread & { p90: number | null };
  waiting: Spread;
  /** Jobs finished in the last 60 s, at most the sample's size. */
  finishedLastMinute: number;
  /** Milliseconds since the acceptance of the job that has waited longest; null when nothing waits. */
  oldestWaitMs: number | null;
  /** Lanes with unfinished jobs. */
  activeChats: number;
  /** Lanes whose head could run now, were there a slot. */
  waitingChats: number;
  deadLetters: number;
  queuePaused: boolean;
  /** Builds that may run at once over all nodes, by the cap in force; null: as many as there are slots, or asked by a tenant. */
  clusterCap: number | null;
  nodes: { id: string; slots: number; running: number; draining: boolean; startedAt: string; alive: boolean }[];
}

/** What keeps a job from running, as read at one moment; `src/why.ts` makes an answer of it. */
export interface WhyFacts {
  id: string;
  chatId: string;
  tenant?: string;
  status: JobStatus;
  attempt: number;
  startedAt: string | null;
  completedAt: string | null;
  failureCode: FailureCode | null;
  /** Who runs it. */
  nodeId: string | null;
  queuePosition: number;
  /** The job at the front of its chat: the running one, else the first pending one; null when that is this job, or it waits no more. */
  front: { id: string; chatSeq: number; status: "pending" | "running"; attempt: number; nextAttemptAt: string | null } | null;
  nextAttemptAt: string | null;
  chatPaused: boolean;
  /** The failed job for which the chat is paused. */
  heldBy: string | null;
  queuePaused: boolean;
  /** Lanes that stand before this chat's in the line, when it stands there. */
  lanesAhead: number;
  /** Nodes whose lease holds, those of them that claim, their slots that the cluster's cap allows, and running builds. */
  nodes: { alive: number; claiming: number; slots: number; running: number };
}

/** A pending job's place, and since when it may run. */
export interface Place {
  id: string;
  chatSeq: number;
  attempt: number;
  queuePosition: number;
  nextAttemptAt: string | null;
}

/** A job as its lane shows it. */
export interface LaneJob {
  id: string;
  chatSeq: number;
  messageId: string;
  status: JobStatus;
  attempt: number;
  maxAttempts: number;
  priority: number;
  createdAt: string;
  startedAt: string | null;
  completedAt: string | null;
  /** While pending: when a delayed or backing-off job may start. */
  nextAttemptAt: string | null;
  failureCode: FailureCode | null;
}

export interface LaneView {
  chatId: string;
  tenant?: string;
  state: "idle" | "ready" | "delayed" | "paused" | "running";
  paused: boolean;
  /** Number of the chat's latest event: what is newer is not in here. */
  eventNumber: number;
  /** Pending jobs, those not listed included. */
  pending: number;
  nodeId: string | null;
  /** The latest finished ones, the running one, the first pending ones: in the order in which they ran and will run. */
  jobs: LaneJob[];
}

export interface LanesQuery {
  /** Just these (for everyone: lane keys); else all lanes with unfinished jobs and those that finished some lately. */
  chatIds?: string[] | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** Jobs that one lane shows at most: finished ones, and pending ones. */
export const laneFinishedMax = 6;
export const lanePendingMax = 12;
/** Among so many of the latest finished jobs idle lanes are looked for. */
export const laneLatestMax = 300;

/** Code that is refused everywhere, by its hash. */
export interface Quarantined {
  codeHash: string;
  cause: FailureCode;
  crashes: number;
  quarantinedAt: string;
}

/** What is new in all chats. */
export interface News {
  /** In order within each chat. */
  events: HistoryEvent[];
  /** The store's time, milliseconds since 1970. */
  now: number;
  queuePaused: boolean;
}

export interface Output {
  status: JobStatus;
  result: string | null;
  sourceMap: string | null;
}

/** The whole history as it was at one moment; pages, so that a reader's memory is bounded. Valid inside `readHistory` only. */
export interface HistorySnapshot {
  /** By chat id, as bytes. */
  lanes(): AsyncIterable<CheckedLane[]>;
  /** By chat, then number; or by time, then chat and number. */
  events(order: "chat" | "time"): AsyncIterable<CheckedEvent[]>;
  /** By chat, then chatSeq. */
  jobs(): AsyncIterable<CheckedJob[]>;
  /** Slots of the nodes that are known now. */
  slots: ReadonlyMap<string, number>;
  /** The cap of running attempts over all nodes, when all known nodes were given the same; null: none, or not the same. */
  clusterMax: number | null;
  /** The aging that the jobs with a priority were accepted with; null when it changed meanwhile or none has one. */
  agingMs: number | null;
}

/** A hint that something may be there: never needed, only faster. */
export type Hint = { kind: "ready" } | { kind: "chat"; chatId: string } | { kind: "cancel"; nodeId: string } | { kind: "paused" };

/** A lane was locked for too long, or its data was refused. Nothing was written: offer each alone. */
export class ContendedError extends Error {
  override readonly name = "ContendedError";
}

export interface Store {
  readonly kind: "memory" | "pglite" | "postgres";

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

  /**
   * One turn of the slots. Records endings whose guard holds (job, attempt, node, fence, claim id, status `running`),
   * puts their lanes back in line, then claims up to `want` lanes from the head of the line and starts their heads.
   * Claims nothing while the queue is paused or when the node's lease is over, and no more than the cluster's cap allows.
   */
  turn(request: TurnRequest, now?: number): Promise<TurnAnswer>;

  /** Renews the node's lease (registering it at the first time) and tells what a node must know. */
  pulse(request: PulseRequest, now?: number): Promise<PulseAnswer>;

  /** Takes the lanes of nodes whose lease is over back into line; their attempts cost nothing. At most `limit` lanes. */
  rescue(request: { nodeId: string; nodeLossesMax: number; limit: number }, now?: number): Promise<Rescued[]>;

  /**
   * A node's clean stop: what it still holds goes back in line at once, at the cost of no attempt and as no loss of a
   * node, and its lease ends. A turn of its own that comes later claims nothing.
   */
  leave(request: { nodeId: string }, now?: number): Promise<void>;

  /** Ends the lease of one node, or that of every other node (embedded directory, held alone): as if they had died. */
  endLeases(which: { nodeId: string } | { exceptNodeId: string }, now?: number): Promise<void>;

  cancel(scope: Scope, jobId: string, now?: number): Promise<CancelAnswer>;

  /** Puts a failed job at the tail of its chat again, with fresh attempts. */
  redrive(scope: Scope, jobId: string, limits: { agingMs: number; /** Before it may start; it holds its place meanwhile. */ delayMs?: number }, now?: number): Promise<RedriveAnswer>;
  /** Dead letters that match, at most `limit`; ids by age. */
  deadLetterIds(scope: Scope, filter: DeadLetterFilter, limit: number): Promise<string[]>;
  /** Dead letters that failed alike, the largest group first. */
  deadLetterGroups(scope: Scope, filter: DeadLetterFilter, limit: number): Promise<DeadLetterGroup[]>;
  countDeadLetters(scope: Scope, filter: DeadLetterFilter): Promise<number>;
  /** Drops jobs from the dead letters (they stay readable as failed jobs); how many. */
  discard(scope: Scope, jobIds: string[], now?: number): Promise<number>;

  /** How starts are shared between tenants that wait; those not named weigh 1. Holds on all nodes until the next call. */
  weighTenants(weights: Readonly<Record<string, number>>): Promise<void>;

  setQueuePaused(paused: boolean, now?: number): Promise<void>;
  /** False when there is no such chat. */
  setChatPaused(scope: Scope, chatId: string, paused: boolean, now?: number): Promise<boolean>;
  /** Changes what is given, of a chat that may have no jobs yet; the whole policy. */
  setPolicy(scope: Scope, chatId: string, policy: Partial<ChatPolicy>, now?: number): Promise<ChatPolicy>;
  /** Null when there is no such chat. */
  chatState(scope: Scope, chatId: string): Promise<ChatState | null>;
  /** Cancels all unfinished jobs of a chat. */
  cancelChat(scope: Scope, chatId: string, now?: number): Promise<CancelChatAnswer>;
  /** Cancels, then deletes jobs and events of a chat for good; its lane stays, without policy and pause, and its numbers go on. */
  erase(scope: Scope, chatId: string, now?: number): Promise<EraseAnswer>;

  /** Milliseconds by which the chat's rate limiter is ahead of now; 0 when it is not. */
  rateAheadMs(scope: Scope, chatId: string, now?: number): Promise<number>;

  get(scope: Scope, jobId: string): Promise<StoredJob | null>;
  output(scope: Scope, jobId: string): Promise<Output | null>;
  /** Pending and running jobs whole up to `limit` each; finished ones the newest `limit`. */
  chat(scope: Scope, chatId: string, limit: number, include: { code: boolean; result: boolean }): Promise<ChatView>;
  list(scope: Scope, query: ListQuery): Promise<{ jobs: StoredJob[]; nextCursor: string | null }>;
  /** Of one tenant: its own jobs and chats, and no nodes unless it is the default tenant. */
  stats(scope: Scope, now?: number): Promise<StoreStats>;

  /** The chat's events after `after`, oldest first; those of one job when given. `floor`: the highest removed number. */
  events(scope: Scope, chatId: string, query: { after: number; limit: number; jobId?: string }): Promise<{ events: HistoryEvent[]; floor: number }>;
  /** The number before the first event of the chat's oldest unfinished job; the latest number when all are finished. */
  eventStart(scope: Scope, chatId: string): Promise<number>;

  /** Events of all chats from `since` on (milliseconds since 1970), oldest first; one that was written for long before it was committed comes late. */
  news(query: { since: number; limit: number }, now?: number): Promise<News>;
  /** The chat's first pending jobs in the order in which they will run. */
  places(scope: Scope, chatId: string, limit: number, now?: number): Promise<{ places: Place[]; paused: boolean }>;
  /** The newest first. */
  quarantined(limit: number): Promise<Quarantined[]>;
  why(scope: Scope, jobId: string, now?: number): Promise<WhyFacts | null>;
  /** Lanes by how much they need a person (paused, delayed, at work or in line, idle), then by chat. */
  lanes(scope: Scope, query: LanesQuery, now?: number): Promise<{ lanes: LaneView[]; nextCursor: string | null }>;

  /** Reads everything that `src/history` judges, in one consistent view, however long it takes. */
  readHistory<T>(read: (snapshot: HistorySnapshot) => Promise<T>): Promise<T>;

  /** Deletes finished jobs and their events beyond age or count, expired idempotency keys and rows of dead nodes; in small steps. */
  prune(keep: { ageMs: number; count: number; idempotencyMs: number; batch: number }, now?: number): Promise<{ jobs: number; more: boolean }>;

  /** Tells other nodes, and this one's listeners. Never throws, never waited for. */
  hint(hint: Hint): void;
  onHint(listener: (hint: Hint) => void): () => void;

  /** What is known of code by its hash. */
  readonly code: CodeStore;

  /** Keys, secrets and what operators did. */
  readonly access: AccessStore;

  /** How far the webhook has told each chat's history. */
  readonly webhook: WebhookStore;

  /** The whole database as a gzipped tar, taken while it runs. Absent where the database has tools of its own, or keeps nothing. */
  backUp?(): Promise<ReadableStream<Uint8Array>>;

  /** Whether the database answers. */
  ping(): Promise<boolean>;
  close(): Promise<void>;
}
