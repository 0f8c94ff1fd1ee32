/** How the page talks to the queue: JSON, and one stream. A key, when the queue asks for one, stays in this tab. */
import { signal } from "@preact/signals";

export const config = JSON.parse(document.getElementById("config")?.textContent ?? "{}") as { api: string; base: string; readOnly: boolean };

const keyName = "buildlane-key";
/** Whether the queue asked for a key, and why the last one was refused. */
export const locked = signal<string | null>(null);
export const hasKey = signal(sessionStorage.getItem(keyName) !== null);

export function setKey(text: string): void {
  const key = text.trim();
  // No header can hold another: nothing would ever be asked.
  if (!/^[\x21-\x7e]+$/.test(key)) return void (locked.value = "Expected a key of Latin letters, digits and signs, without spaces.");
  sessionStorage.setItem(keyName, key);
  hasKey.value = true;
  locked.value = null;
}
/** Nothing that was read with it stays in sight. */
export function forgetKey(): void {
  sessionStorage.removeItem(keyName);
  location.reload();
}

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const currentKey = (): string | null => sessionStorage.getItem(keyName);
const headers = (key: string | null, more: Record<string, string>): Record<string, string> => (key ? { ...more, authorization: `Bearer ${key}` } : more);

/** How far the service's clock is ahead of this one, milliseconds; its answers tell whole seconds, so less than two are none. */
let aheadMs = 0;
export const serverNow = (): number => Date.now() + aheadMs;
function setServerClock({ headers }: Response): void {
  const ahead = Date.parse(headers.get("date") ?? "") + 500 - Date.now();
  if (!Number.isNaN(ahead)) aheadMs = Math.abs(ahead) < 2000 ? 0 : ahead;
}

interface Answer {
  ok: boolean;
  data: unknown;
  meta?: { nextCursor: string | null };
  code?: string;
  message?: string;
}
const answerOf = (response: Response): Promise<Answer | null> => response.json().catch(() => null);

/** Without these two a page shows nothing: who may not read them needs another key. */
const everyPageNeeds = ["/events", "/stats"];
/** Asks for a key, too, unless another was given while the refused request was on its way, or one is asked for already. */
function failureOf({ status }: Response, answer: Answer | null, path: string, key: string | null): ApiError {
  const failure = new ApiError(status, answer?.code ?? "error", answer?.message ?? `The service answered ${status}.`);
  const mayNotRead = status === 403 && everyPageNeeds.includes(path);
  if ((status === 401 || mayNotRead) && key === currentKey() && locked.value === null) locked.value = key || mayNotRead ? failure.message : "";
  return failure;
}

/** Of a path with every id escaped. `.` and `..` stay as they are, and would lead elsewhere. */
function addressOf(path: string): string {
  if (/^[^?]*\/\.\.?([/?]|$)/.test(path)) throw new ApiError(0, "validation_failed", 'No address can hold the id "." or "..".');
  return config.api + path;
}

/** The envelope's `data` and `meta`; an ApiError otherwise. */
export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<{ data: T; meta?: { nextCursor: string | null } }> {
  const address = addressOf(path);
  let response: Response;
  const key = currentKey();
  try {
    response = await fetch(address, { method, headers: headers(key, body === undefined ? {} : { "content-type": "application/json" }), ...(body === undefined ? {} : { body: JSON.stringify(body) }), ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "The service cannot be reached.");
  }
  setServerClock(response);
  const answer = await answerOf(response);
  if (response.ok && answer) return answer as Answer & { data: T };
  throw failureOf(response, answer, path, key);
}
export const read = async <T,>(path: string, signal?: AbortSignal): Promise<T> => (await call<T>("GET", path, undefined, signal)).data;

export interface Told {
  id: number | null;
  event: string;
  data: Record<string, unknown> & { jobId: string | null; chatId: string | null; tenant?: string; chatSeq: number | null; status: string | null; attempt: number | null; at: string };
}

/** Reads server-sent events until the stream ends; `beat` for every sign of life. Not EventSource, which cannot send a key. */
export async function follow(path: string, signal: AbortSignal, tell: (told: Told) => void, beat: () => void): Promise<void> {
  const key = currentKey();
  const response = await fetch(addressOf(path), { headers: headers(key, { accept: "text/event-stream" }), signal });
  if (response.status === 204) return;
  if (!response.ok || !response.body) throw failureOf(response, await answerOf(response), path, key);
  beat();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    beat();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields: Record<string, string> = {};
      for (const line of block.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (fields["event"]) tell({ id: fields["id"] === undefined ? null : Number(fields["id"]), event: fields["event"], data: JSON.parse(fields["data"] ?? "{}") as Told["data"] });
    }
  }
}
