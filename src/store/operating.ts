/** What people change, by route, module or command line (store.ts has the rules): jobs, chats, dead letters, the queue. */
import type { FailureCode, JobStatus } from "../job.js";
import type { Accepted, Stopping } from "./accepting.js";
import type { Scope } from "./scope.js";

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
  /** Names the group, in filters. */
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

export interface Operating {
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
}
