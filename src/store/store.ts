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
import type { Accepting } from "./accepting.js";
import type { AccessStore } from "./access.js";
import type { CodeStore } from "./code.js";
import type { Operating } from "./operating.js";
import type { Reading } from "./reading.js";
import type { WebhookStore } from "./webhook.js";
import type { Working } from "./working.js";
export * from "./accepting.js";
export * from "./operating.js";
export * from "./reading.js";
export * from "./working.js";

/** A hint that something may be there: never needed, only faster. */
export type Hint = { kind: "ready" } | { kind: "chat"; chatId: string } | { kind: "cancel"; nodeId: string } | { kind: "paused" };

/** A lane was locked for too long, or its data was refused. Nothing was written: offer each alone. */
export class ContendedError extends Error {
  override readonly name = "ContendedError";
}

export interface Keep {
  ageMs: number;
  count: number;
  idempotencyMs: number;
  /** Finished jobs that one step removes, and events of chats that it looks at. */
  batch: number;
  /** Of the step before: events of chats are looked at from there on; absent: from the oldest. */
  cursor?: string | undefined;
}
export interface Pruned {
  jobs: number;
  chatEvents: number;
  /** The next step need not wait. */
  more: boolean;
  /** Absent when all old events of chats have been looked at. */
  cursor?: string;
}

export interface Store extends Accepting, Working, Operating, Reading {
  readonly kind: "memory" | "pglite" | "postgres";

  /**
   * Deletes finished jobs and their events beyond age or count, old events of chats themselves that later ones stand in for, old
   * crashes of code that is not quarantined, expired idempotency keys and rows of dead nodes; in small steps.
   */
  prune(keep: Keep, now?: number): Promise<Pruned>;

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
