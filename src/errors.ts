/**
 * Every operating error: a stable code, an HTTP status, whether trying again may help, and a message made of facts
 * that says what to do. A programmer's error is a plain Error (see `invariant`) and is not caught.
 */

export interface Issue {
  /** JSON pointer into what was sent, such as `/chatId`. */
  path: string;
  message: string;
}

interface Shape {
  status: number;
  retryable: boolean;
}

/** The contract: clients switch on these codes. Listed in the API's documentation. */
export const errorShapes = {
  validation_failed: { status: 400, retryable: false },
  invalid_json: { status: 400, retryable: false },
  unauthorized: { status: 401, retryable: false },
  read_only: { status: 403, retryable: false },
  forbidden: { status: 403, retryable: false },
  forbidden_host: { status: 403, retryable: false },
  cross_site_refused: { status: 403, retryable: false },
  not_found: { status: 404, retryable: false },
  key_not_found: { status: 404, retryable: false },
  not_quarantined: { status: 404, retryable: false },
  job_not_found: { status: 404, retryable: false },
  method_not_allowed: { status: 405, retryable: false },
  not_acceptable: { status: 406, retryable: false },
  already_final: { status: 409, retryable: false },
  not_failed: { status: 409, retryable: false },
  no_output: { status: 409, retryable: true },
  no_backup: { status: 409, retryable: false },
  chat_stopping: { status: 409, retryable: true },
  payload_too_large: { status: 413, retryable: false },
  unsupported_media_type: { status: 415, retryable: false },
  idempotency_conflict: { status: 422, retryable: false },
  batch_too_large: { status: 422, retryable: false },
  chat_queue_full: { status: 429, retryable: true },
  rate_limited: { status: 429, retryable: true },
  too_many_streams: { status: 429, retryable: true },
  queue_full: { status: 503, retryable: true },
  database_unavailable: { status: 503, retryable: true },
  chat_busy: { status: 503, retryable: true },
  database_busy: { status: 503, retryable: true },
  overloaded: { status: 503, retryable: true },
  draining: { status: 503, retryable: true },
  internal_error: { status: 500, retryable: true },
} as const satisfies Record<string, Shape>;
export type ErrorCode = keyof typeof errorShapes;

