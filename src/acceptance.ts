/** The way in: requests become jobs, go to the store together with whatever arrives at the same moment, and are durable when the promise resolves. */
import type { Clock } from "./clock.js";
import { batchTooLarge, chatQueueFull, idempotencyConflict, jobsRemoved, queueFull, rateLimited, validationFailed } from "./errors.js";
import type { BuildRequest } from "./job.js";
import { limits } from "./options.js";
import type { QueueSettings } from "./options.js";
import type { EnqueueOptions } from "./queue-api.js";
import { isStorable, newJob, requestHash } from "./request.js";
import { traceOf } from "./tracing.js";
import { coalesce } from "./store/coalesce.js";
import { ofLane, tenantIn } from "./store/scope.js";
import type { Scope } from "./store/scope.js";
import { untilRoomMs } from "./store/store.js";
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, NewJob, Stopping, Store } from "./store/store.js";

/** The jobs have their lanes' keys as `chatId`. */
export interface Taken {
  jobs: Accepted[];
  replayed: boolean;
  /** Running jobs that were superseded. */
  stopping: Stopping[];
  /** This node has started all that it made ready. */
  isStarted: boolean;
}

/** What the store says of a group, and whether this node has started it with its acceptance. */
export interface Offered {
  answer: AcceptAnswer;
  isStarted: boolean;
}

export interface Acceptance {
  accept(scope: Scope, requests: BuildRequest[], options: EnqueueOptions | undefined, many: boolean): Promise<Taken>;
  idle(): Promise<void>;
}

interface Needs {
  /** To the store, by way of this node's slots. */
  accept(groups: AcceptGroup[], limits: AcceptLimits): Promise<Offered[]>;
  store: Pick<Store, "acceptWithin">;
  settings: QueueSettings;
  clock: Clock;
  /** Throws when nothing is accepted any more. */
  checkOpen(): void;
  /** Milliseconds after which one pending job of a full chat, or of the full queue, will probably have gone. */
  turnMs(): number;
}

/** Bytes of code, roughly, that one statement carries. */
const batchBytesMax = 4 * 1024 * 1024;

const bytesOf = ({ jobs }: AcceptGroup): number => jobs.reduce((sum, job) => sum + 500 + (job.code?.length ?? 0) + (job.files ? JSON.stringify(job.files).length : 0), 0);

export function createAcceptance({ accept, store, settings, clock, checkOpen, turnMs }: Needs): Acceptance {
  const acceptLimits: AcceptLimits = {
    agingMs: settings.agingMs,
    pendingPerChatMax: settings.maxPendingPerChat,
    pendingMax: settings.maxPending,
    rate: settings.rateLimit ? { burst: settings.rateLimit.burst, intervalMs: settings.rateLimit.intervalMs } : null,
  };
  const groups = coalesce<AcceptGroup, Offered>({
    send: (batch, alone) => accept(batch, { ...acceptLimits, patient: alone === "patiently" }),
    lanesOf: ({ jobs }) => [...new Set(jobs.map((job) => job.chatId))],
    weightOf: bytesOf,
    weightMax: batchBytesMax,
    isSolo: ({ jobs }) => jobs.some((job) => job.supersede !== null),
    keyOf: ({ idempotency }) => idempotency && JSON.stringify([idempotency.scope, idempotency.key]),
  });

  /** What could never be accepted, however long one waits. */
  function refuseImpossible(jobs: NewJob[]): void {
    // One alone fits every limit, and most come alone.
    if (jobs.length === 1) return;
    if (jobs.length > settings.maxPending) throw batchTooLarge("jobs", settings.maxPending);
    const perChat = new Map<string, number>();
    const leftPending = new Map<string, number>();
    for (const { chatId, supersede } of jobs) {
      perChat.set(chatId, (perChat.get(chatId) ?? 0) + 1);
      leftPending.set(chatId, supersede === null ? (leftPending.get(chatId) ?? 0) + 1 : 1);
    }
    if (Math.max(...leftPending.values()) > settings.maxPendingPerChat) throw batchTooLarge("jobs of one chat", settings.maxPendingPerChat);
    if (settings.rateLimit && Math.max(...perChat.values()) > settings.rateLimit.burst) throw batchTooLarge("jobs of one chat", settings.rateLimit.burst);
  }

  function accepted({ answer, isStarted }: Offered, key: string | undefined, count: number): Taken {
    switch (answer.kind) {
      case "accepted":
        return { jobs: answer.jobs, replayed: false, stopping: answer.stopping, isStarted };
      case "replayed":
        // Building again would break the key's promise, and there is nothing left to answer with.
        if (answer.jobs.length < count) throw jobsRemoved(key ?? "");
        return { jobs: answer.jobs, replayed: true, stopping: [], isStarted };
      case "chatQueueFull":
        throw chatQueueFull(ofLane(answer.chatId).chatId, settings.maxPendingPerChat, answer.chatPaused, untilRoomMs(answer, turnMs(), clock));
      case "queueFull":
        throw queueFull(settings.maxPending, turnMs());
      case "rateLimited":
        throw rateLimited(ofLane(answer.chatId).chatId, settings.rateLimit?.text ?? "", answer.retryAfterMs);
      case "idempotencyConflict":
        throw idempotencyConflict(key ?? "");
      default:
        return answer satisfies never;
    }
  }

  return {
    async accept(scope, requests, options, many) {
      checkOpen();
      if (!Array.isArray(requests) || requests.length === 0) throw validationFailed([{ path: "/jobs", message: "Expected at least one job." }]);
      if (requests.length > limits.batchJobsMax) throw batchTooLarge("jobs", limits.batchJobsMax);
      const key = options?.idempotencyKey;
      if (key !== undefined && (typeof key !== "string" || key.length === 0 || key.length > limits.idempotencyKeyCharsMax || !isStorable(key)))
        throw validationFailed([{ path: "/idempotencyKey", message: `Expected 1 to ${limits.idempotencyKeyCharsMax} characters.` }]);
      const jobs = requests.map((request, index) => ({ ...newJob(scope, request, settings, clock, many ? ["jobs", index] : []), traceparent: traceOf(options?.traceparent) }));
      refuseImpossible(jobs);
      const group = { jobs, idempotency: key === undefined ? null : { scope: tenantIn(scope), key, requestHash: requestHash(requests, many) } };
      const tx = options?.tx;
      if (tx === undefined) return accepted(await groups.add(group), key, jobs.length);
      // Past the coalescing: the caller's transaction, and nobody else's jobs, holds the lanes until it ends.
      if (!store.acceptWithin) throw new Error("The memory store has no transactions. Use PostgreSQL or PGlite to enqueue with tx.");
      const [answer] = await store.acceptWithin(tx, [group], { ...acceptLimits, turnMs: turnMs() }, options?.notify ?? true);
      return accepted({ answer: answer as AcceptAnswer, isStarted: false }, key, jobs.length);
    },
    idle: () => groups.idle(),
  };
}
