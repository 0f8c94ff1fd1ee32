/** The queue as its users see it: the module's callers, the routes and the command line. `queue.ts` fulfils it. */
import type { AcceptedJob, BuildRequest, FinishedJob, HistoryEvent, Job, LiveItem } from "./job.js";
import type { Audit } from "./audit.js";
import type { ChatTokens } from "./chat-tokens.js";
import type { ActorsView } from "./inspect/actors.js";
import type { WireEvent } from "./inspect/stately.js";
import type { Keys } from "./keys.js";
import type { CallersTransaction, CancelAnswer, ChatPolicy, ChatState, ChatView, DeadLetterFilter, DeadLetterGroup, LanesRead, LaneView, ListRead, Output, Quarantined } from "./store/store.js";
import type { QueueStats } from "./store/reading.js";
import type { QueueSettings } from "./options.js";
import type { Why } from "./why.js";

export interface EnqueueOptions {
  /** The same key and request answers with the same job for 24 hours; another request is refused. */
  idempotencyKey?: string | undefined;
  /** The submitter's trace, as W3C Trace Context writes it; attempts become spans below it. What is not one is left out. */
  traceparent?: string | undefined;
  /**
   * The caller's own Drizzle transaction, on postgres.js or PGlite, of the database that the queue uses: the job exists
   * if and only if it commits. Until then its chat's other submitters wait for it. A refusal aborts the transaction.
   */
  tx?: CallersTransaction | undefined;
  /** Whether the commit sends one NOTIFY, so that a free node looks at once and not only at its next pulse (750 ms). Default true. */
  notify?: boolean | undefined;
}

export interface EventsOptions {
  /** A chat's event number; 0: all that is kept. */
  after?: number | undefined;
  /** Ends it, for who cannot leave the loop: while nothing happens it waits. */
  signal?: AbortSignal | undefined;
}

/** The large fields of jobs, left out unless asked for. */
export interface Include {
  code?: boolean | undefined;
  result?: boolean | undefined;
}

/** `limit`: 50 unless said, 200 at most. */
export interface ListQuery extends Omit<ListRead, "limit" | "include"> {
  limit?: number | undefined;
  include?: Include | undefined;
}

/** `limit`: 50 unless said, 200 at most. */
export interface LanesQuery extends Omit<LanesRead, "limit"> {
  limit?: number | undefined;
}

/** Jobs of one chat by status, estimates added. */
export type ChatJobs = { [K in keyof ChatView]: Job[] };

export type CancelResult = Extract<CancelAnswer, { kind: "cancelled" | "requested" | "already" }>["kind"];

/** The node of this process. */
export interface NodeView extends ActorsView {
  nodeId: string;
  quarantine: Quarantined[];
  /** Those that neither name a place nor hold a secret. */
  settings: Record<string, string | number | boolean>;
}

/** What may be done with jobs: those of one tenant, or everybody's. Whatever is outside is not there. */
export interface QueueView {
  /** Durable when it resolves. Rejects with BuildlaneError: validation_failed, payload_too_large, chat_queue_full, queue_full, rate_limited, idempotency_conflict, database_unavailable, database_busy, draining. */
  enqueue(request: BuildRequest, options?: EnqueueOptions): Promise<AcceptedJob & { replayed: boolean }>;
  /** All or nothing, in order; at most 1,000. Also batch_too_large. */
  enqueueMany(requests: BuildRequest[], options?: EnqueueOptions): Promise<{ jobs: AcceptedJob[]; replayed: boolean }>;

  /** Rejects with job_not_found. */
  get(id: string): Promise<Job>;
  output(id: string): Promise<Output>;
  /** Resolves when the job is final, with the job, however long that takes, outages of the database included. Rejects with job_not_found, or the signal's reason. */
  waitFor(id: string, options?: { signal?: AbortSignal }): Promise<FinishedJob>;
  chat(chatId: string, options?: { limit?: number | undefined; include?: Include | undefined }): Promise<ChatJobs>;
  /** Newest first. Rejects with validation_failed. */
  list(query?: ListQuery): Promise<{ jobs: Job[]; nextCursor: string | null }>;
  stats(): Promise<QueueStats>;

  /** `requested`: it runs and is being stopped. Rejects with job_not_found, already_final. */
  cancel(id: string): Promise<CancelResult>;
  /** Puts a failed job at the tail of its chat again. Rejects with job_not_found, not_failed. */
  retry(id: string): Promise<AcceptedJob>;
  deadLetters: {
    count(filter: DeadLetterFilter): Promise<number>;
    /** Those that failed alike, the largest group first. */
    groups(filter: DeadLetterFilter, limit?: number): Promise<DeadLetterGroup[]>;
    /** Redrives at most `limit` (1,000), oldest first; how many were. With a rate they start one after another so far apart. */
    redrive(filter: DeadLetterFilter, limit?: number, options?: { ratePerSecond?: number | undefined }): Promise<number>;
    discard(filter: DeadLetterFilter, limit?: number): Promise<number>;
  };

