/** What people and programs read (store.ts has the rules): jobs, chats, figures, events, why nothing runs, the whole history. */
import type { History } from "../history/verify.js";
import type { FailureCode, HistoryEvent, Job, JobStatus, PendingJob } from "../job.js";
import type { Hold } from "./accepting.js";
import type { Scope } from "./scope.js";

/**
 * Chats of each kind, and dead letters, that figures count: more of them are said to be so many. Among lanes that were just
 * written each costs a look at its page: ten thousand were 3 to 5 ms of the database's time, two thousand are half of one.
 */
export const countedMax = 2_000;
/** Finished jobs, the latest, that spreads and averages are taken from. */
export const sampledMax = 500;
/** Lanes at the head of each line among which the longest wait is looked for. */
export const sampledLanesMax = 100;
/** Ends in the last minute: `counted` among the sampled; where all these ended in it, at their pace (over a second at least), and never more than ever ended. */
export const perMinute = (counted: number, spanMs: number, everEnded: number): number =>
  counted < sampledMax ? counted : Math.max(counted, Math.min(everEnded, Math.round((counted * 60_000) / Math.max(1000, spanMs))));

export interface ListRead {
  status?: JobStatus[] | undefined;
  chatId?: string | undefined;
  failureCode?: string | undefined;
  /** ISO bounds of `createdAt`, in the years 0001 to 9999. */
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
export type StoredPendingJob = Omit<PendingJob, "estimatedWaitTime" | "estimatedWaitTimeP90"> & Hold;

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
  /** Runs that ended in the last minute; where all that are sampled did, as many as at their pace. */
  finishedLastMinute: number;
  /** Milliseconds that a job which lacks nothing but a slot has waited at the most, since its acceptance or, if later, the end of its delay or backoff, or its redrive; null when there is none. */
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

/** With what the node that answers knows of itself. */
export interface QueueStats extends StoreStats {
  slots: number;
  /** The same, by the setting's name. */
  concurrency: number;
  /** It is stopping. */
  draining: boolean;
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
  /** The failed job for which its policy has paused it. */
  heldBy: string | null;
  /** Number of the chat's latest event: what is newer is not in here. */
  eventNumber: number;
  /** Pending jobs, those not listed included. */
  pending: number;
  nodeId: string | null;
  /** The latest finished ones, the running one, the first pending ones: in the order in which they ran and will run. */
  jobs: LaneJob[];
}

export interface LanesRead {
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

export interface Reading {
  get(scope: Scope, jobId: string): Promise<StoredJob | null>;
  /** Which of these jobs have ended or are not there. */
  ended(jobIds: string[]): Promise<string[]>;
  output(scope: Scope, jobId: string): Promise<Output | null>;
  /** Pending and running jobs whole up to `limit` each; finished ones the newest `limit`. */
  chat(scope: Scope, chatId: string, limit: number, include: { code: boolean; result: boolean }): Promise<ChatView>;
  list(scope: Scope, query: ListRead): Promise<{ jobs: StoredJob[]; nextCursor: string | null }>;
  /** Of one tenant: its own jobs and chats, and no nodes unless it is the default tenant. */
  stats(scope: Scope, now?: number): Promise<StoreStats>;
  /** Milliseconds by which the chat's rate limiter is ahead of now; 0 when it is not. */
  rateAheadMs(scope: Scope, chatId: string, now?: number): Promise<number>;
  why(scope: Scope, jobId: string, now?: number): Promise<WhyFacts | null>;
  /** The chat's first pending jobs in the order in which they will run. */
  places(scope: Scope, chatId: string, limit: number, now?: number): Promise<{ places: Place[]; paused: boolean }>;
  /** Lanes by how much they need a person (paused, delayed, at work or in line, idle), then by chat. */
  lanes(scope: Scope, query: LanesRead, now?: number): Promise<{ lanes: LaneView[]; nextCursor: string | null }>;
  /** The newest first. */
  quarantined(limit: number): Promise<Quarantined[]>;
  /** The chat's events after `after`, oldest first; those of one job when given. `floor`: the highest removed number; `tail`: the chat's latest, which may be read before the events. */
  events(scope: Scope, chatId: string, query: { after: number; limit: number; jobId?: string }): Promise<{ events: HistoryEvent[]; floor: number; tail: number }>;
  /** The number before the first event of the chat's oldest unfinished job; the latest number when all are finished. */
  eventStart(scope: Scope, chatId: string): Promise<number>;
  /** Events of all chats from `since` on (milliseconds since 1970), oldest first; one that was written for long before it was committed comes late. */
  news(query: { since: number; limit: number }, now?: number): Promise<News>;
  /** Reads everything that `src/history` judges, in one consistent view, however long it takes; valid until `read` is done. */
  readHistory<T>(read: (history: History) => Promise<T>): Promise<T>;
}