export class BuildlaneError extends Error {
  override readonly name = "BuildlaneError";
  readonly code: ErrorCode;
  readonly statusCode: number;
  readonly retryable: boolean;
  readonly issues: Issue[] | undefined;
  /** Milliseconds after which another try makes sense. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, extra: { issues?: Issue[]; retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, extra.cause === undefined ? undefined : { cause: extra.cause });
    this.code = code;
    this.statusCode = errorShapes[code].status;
    this.retryable = errorShapes[code].retryable;
    this.issues = extra.issues;
    this.retryAfterMs = extra.retryAfterMs;
  }
}

/** Of one request, how many are told; how many more there are is said by one last. */
export const issuesMax = 20;

/** Messages are sentences. `untold`: issues that were only counted. */
export function validationFailed(issues: Issue[], untold = 0): BuildlaneError {
  const more = untold + Math.max(0, issues.length - issuesMax);
  const told = more === 0 ? issues : [...issues.slice(0, issuesMax), { path: "", message: `And ${more} more.` }];
  return new BuildlaneError("validation_failed", told.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join(" "), { issues: told });
}

export const unauthorized = (cause?: unknown): BuildlaneError =>
  new BuildlaneError("unauthorized", "Send a valid API key as `Authorization: Bearer …`. This one is missing, unknown, expired or revoked.", { cause });

export const forbidden = (needs: string, why = "your key does not have it"): BuildlaneError => new BuildlaneError("forbidden", `This needs the scope ${needs}: ${why}.`);

export const jobNotFound = (id: string): BuildlaneError =>
  new BuildlaneError("job_not_found", `There is no job ${id}. It may have been removed by the retention of old jobs.`);

export const jobsRemoved = (key: string): BuildlaneError =>
  new BuildlaneError("job_not_found", `Idempotency key ${key} was used before, and what was accepted then has been removed by the retention of old jobs, or erased with its chat. Use a new key to build it again.`);

export const notQuarantined = (): BuildlaneError =>
  new BuildlaneError("not_quarantined", "No code with this hash is quarantined. It may have been lifted already.");

export const alreadyFinal = (id: string, status: string): BuildlaneError =>
  new BuildlaneError("already_final", `Job ${id} is ${status} already; only pending and running jobs can be cancelled.`);

export const noBackup = (kind: string): BuildlaneError =>
  new BuildlaneError("no_backup", kind === "postgres" ? "The database is a PostgreSQL: back it up with its own tools, such as pg_dump." : "The queue keeps nothing that could be backed up.");

export const chatStopping = (chatId: string, jobId: string): BuildlaneError =>
  new BuildlaneError("chat_stopping", `Chat ${chatId} is not erased yet: its job ${jobId} is still being stopped. Everything else is cancelled; try again.`, { retryAfterMs: 1000 });

export const notFailed = (id: string, status: string): BuildlaneError =>
  new BuildlaneError("not_failed", `Job ${id} is ${status}; only failed jobs can be retried.`);

export const chatQueueFull = (chatId: string, limit: number, paused: boolean, retryAfterMs: number): BuildlaneError =>
  new BuildlaneError("chat_queue_full", `Chat ${chatId} may have ${limit} pending jobs and would have more. ${paused ? "It is paused: resume it" : "Wait for some to finish"}, or cancel some.`, { retryAfterMs });

export const queueFull = (limit: number, retryAfterMs: number): BuildlaneError =>
  new BuildlaneError("queue_full", `The queue may hold ${limit} pending jobs and would hold more. Try again later.`, { retryAfterMs });

export const rateLimited = (chatId: string, limit: string, retryAfterMs: number): BuildlaneError =>
  new BuildlaneError("rate_limited", `Chat ${chatId} may submit ${limit}. Try again later.`, { retryAfterMs });

export const batchTooLarge = (what: string, limit: number): BuildlaneError =>
  new BuildlaneError("batch_too_large", `The batch has more ${what} than the limit of ${limit} allows at any time. Send smaller batches.`);

export const idempotencyConflict = (key: string): BuildlaneError =>
  new BuildlaneError("idempotency_conflict", `Idempotency key ${key} was used for another request. Use a new key for a new request.`);

export const codeTooLarge = (bytes: number, limit: number): BuildlaneError =>
  new BuildlaneError("payload_too_large", `The code has ${bytes} bytes; at most ${limit} are allowed.`);

/** `unsure`: the connection broke before the answer came, so the call may have taken effect. */
export const databaseUnavailable = (cause: unknown, retryAfterMs = 1000, unsure = false): BuildlaneError =>
  new BuildlaneError(
    "database_unavailable",
    unsure
      ? "The connection to the database broke before it answered, so nobody knows whether this took effect. Look before you try again, or send an Idempotency-Key."
      : "The database cannot be reached. Nothing was accepted or changed; try again.",
    { retryAfterMs, cause },
  );

export const chatBusy = (chatId: string | null, cause: unknown): BuildlaneError =>
  new BuildlaneError("chat_busy", `${chatId === null ? "A chat" : `Chat ${chatId}`} is held by a transaction that does not end. Nothing was accepted or changed; try again.`, { retryAfterMs: 1000, cause });

export const databaseBusy = (waitedMs: number): BuildlaneError =>
  new BuildlaneError("database_busy", `A transaction has held the embedded database's only connection for more than ${waitedMs} ms. Nothing was done; try again when it has ended, or pass that transaction along as tx.`, { retryAfterMs: 1000 });

export const draining = (): BuildlaneError =>
  new BuildlaneError("draining", "This node is stopping and accepts nothing more. Try again; another node or the next start will answer.", { retryAfterMs: 2000 });

/** Its own `stop()` was called: there is no other answer to come from it. */
export const queueStopped = (): BuildlaneError => new BuildlaneError("draining", "This queue was stopped.");

export const overloaded = (delayMs: number): BuildlaneError =>
  new BuildlaneError("overloaded", `This node is too busy to accept more: its event loop lags by ${Math.round(delayMs)} ms. Try again.`, { retryAfterMs: 2000 });

/** A setting that cannot be used; stops the start. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

/** Something the code itself guarantees did not hold: a bug, never the caller's doing. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`);
}
