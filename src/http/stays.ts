/**
 * Requests that stay: event streams, and submitters who wait. All are counted against one limit, and all end at once
 * when the server closes, so that closing never waits for a client.
 */
import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";

/** How long answers may take to be flushed at closing before their sockets are cut, milliseconds. */
const flushMs = 300;
const retryAfterMs = 5000;

export interface Stay {
  /** Aborts when the client is gone or the server closes. */
  readonly signal: AbortSignal;
  leave(): void;
}

export interface Stays {
  readonly count: number;
  /** Null when there are too many. */
  enter(response: ServerResponse): Stay | null;
  close(): Promise<void>;
}

export function createStays(max: number, clock: Clock): Stays {
  const open = new Map<ServerResponse, AbortController>();
  let closing = false;
  let emptied: (() => void) | null = null;
  return {
    get count() {
      return open.size;
    },
    enter(response) {
      if (closing || open.size >= max) return null;
      const controller = new AbortController();
      open.set(response, controller);
      const leave = () => {
        response.off("close", leave);
        open.delete(response);
        controller.abort();
        if (open.size === 0) emptied?.();
      };
      response.on("close", leave);
      return { signal: controller.signal, leave };
    },
    async close() {
      closing = true;
      for (const controller of [...open.values()]) controller.abort();
      if (open.size === 0) return;
      await new Promise<void>((resolve) => {
        const timer = clock.after(flushMs, resolve);
        emptied = () => {
          timer.cancel();
          resolve();
        };
      });
      for (const response of [...open.keys()]) response.destroy();
    },
  };
}

export const tooManyStreams = (max: number): BuildlaneError =>
  new BuildlaneError("too_many_streams", `At most ${max} event streams may be open. Close some, or follow a whole chat instead of its jobs.`, { retryAfterMs });
