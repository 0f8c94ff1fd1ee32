/**
 * Streams that cannot begin because the database is away. They are opened with 200 nevertheless, and silent but for their
 * heartbeats until it answers: a browser's EventSource comes back whenever a stream ends, and gives up for good at any
 * answer but 200. What the database says then may also end the stream, and who comes back hears that as a status.
 */
import { sleep } from "../clock.js";
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";
import { unlessAborted } from "../unless-aborted.js";
import type { StreamItem } from "./sse.js";

/** Between two tries, milliseconds. */
const againMs = 1000;

/** Refused for now, by nothing that the caller did. */
export const isAway = (error: unknown): boolean => error instanceof BuildlaneError && error.statusCode === 503 && error.retryable;

/** What `begin` finds (null: nothing more to tell), tried again while the database is away; nothing once the signal aborts or `isOver`. */
export async function* beginLate(begin: () => Promise<AsyncIterable<StreamItem> | null>, { clock, signal, isOver }: { clock: Clock; signal: AbortSignal; isOver: () => boolean }): AsyncGenerator<StreamItem, void, undefined> {
  for (;;) {
    await sleep(clock, againMs, signal);
    if (signal.aborted || isOver()) return;
    try {
      // One may meet a connection that fell silent, and then takes its ten seconds.
      const items = await unlessAborted(begin(), signal);
      if (items) yield* items;
      return;
    } catch (error) {
      if (!isAway(error)) throw error;
    }
  }
}
