/**
 * Server-sent events. A stream pulls from the history as fast as its reader takes, so a slow reader costs one page of
 * events and not its backlog; one that takes nothing for `stallMs` is dropped, and resumes by the number it saw last.
 *
 * Not @fastify/sse: that pushes without a bound, and its heartbeats read the clock by themselves.
 */
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";
import { eventData } from "../history/event-data.js";
import type { LiveItem } from "../job.js";
import { messageOf } from "../report.js";

/** Proxies cut silent connections after 30 to 60 s. */
const heartbeatMs = 15_000;
const stallMs = 10_000;
/** How long a client waits before it connects again. */
const retryMs = 2000;

export type StreamItem = LiveItem;
export const eventStream = "text/event-stream";

/** Explicitly refusing `text/event-stream` gets 406; saying nothing, or `*`, does not. */
export function checkAccept(request: FastifyRequest): void {
  const { accept } = request.headers;
  if (accept === undefined || accept === "" || /text\/event-stream|text\/\*|\*\/\*/i.test(accept)) return;
  throw new BuildlaneError("not_acceptable", "This answers text/event-stream only.");
}

/** Where to resume: the header of a reconnecting browser comes before the query of its first connection. */
export function resumeAfter(lastEventId: string | undefined, after: number | undefined): { after: number | undefined; unknown: boolean } {
  if (lastEventId === undefined || lastEventId === "") return { after, unknown: false };
  const known = /^\d{1,15}$/.test(lastEventId);
  return { after: known ? Number(lastEventId) : undefined, unknown: !known };
}

export function sendEvents(request: FastifyRequest, reply: FastifyReply, items: AsyncIterable<StreamItem>, clock: Clock): FastifyReply {
  const drop = () => {
    request.log.debug({ event: "stream.dropped", requestId: request.id }, "slow reader dropped");
    reply.raw.destroy();
  };
  const body = Readable.from(frames(items, clock, drop, (error) => request.log.debug({ event: "stream.failed", requestId: request.id, error: messageOf(error) }, "stream failed")), { highWaterMark: 1 });
  // HTTP/2 has no such header; in HTTP/1 a stream's connection serves nothing else, and closing need not wait for it.
  if (request.raw.httpVersionMajor === 1) reply.header("connection", "close");
  return reply.header("cache-control", "no-cache, no-transform").header("x-accel-buffering", "no").type(`${eventStream}; charset=utf-8`).send(body);
}

async function* frames(items: AsyncIterable<StreamItem>, clock: Clock, drop: () => void, failed: (error: unknown) => void): AsyncGenerator<string, void, undefined> {
  const source = items[Symbol.asyncIterator]();
  let latest: IteratorResult<StreamItem> | null = null;
  let wake: (() => void) | null = null;
  const pull = () => {
    latest = null;
    source.next().then(
      (result) => {
        latest = result;
        wake?.();
      },
      (error: unknown) => {
        // The headers are out: ending the stream makes the client come back, to where it was.
        failed(error);
        latest = { done: true, value: undefined };
        wake?.();
      },
    );
  };
  const taken = () => clock.after(stallMs, drop);
  let timer = taken();
  try {
    yield `retry: ${retryMs}\n\n`;
    timer.cancel();
    pull();
    for (;;) {
      if (latest === null) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          timer = clock.after(heartbeatMs, resolve);
        });
        timer.cancel();
        wake = null;
      }
      const found = latest as IteratorResult<StreamItem> | null;
      if (found?.done) return;
      timer = taken();
      yield found === null ? ": heartbeat\n\n" : frameOf(found.value);
      timer.cancel();
      if (found !== null) pull();
    }
  } finally {
    timer.cancel();
    void source.return?.(undefined)?.catch(failed);
  }
}

/** Event name = type, id = the chat's event number, if it has one. */
export function frameOf(item: StreamItem): string {
  if (item === "reset") return 'event: reset\ndata: {"reason":"read the current state again"}\n\n';
  const { number, type } = item;
  // JSON.stringify never puts a line end into its text.
  return `${number === null ? "" : `id: ${number}\n`}event: ${type}\ndata: ${JSON.stringify(eventData(item))}\n\n`;
}
