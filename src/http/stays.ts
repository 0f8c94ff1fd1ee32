/**
 * Requests that stay: event streams, and submitters who wait. All are counted against one limit, and all end at once
 * when the server closes, so that closing never waits for a client.
 */
import type { ServerResponse } from "node:http";
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";
import { limits } from "../options.js";

/** How long answers may take to be flushed at closing before their sockets are cut, milliseconds. */
const flushMs = 300;
const retryAfterMs = 5000;

export interface Stay {
  /** Aborts when the client is gone or the server closes. */
  readonly signal: AbortSignal;
  /** Aborts the signal; the place is free when the answer is closed. */
  end(): void;
  leave(): void;
}

export interface Stays {
  readonly count: number;
  /** Null when there are too many, in all or of this caller; a caller without a name has no limit of its own. */
  enter(response: ServerResponse, caller?: string): Stay | null;
  close(): Promise<void>;
}

export function createStays(max: number, clock: Clock, perCallerMax: number = limits.streamsPerKeyMax): Stays {
  const perCaller = new Map<string, number>();
  const open = new Map<ServerResponse, AbortController>();
  let closing = false;
  let emptied: (() => void) | null = null;
  return {
    get count() {
      return open.size;
    },
    enter(response, caller) {
      const own = caller === undefined ? 0 : (perCaller.get(caller) ?? 0);
      if (closing || open.size >= max || own >= perCallerMax) return null;
      if (caller !== undefined) perCaller.set(caller, own + 1);
      const controller = new AbortController();
      open.set(response, controller);
      const leave = () => {
        response.off("close", leave);
        if (open.delete(response) && caller !== undefined) {
          const left = (perCaller.get(caller) ?? 1) - 1;
          if (left === 0) perCaller.delete(caller);
          else perCaller.set(caller, left);
        }
        controller.abort();
        if (open.size === 0) emptied?.();
      };
      response.on("close", leave);
      return { signal: controller.signal, end: () => controller.abort(), leave };
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
  new BuildlaneError("too_many_streams", `At most ${max} event streams may be open, ${limits.streamsPerKeyMax} of one key. Close some, or follow a whole chat instead of its jobs.`, { retryAfterMs });
