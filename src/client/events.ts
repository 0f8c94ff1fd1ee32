/**
 * Server-sent events by `fetch`, which unlike EventSource may carry a key. A stream that breaks off is taken up again where
 * it was: numbers are the chat's own, so nothing is lost or told twice, whichever node answers next.
 */
import type { EventType, JobStatus } from "../job.js";
import { ClientError } from "./request.js";
import type { Requests } from "./request.js";

/** What happened, with the facts that every event has and those that it adds. */
export interface StreamEvent {
  /** The chat's event number; null for what passes and is not kept, such as `job.moved`. */
  number: number | null;
  /** `reset`: events were left out; read the current state again. */
  type: EventType | "job.moved" | "queue.paused" | "queue.resumed" | "reset";
  data: { jobId?: string | null; chatId?: string | null; chatSeq?: number | null; status?: JobStatus | null; attempt?: number | null; at?: string; [more: string]: unknown };
}

const againMs = { first: 250, most: 5000 };

/** Before another try: longer each time, and for as long as the service asks for. */
export const pauseMsAfter = (failures: number, error: unknown): number =>
  Math.max(Math.min(againMs.most, againMs.first * 2 ** failures), (error instanceof ClientError ? error.retryAfterMs : undefined) ?? 0);

/** Ends when the service says that nothing more will come, or the signal aborts. Rejects when the first connection finds no service, or is refused by more than a 503, such as for a database that is away. */
export async function* follow(requests: Requests, path: string, { after, signal }: { after?: number | undefined; signal?: AbortSignal | undefined }): AsyncGenerator<StreamEvent, void, undefined> {
  let last = after;
  let failures = 0;
  let connected = false;
  while (!signal?.aborted) {
    let failure: unknown;
    try {
      const response = await requests.open("GET", path, {
        signal, unlimited: true, query: { after: connected ? undefined : after },
        headers: { accept: "text/event-stream", "last-event-id": connected && last !== undefined ? String(last) : undefined },
      });
      connected = true;
      if (response.status === 204) return;
      for await (const event of read(response)) {
        failures = 0;
        if (event.number !== null) last = event.number;
        yield event;
      }
    } catch (error) {
      if (signal?.aborted) return;
      // An address that was never right must not be asked for ever; Buildlane's own 503 says that it is.
      if (!connected && !(error instanceof ClientError && error.statusCode === 503 && error.code !== "not_buildlane")) throw error;
      if (error instanceof ClientError && !error.retryable) throw error;
      failure = error;
    }
    if (!(await pause({ ms: pauseMsAfter(failures++, failure), signal }))) return;
  }
}

/** False when the signal aborted meanwhile. */
export const pause = ({ ms, signal }: { ms: number; signal: AbortSignal | undefined }): Promise<boolean> =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve(!signal?.aborted);
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });

async function* read(response: Response): AsyncGenerator<StreamEvent, void, undefined> {
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value as Uint8Array, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** One block of the stream; null for comments and the like. */
export function parse(block: string): StreamEvent | null {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ""));
  }
  const type = fields.get("event");
  if (type === undefined) return null;
  const id = fields.get("id");
  return { number: id === undefined ? null : Number(id), type: type as StreamEvent["type"], data: JSON.parse(fields.get("data") ?? "{}") as StreamEvent["data"] };
}
