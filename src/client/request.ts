/** One call over HTTP: the envelope opened, every failure a ClientError with the service's own code, or `unreachable`, `timed_out`. */
import type { ErrorCode, Issue } from "../errors.js";

export interface ClientOptions {
  /** Where the service is, such as `http://127.0.0.1:3001`; in a browser the page's own origin unless said. */
  url?: string | undefined;
  /** Where its routes are; `/api/builds` unless said. */
  prefix?: string | undefined;
  /** An API key, or a token for one chat. */
  apiKey?: string | undefined;
  /** How long one answer may take, milliseconds; 60,000 unless said. */
  timeoutMs?: number | undefined;
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch | undefined;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/** What went wrong: the service's code, or why there was no answer of the service. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly code: ErrorCode | "unreachable" | "timed_out" | "not_buildlane";
  /** Null when there was no answer. */
  readonly statusCode: number | null;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly requestId: string | undefined;
  readonly issues: Issue[] | undefined;

  constructor(code: ClientError["code"], message: string, facts: { statusCode?: number; retryable?: boolean; retryAfterMs?: number | undefined; requestId?: string; issues?: Issue[]; cause?: unknown } = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.statusCode = facts.statusCode ?? null;
    this.retryable = facts.retryable ?? false;
    this.retryAfterMs = facts.retryAfterMs;
    this.requestId = facts.requestId;
    this.issues = facts.issues;
  }
}

export interface Call extends CallOptions {
  query?: Record<string, string | number | boolean | string[] | undefined> | undefined;
  body?: unknown;
  headers?: Record<string, string | undefined> | undefined;
  /** Longer than the client's own, for calls that wait. */
  timeoutMs?: number | undefined;
  /** Outside the routes' prefix. */
  root?: boolean | undefined;
}

export interface Answer {
  status: number;
  headers: Headers;
  data: unknown;
  meta: unknown;
}

export interface Requests {
  /** Answers with the data of the envelope. */
  call(method: string, path: string, call?: Call): Promise<Answer>;
  /** The answer as it comes. */
  open(method: string, path: string, call?: Call & { unlimited?: boolean }): Promise<Response>;
}

const defaultTimeoutMs = 60_000;

export function createRequests({ url, prefix = "/api/builds", apiKey, timeoutMs = defaultTimeoutMs, fetch = globalThis.fetch }: ClientOptions): Requests {
  const base = baseOf(url);

  function addressOf(path: string, query: Call["query"], root: boolean | undefined): string {
    // They would be taken for steps: pausing chat ".." would pause the queue.
    if (/\/\.\.?(\/|$)/.test(path)) throw new ClientError("validation_failed", 'Expected an id that is neither "." nor "..": no address can hold it.');
    const address = new URL(`${base.replace(/\/$/, "")}${root ? "" : prefix}${path}`);
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) address.searchParams.set(name, String(value));
    return address.href;
  }

  async function open(method: string, path: string, { query, body, headers, signal, timeoutMs: longer, root, unlimited }: Call & { unlimited?: boolean } = {}): Promise<Response> {
    const signals = [...(signal ? [signal] : []), ...(unlimited ? [] : [AbortSignal.timeout(longer ?? timeoutMs)])];
    const sent: Record<string, string> = { ...(body === undefined ? {} : { "content-type": "application/json" }), ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }) };
    for (const [name, value] of Object.entries(headers ?? {})) if (value !== undefined) sent[name] = value;
    const address = addressOf(path, query, root);
    let response: Response;
    try {
      response = await fetch(address, { method, headers: sent, ...(body === undefined ? {} : { body: JSON.stringify(body) }), ...(signals.length > 0 ? { signal: AbortSignal.any(signals) } : {}) });
    } catch (error) {
      signal?.throwIfAborted();
      throw failureOf(error, base);
    }
    if (!response.ok && response.status !== 304) throw await refusalOf(response);
    return response;
  }

  return {
    open,
    async call(method, path, call = {}) {
      const response = await open(method, path, call);
      let envelope: { ok?: unknown; data?: unknown; meta?: unknown };
      try {
        envelope = (await response.json()) as typeof envelope;
      } catch (error) {
        call.signal?.throwIfAborted();
        throw failureOf(error, base);
      }
      if (envelope.ok !== true) throw notBuildlane(response.status);
      return { status: response.status, headers: response.headers, data: envelope.data, meta: envelope.meta };
    },
  };
}

function baseOf(url: string | undefined): string {
  const base = url ?? (globalThis as { location?: { origin: string } }).location?.origin;
  if (base === undefined || !URL.canParse(base)) throw new TypeError(`Expected url to be an address such as http://127.0.0.1:3001, got ${JSON.stringify(base)}.`);
  return base;
}

/** What a proxy answers while nobody is behind it, as in a restart. */
const gatewayStatuses = [502, 503, 504];
const notBuildlane = (statusCode: number): ClientError => new ClientError("not_buildlane", `The answer (status ${statusCode}) is not one of Buildlane's. Check the address.`, { statusCode, retryable: gatewayStatuses.includes(statusCode) });

function failureOf(error: unknown, base: string): ClientError {
  if ((error as { name?: unknown } | null)?.name === "TimeoutError") return new ClientError("timed_out", `${base} did not answer in time.`, { retryable: true, cause: error });
  if (error instanceof SyntaxError) return new ClientError("not_buildlane", `${base} answered with something that is not JSON. Check the address.`, { cause: error });
  return new ClientError("unreachable", `${base} cannot be reached (${reasonOf(error)}). Is the service running?`, { retryable: true, cause: error });
}

/** `fetch` says little; the system's code is in its cause. */
function reasonOf(error: unknown): string {
  const { cause, message } = (error ?? {}) as { cause?: { code?: unknown }; message?: unknown };
  return String(cause?.code ?? message ?? error);
}

async function refusalOf(response: Response): Promise<ClientError> {
  const body = (await response.json().catch(() => null)) as { ok?: unknown; code?: ErrorCode; message?: string; retryable?: boolean; requestId?: string; issues?: Issue[] } | null;
  if (body?.ok !== false || body.code === undefined) return notBuildlane(response.status);
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new ClientError(body.code, body.message ?? body.code, {
    statusCode: response.status, retryable: body.retryable ?? false, retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
    ...(body.requestId === undefined ? {} : { requestId: body.requestId }), ...(body.issues === undefined ? {} : { issues: body.issues }),
  });
}