  /** Ends all unfinished jobs of a chat. Null when there is no such chat. `stopping`: the running one, which is being stopped. */
  cancelChat(chatId: string): Promise<{ cancelled: number; stopping: string | null } | null>;
  /** Null when there is no such chat. */
  chatState(chatId: string): Promise<ChatState | null>;
  /** Changes what is given; the whole policy. A chat may have one before its first job. Rejects with validation_failed. */
  setPolicy(chatId: string, policy: Partial<ChatPolicy>): Promise<ChatPolicy>;
  /**
   * Forgets a conversation: cancels its jobs, waits until the running one is stopped, then deletes jobs, code, results and
   * events for good; how many jobs were deleted, null when there is no such chat. Its numbers go on. Rejects with
   * chat_stopping when the running job could not be stopped in time: everything else is cancelled then, so ask again.
   */
  erase(chatId: string): Promise<{ jobs: number } | null>;
  /** Milliseconds by which the chat's rate limiter is ahead of now (GCRA's theoretical arrival time), 0 when it is not. */
  rateAheadMs(chatId: string): Promise<number>;

  pauseChat(chatId: string): Promise<boolean>;
  resumeChat(chatId: string): Promise<boolean>;

  /**
   * The chat's events after number `after`, then live ones as they come, until the signal aborts or the reader leaves: by a
   * `break`, or the iterator's `return()`. `reset` when numbers after `after` were removed already. Without `after`, a job's
   * begin with its first one, a chat's with the first of its oldest unfinished job, else now. Rejects, once it is read, with
   * job_not_found, or validation_failed for what names neither a chat nor a job.
   */
  events(which: { chatId: string; jobId?: undefined } | { jobId: string; chatId?: undefined }, options?: EventsOptions): AsyncIterable<HistoryEvent | "reset">;
  /**
   * The same with what is told live only: `job.moved` when a pending job's position or estimate changes. For `"all"`,
   * every chat's events: `reset` first, then live ones, with `queue.paused` and `queue.resumed`; nothing is replayed, and
   * a reader that lags behind gets `reset` and the end.
   */
  stream(which: "all" | { chatId: string; jobId?: undefined } | { jobId: string; chatId?: undefined }, options?: EventsOptions): AsyncIterable<LiveItem>;
  /** Why a job is not running. Rejects with job_not_found. */
  why(id: string): Promise<Why>;
  /** The lanes as a picture: those that need a person first. */
  lanes(query?: LanesQuery): Promise<{ lanes: LaneView[]; nextCursor: string | null }>;
}

/** The whole queue, trusted: it sees every tenant's jobs, submits to the default tenant, and is of one process. */
export interface BuildQueue extends QueueView, AsyncDisposable {
  readonly settings: QueueSettings;

  /** One tenant's jobs and chats; what it submits is its own. Throws BuildlaneError validation_failed for a name that is none. */
  forTenant(tenant: string): QueueView;
  /** One chat of a tenant, to be read and followed. */
  forChat(tenant: string, chatId: string): Pick<QueueView, "get" | "output" | "chat" | "chatState" | "events" | "stream">;
  /** API keys of the service. */
  readonly keys: Keys;
  /** Tokens with which a browser watches its own chat. */
  readonly chatTokens: ChatTokens;
  /** What operators did. */
  readonly audit: Audit;

  /** Code that killed workers or nodes, refused on all nodes by its hash. */
  readonly quarantine: {
    /** Newest first, at most `limit` (1,000). */
    list(limit?: number): Promise<Quarantined[]>;
    /** Lets the code run again; jobs that failed for it can be redriven then. Rejects with not_quarantined. */
    lift(hash: string): Promise<void>;
  };

  pause(): Promise<void>;
  resume(): Promise<void>;

  /**
   * What this node's actors do, in Stately's inspection wire format, without submitted code and what is made of it. Costs
   * nothing while nobody reads. Throws BuildlaneError not_found unless the option `inspect` is on.
   */
  inspect(options: { chatId?: string | undefined; tenant?: string | undefined; jobId?: string | undefined; sample?: number | undefined; signal: AbortSignal }): AsyncIterable<WireEvent>;
  /** The node of this process, as its actors stand. */
  node(): Promise<NodeView>;

  /** The embedded database as a gzipped tar, taken while it runs; `buildlane restore` brings it back. Rejects with no_backup on another store. */
  backUp(): Promise<ReadableStream<Uint8Array>>;

  /** Whether the node can accept: database reachable, not draining. */
  ready(): Promise<{ ready: boolean; draining: boolean; database: boolean }>;
  /** Whether this node stops. */
  readonly draining: boolean;
  /** Counts for /metrics that only this node knows. */
  readonly counters: Readonly<Record<string, number>>;
  /** Accepts and claims nothing more, waits for running builds, gives back what is left. Reads still work. Safe to call twice. */
  drain(): Promise<void>;
  /**
   * Drains, then closes the store. Whoever waits for a job is rejected then, event streams end, and every later call rejects, all with `draining`
   * ("This queue was stopped."). Safe to call twice.
   */
  stop(): Promise<void>;
}
