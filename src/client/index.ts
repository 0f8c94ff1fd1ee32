/**
 * A client for a running service: `fetch` and server-sent events, in Node and in the browser, without the server's code.
 *
 *     const client = createClient({ url: "http://127.0.0.1:3001" });
 *     const job = await client.submit({ chatId: "c1", messageId: "m1", code: 'console.log("hi")' });
 *     const done = await client.waitFor(job.id);
 *
 * Submitting is safe to try again: each submission has an idempotency key, and is offered again when no answer came, or none that says whether it was accepted.
 */
import type { AcceptedJob, BuildRequest, FailureCode, FinishedJob, Job, JobBase, JobStatus } from "../job.js";
import type { OperatorAction } from "../store/access.js";
import type { ChatPolicy, ChatState, DeadLetterGroup } from "../store/operating.js";
import type { Quarantined, QueueStats } from "../store/reading.js";
import type { Why } from "../why.js";
import { follow, pause, pauseMsAfter } from "./events.js";
import type { StreamEvent } from "./events.js";
import { ClientError, createRequests } from "./request.js";
import type { Answer, Call, CallOptions, ClientOptions } from "./request.js";

export { ClientError } from "./request.js";
export type { CallOptions, ClientOptions } from "./request.js";
export type { StreamEvent } from "./events.js";
export type { AcceptedJob, Attempt, BuildOptions, BuildRequest, CompletedJob, Diagnostic, FailedJob, Failure, FailureCode, FinishedJob, Job, JobStatus, PendingJob, RunningJob } from "../job.js";
export type { OperatorAction } from "../store/access.js";
export type { ChatPolicy, ChatState, DeadLetterGroup } from "../store/operating.js";
export type { Quarantined, QueueStats } from "../store/reading.js";
export type { Why, WhyReason } from "../why.js";

export interface SubmitOptions extends CallOptions {
  /** The same key and request answers with the same job for 24 hours. One is made unless given. */
  idempotencyKey?: string | undefined;
}
/** Of what an operator does. */
export interface OperatingOptions extends CallOptions {
  /** Why, for the audit log: up to 500 characters of it are kept. */
  reason?: string | undefined;
}
/** A job in a list: `code`, `files` and `result` only when they were asked for. */
export type JobSummary = Omit<JobBase, "code" | "files"> & Pick<Job, "status" | "startedAt" | "completedAt" | "error" | "failure" | "nextAttemptAt"> & Partial<Pick<Job, "code" | "files" | "result">>;
export interface Page {
  jobs: JobSummary[];
  nextCursor: string | null;
}
export interface ListOptions {
  status?: JobStatus[] | undefined;
  chatId?: string | undefined;
  failureCode?: FailureCode | undefined;
  createdAfter?: string | undefined;
  createdBefore?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
  include?: ("code" | "result")[] | undefined;
}
export interface Chat {
  pending: JobSummary[];
  running: JobSummary[];
  completed: JobSummary[];
  failed: JobSummary[];
}
/** Of the node that answers; a node that is not ready rejects instead. */
export interface Health {
  status: "ok";
  version: string;
  uptimeMs: number;
  database: boolean;
  draining: boolean;
  queue: Pick<QueueStats, "totalQueued" | "totalRunning" | "slots" | "queuePaused"> & { /** Nodes alive. */ nodes: number };
}
/** Which dead letters are meant: these, or all that match. */
export type DeadLetters = ({ ids: string[] } | { filter: { chatId?: string | undefined; failureCode?: FailureCode | undefined; fingerprint?: string | undefined } }) & { limit?: number | undefined; reason?: string | undefined };

export interface ApiKey {
  /** The public part of the key's own text. */
  id: string;
  name: string;
  /** Empty: no tenant's; `*`: sees every tenant's jobs. */
  tenant: string;
  scopes: ("submit" | "read" | "operate" | "admin")[];
  createdAt: string;
  expiresAt: string | null;
  revokedAt: string | null;
}
export type NewApiKey = ApiKey & { key: string };

const withReason = ({ reason, signal }: OperatingOptions): Call => ({ signal, headers: reason === undefined ? {} : { "buildlane-reason": asHeader(reason) } });
/** A header takes bytes, and neither line breaks nor other controls: any text goes as UTF-8. */
const asHeader = (text: string): string => String.fromCharCode(...new TextEncoder().encode(text.slice(0, reasonCharsMax).replace(/\p{Cc}+/gu, " ")));
const reasonCharsMax = 500;

/** How often a submission is offered when it is not known to be refused, and the pause between. */
const submitTries = 4;
const submitPauseMs = 300;
/** A moment's trouble of the service; a limit that was met, on the other hand, is told at once. */
const passing = new Set<ClientError["code"]>(["unreachable", "timed_out", "draining", "database_unavailable", "database_busy", "chat_busy"]);
/** Of a proxy, too, whose service is away for a moment. */
const isPassing = (error: unknown): boolean => error instanceof ClientError && (passing.has(error.code) || (error.code === "not_buildlane" && error.retryable));

export type Client = ReturnType<typeof createClient>;

