/**
 * The vocabulary: what is asked for (a request), what is kept (a job, a union by status), how an attempt ends
 * (an outcome), and what went wrong (a failure). Imports nothing; everything else imports it.
 */

export const jobStatuses = ["pending", "running", "completed", "failed"] as const;
export type JobStatus = (typeof jobStatuses)[number];

/** Why an attempt or a job failed. The list is the contract: clients switch on it. */
export const failureCodes = [
  "build_failed",
  "import_refused",
  "timed_out",
  "worker_crashed",
  "out_of_memory",
  "output_too_large",
  "cancelled",
  "superseded",
  "node_lost",
  "run_failed",
] as const;
export type FailureCode = (typeof failureCodes)[number];

export const loaders = ["tsx", "ts", "jsx", "js", "json", "css"] as const;
export type Loader = (typeof loaders)[number];

/** What a caller may say about a build; nothing else reaches esbuild. */
export interface BuildOptions {
  /** Language of `code` or of the entry file. Default `tsx`. */
  loader?: Loader | undefined;
  format?: "esm" | undefined;
  minify?: boolean | undefined;
  sourcemap?: boolean | undefined;
  /** An esbuild target such as `es2022`. */
  target?: string | undefined;
  jsx?: "automatic" | "transform" | "preserve" | undefined;
}

/** One module, or several files of which one is the entry. */
export type Source =
  | { code: string; files?: undefined; entry?: undefined }
  | { files: Record<string, string>; entry: string; code?: undefined };

/** One request to build one piece of code, as a caller submits it. */
export type BuildRequest = Source & {
  chatId: string;
  messageId: string;
  options?: BuildOptions | undefined;
  /** −10 … 10, higher runs earlier; 0 unless said. */
  priority?: number | undefined;
  /** Attempts that may cost one, 1 … 25; the service's setting unless said. */
  maxAttempts?: number | undefined;
  /** Wall-clock limit of one attempt in milliseconds. */
  timeoutMs?: number | undefined;
  /** Milliseconds to wait before the first start; the job holds its place meanwhile. */
  delayMs?: number | undefined;
  /** Ends the chat's older jobs in favour of this one: those that wait, or the running one too. */
  supersede?: Supersede | undefined;
};

export const supersedes = ["pending", "running"] as const;
export type Supersede = (typeof supersedes)[number];

/** One place in the submitted code that a build complains about. */
export interface Diagnostic {
  text: string;
  /** The submitted file's name, never a path of the host; null when the build as a whole is meant. */
  file: string | null;
  /** 1-based; null when there is no place. */
  line: number | null;
  /** 1-based, in UTF-16 units. */
  column: number | null;
  /** UTF-16 units that are meant, from `column` on. */
  length: number | null;
  lineText: string | null;
  suggestion: string | null;
}

export interface Failure {
  code: FailureCode;
  /** One sentence for a person. For build errors `error` of the job holds the caret frames as well. */
  message: string;
  /** Whether another attempt of the same code might end otherwise. */
  retryable: boolean;
  diagnostics: Diagnostic[];
  /** True when the code itself is now refused everywhere, by its hash. */
  quarantined?: boolean | undefined;
}

/** What makes an outcome that of any other build of the same code, and which job it was taken over from, if any. */
export interface Origin {
  /** Of everything beside the code that a build depends on: engine, packages, limits, and whose it is. */
  stamp: string;
  from: string | null;
}

/** How one run ended, as the runner tells it. A build error is an outcome, never a rejection. */
export type Outcome =
  | { kind: "built"; result: string; sourceMap: string | null; warnings: Diagnostic[]; externals: string[]; origin?: Origin | undefined }
  | { kind: "failed"; failure: Failure; /** For a person: a build's caret frames; what a run threw, whole, with its causes; else the failure's message. */ error: string; origin?: Origin | undefined };

/** What a runner is given: the claimed job, without the store's own bookkeeping. */
export type RunnableJob = Source & {
  id: string;
  chatId: string;
  /** Whose it is; absent for the default tenant. */
  tenant?: string | undefined;
  messageId: string;
  chatSeq: number;
  attempt: number;
  options: BuildOptions;
  /** The submitter's trace (W3C Trace Context), when it gave one. */
  traceparent?: string | null | undefined;
};

/** Runs attempts. `run` settles only when nothing of the attempt is left running. */
export interface Runner {
  /** Resolves when the first slot can serve. */
  start(): Promise<void>;
  /** Aborting the signal ends the attempt; the promise then settles with whatever outcome, or rejects. `restartLimit`: the job's time limit begins anew, for until now it waited for another's work. */
  run(job: RunnableJob, context: { signal: AbortSignal; attempt: number; restartLimit?(): void }): Promise<Outcome>;
  stop(): Promise<void>;
}

/** One past or present attempt, folded from the history. Times are ISO 8601. */
export interface Attempt {
  attempt: number;
  startedAt: string;
  endedAt: string | null;
  /** How long its run took, by its node's clock, milliseconds; the rest until `endedAt` is settling. Null while it runs, and when no run came to an end. */
  runMs: number | null;
  /** `running`, the final status, or how it was given back. */
  outcome: "running" | "completed" | "failed" | "retrying" | "rescued" | "released";
  failureCode: FailureCode | null;
  nodeId: string | null;
}

export interface JobBase {
  id: string;
  chatId: string;
  /** Whose it is; absent for the default tenant. */
  tenant?: string | undefined;
  messageId: string;
  /** Acceptance order in the chat: 1, 2, 3, … without gaps. */
  chatSeq: number;
  priority: number;
  attempt: number;
  maxAttempts: number;
  /** ISO 8601, like all times. */
  createdAt: string;
  code: string | null;
  files: Record<string, string> | null;
  entry: string | null;
  options: BuildOptions;
  warnings: Diagnostic[];
  externals: string[];
  attempts: Attempt[];
  supersededBy: string | null;
  /** Whether its outcome was taken over from another job of the same code, without a build; and from which. */
  cached: boolean;
  cachedFrom: string | null;
}

export type PendingJob = JobBase & {
  status: "pending";
  startedAt: string | null;
  completedAt: null;
  result: null;
  error: null;
  failure: null;
  /** When a delayed or backing-off job may start; null when it may at once. */
  nextAttemptAt: string | null;
  /** 1 for the job that runs next; a running job counts as ahead. */
  queuePosition: number;
  /** Median estimate in milliseconds until the start; null while paused. */
  estimatedWaitTime: number | null;
  estimatedWaitTimeP90: number | null;
};
export type RunningJob = JobBase & {
  status: "running";
  startedAt: string;
  completedAt: null;
  result: null;
  error: null;
  failure: null;
  nextAttemptAt: null;
};
export type CompletedJob = JobBase & {
  status: "completed";
  startedAt: string;
  completedAt: string;
  result: string;
  error: null;
  failure: null;
  nextAttemptAt: null;
};
export type FailedJob = JobBase & {
  status: "failed";
  startedAt: string | null;
  completedAt: string;
  result: null;
  error: string;
  failure: Failure;
  nextAttemptAt: null;
};

/** A job as readers see it: what it has depends on its status. */
export type Job = PendingJob | RunningJob | CompletedJob | FailedJob;
export type FinishedJob = CompletedJob | FailedJob;

/** What a submitter is told at once; the job is durable by then. */
export interface AcceptedJob {
  id: string;
  chatId: string;
  messageId: string;
  chatSeq: number;
  status: JobStatus;
  queuePosition: number;
  estimatedWaitTime: number | null;
  estimatedWaitTimeP90: number | null;
  createdAt: string;
}

export const eventTypes = [
  "job.accepted",
  "job.started",
  "job.retrying",
  "job.completed",
  "job.failed",
  "job.rescued",
  "job.released",
  "job.redriven",
  "job.cancelRequested",
  "chat.paused",
  "chat.resumed",
  "chat.policyChanged",
  /** Everything before it was deleted. */
  "chat.erased",
] as const;
export type EventType = (typeof eventTypes)[number];

/** One row of the history. `number` counts a chat's events without gaps. */
export interface HistoryEvent {
  chatId: string;
  /** Whose chat it is; absent for the default tenant. */
  tenant?: string | undefined;
  number: number;
  type: EventType;
  /** Null for events of the chat itself. */
  jobId: string | null;
  chatSeq: number | null;
  status: JobStatus | null;
  attempt: number | null;
  at: string;
  data: Record<string, unknown>;
}

export const passingTypes = ["job.moved", "queue.paused", "queue.resumed"] as const;

/** What is told live and kept nowhere: it has no number, and is not told again. */
export interface PassingEvent {
  /** Null for events of the whole queue. */
  chatId: string | null;
  tenant?: string | undefined;
  number: null;
  type: (typeof passingTypes)[number];
  jobId: string | null;
  chatSeq: number | null;
  status: JobStatus | null;
  attempt: number | null;
  at: string;
  data: Record<string, unknown>;
}

/** `reset`: events were left out; read the current state again. */
export type LiveItem = HistoryEvent | PassingEvent | "reset";

export const isFinal = (status: JobStatus): status is "completed" | "failed" => status === "completed" || status === "failed";