/** Throws TypeError when the address is none. */
export function createClient(options: ClientOptions = {}) {
  if (typeof options !== "object" || options === null) throw new TypeError(`Expected options such as { url: "http://127.0.0.1:3001" }, got ${JSON.stringify(options)}.`);
  const requests = createRequests(options);
  const data = async <T>(method: string, path: string, call?: Call): Promise<T> => (await requests.call(method, path, call)).data as T;
  const at = (id: string): string => `/${encodeURIComponent(id)}`;
  const chatAt = (chatId: string): string => `/chat/${encodeURIComponent(chatId)}`;
  const joined = ({ status, include, ...rest }: ListOptions): Call["query"] => ({ ...rest, status: status?.join(","), include: include?.join(",") });

  /** Offers it again while nobody says whether it is accepted: the key makes that safe. */
  async function submitSafely(path: string, body: unknown, { idempotencyKey = crypto.randomUUID(), signal }: SubmitOptions): Promise<Answer> {
    for (let tried = 1; ; tried++) {
      try {
        return await requests.call("POST", path, { body, signal, headers: { "idempotency-key": idempotencyKey } });
      } catch (error) {
        if (!isPassing(error) || tried >= submitTries) throw error;
        await pause({ ms: submitPauseMs * tried, signal });
        signal?.throwIfAborted();
      }
    }
  }

  async function get(id: string, call: CallOptions = {}): Promise<Job> {
    return data<Job>("GET", at(id), call);
  }

  return {
    /** Resolves when the job is durable. */
    async submit(request: BuildRequest, submit: SubmitOptions = {}): Promise<AcceptedJob> {
      return (await submitSafely("/", request, submit)).data as AcceptedJob;
    },
    /** All or nothing, in order; at most 1,000. */
    async submitMany(jobs: BuildRequest[], submit: SubmitOptions = {}): Promise<AcceptedJob[]> {
      return ((await submitSafely("/batch", { jobs }, submit)).data as { jobs: AcceptedJob[] }).jobs;
    },
    get,
    /** Resolves when the job is final, with the job, however long that takes, through cuts and outages of the service; rejects with the signal's reason. */
    async waitFor(id: string, { signal, onEvent }: CallOptions & { onEvent?: (event: StreamEvent) => void } = {}): Promise<FinishedJob> {
      for await (const event of follow(requests, `${at(id)}/events`, { after: 0, signal })) onEvent?.(event);
      signal?.throwIfAborted();
      // The stream ends with the event that made the job final.
      for (let failures = 0; ; failures++) {
        try {
          return (await get(id, { signal })) as FinishedJob;
        } catch (error) {
          if (!(error instanceof ClientError && error.retryable)) throw error;
          await pause({ ms: pauseMsAfter(failures, error), signal });
        }
        signal?.throwIfAborted();
      }
    },
    /** A job's events from its first, until it is final; a chat's, or everybody's, without end. */
    events(which: { jobId: string } | { chatId: string } | "all", { after, signal }: CallOptions & { after?: number | undefined } = {}): AsyncIterable<StreamEvent> {
      const path = which === "all" ? "/events" : "jobId" in which ? `${at(which.jobId)}/events` : `${chatAt(which.chatId)}/events`;
      return follow(requests, path, { after, signal });
    },
    /** The built JavaScript. */
    output: async (id: string, call: CallOptions = {}): Promise<string> => (await requests.open("GET", `${at(id)}/output`, call)).text(),
    sourceMap: async (id: string, call: CallOptions = {}): Promise<string> => (await requests.open("GET", `${at(id)}/output.map`, call)).text(),
    why: (id: string, call: CallOptions = {}) => data<Why>("GET", `${at(id)}/why`, call),
    /** `requested`: it runs and is being stopped. */
    cancel: (id: string, call: OperatingOptions = {}) => data<{ id: string; status: "cancelled" | "requested" | "already" }>("POST", `${at(id)}/cancel`, withReason(call)),
    /** Puts a failed job at the tail of its chat again. */
    retry: (id: string, call: OperatingOptions = {}) => data<AcceptedJob>("POST", `${at(id)}/retry`, withReason(call)),
    async list({ signal, ...query }: ListOptions & CallOptions = {}): Promise<Page> {
      const { data: jobs, meta } = await requests.call("GET", "/", { query: joined(query), signal });
      return { jobs: jobs as JobSummary[], nextCursor: (meta as { nextCursor: string | null }).nextCursor };
    },
    async chat(chatId: string, { limit, include, signal }: Pick<ListOptions, "limit" | "include"> & CallOptions = {}): Promise<Chat & { state: ChatState }> {
      const { data: jobs, meta } = await requests.call("GET", chatAt(chatId), { query: { limit, include: include?.join(",") }, signal });
      return { ...(jobs as Chat), state: meta as ChatState };
    },
    /** Number of the chat's latest event; 0 when it has none. */
    async latestEvent(chatId: string, { signal }: CallOptions = {}): Promise<number> {
      const [lane] = await data<{ eventNumber: number }[]>("GET", "/lanes", { query: { chatIds: encodeURIComponent(chatId) }, signal });
      return lane?.eventNumber ?? 0;
    },
    cancelChat: (chatId: string, call: OperatingOptions = {}) => data<{ chatId: string; cancelled: number; stopping: string | null }>("POST", `${chatAt(chatId)}/cancel`, withReason(call)),
    pauseChat: (chatId: string, call: OperatingOptions = {}) => data<{ chatId: string; paused: boolean }>("POST", `${chatAt(chatId)}/pause`, withReason(call)),
    resumeChat: (chatId: string, call: OperatingOptions = {}) => data<{ chatId: string; paused: boolean }>("POST", `${chatAt(chatId)}/resume`, withReason(call)),
    setPolicy: (chatId: string, policy: Partial<ChatPolicy>, call: OperatingOptions = {}) => data<ChatPolicy>("PUT", `${chatAt(chatId)}/policy`, { ...withReason(call), body: policy }),
    /** Forgets a conversation for good. */
    eraseChat: (chatId: string, call: OperatingOptions = {}) => data<{ chatId: string; erased: number }>("DELETE", chatAt(chatId), withReason(call)),
    pause: (call: OperatingOptions = {}) => data<{ paused: boolean }>("POST", "/pause", withReason(call)),
    resume: (call: OperatingOptions = {}) => data<{ paused: boolean }>("POST", "/resume", withReason(call)),
    /** The embedded database of the service, as a gzipped tar. */
    async backup({ signal }: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
      return (await requests.open("POST", "/backup", { signal, unlimited: true })).body as ReadableStream<Uint8Array>;
    },
    /** Who may come in; for admins. A new key is told this once. */
    keys: {
      create: (request: { name?: string | undefined; tenant?: string | undefined; scopes?: readonly ApiKey["scopes"][number][] | undefined; expiresInMs?: number | undefined }, call: CallOptions = {}) => data<NewApiKey>("POST", "/keys", { ...call, body: request }),
      list: (call: CallOptions = {}) => data<ApiKey[]>("GET", "/keys", call),
      revoke: (id: string, call: CallOptions = {}) => data<ApiKey>("POST", `/keys${at(id)}/revoke`, call),
      /** The old key works on for `graceMs`. */
      rotate: (id: string, graceMs: number, call: CallOptions = {}) => data<NewApiKey>("POST", `/keys${at(id)}/rotate`, { ...call, body: { graceMs } }),
    },
    /** What operators did, newest first; for admins. */
    async audit({ limit, cursor, signal }: { limit?: number | undefined; cursor?: string | undefined } & CallOptions = {}): Promise<{ actions: OperatorAction[]; nextCursor: string | null }> {
      const { data: actions, meta } = await requests.call("GET", "/audit", { query: { limit, cursor }, signal });
      return { actions: actions as OperatorAction[], nextCursor: (meta as { nextCursor: string | null }).nextCursor };
    },
    /** Code that is refused everywhere because it killed workers or nodes. */
    quarantine: {
      /** Newest first; 200 unless said. */
      list: ({ limit, signal }: Pick<ListOptions, "limit"> & CallOptions = {}) => data<Quarantined[]>("GET", "/quarantine", { query: { limit }, signal }),
      /** Lets it run again; jobs that failed for it stay failed. */
      lift: (codeHash: string, call: OperatingOptions = {}) => data<{ lifted: true }>("POST", `/quarantine${at(codeHash)}/lift`, withReason(call)),
    },
    stats: (call: CallOptions = {}) => data<QueueStats>("GET", "/stats", call),
    health: (call: CallOptions = {}) => data<Health>("GET", "/health", { ...call, root: true }),
    deadLetters: {
      async list({ signal, status: _status, ...query }: ListOptions & { /** Those of one group. */ fingerprint?: string | undefined } & CallOptions = {}): Promise<Page> {
        const { data: jobs, meta } = await requests.call("GET", "/dead-letters", { query: joined(query), signal });
        return { jobs: jobs as JobSummary[], nextCursor: (meta as { nextCursor: string | null }).nextCursor };
      },
      /** Largest first. */
      groups: ({ chatId, failureCode, limit, signal }: Pick<ListOptions, "chatId" | "failureCode" | "limit"> & CallOptions = {}) => data<DeadLetterGroup[]>("GET", "/dead-letters/groups", { query: { chatId, failureCode, limit }, signal }),
      count: async (which: DeadLetters, call: CallOptions = {}) => (await data<{ count: number }>("POST", "/dead-letters/redrive", { ...call, body: { ...which, dryRun: true } })).count,
      /** `ratePerSecond`: no faster than this; the answer comes when all are. */
      redrive: async (which: DeadLetters & { ratePerSecond?: number | undefined }, call: CallOptions = {}) => (await data<{ redriven: number }>("POST", "/dead-letters/redrive", { ...call, body: which })).redriven,
      discard: async (which: DeadLetters, call: CallOptions = {}) => (await data<{ discarded: number }>("POST", "/dead-letters/discard", { ...call, body: which })).discarded,
    },
  };
}
