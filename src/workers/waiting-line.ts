/** Who waits for a worker, first come, first served. A waiter whose signal aborts leaves the line. */
import { deferred } from "./deferred.js";
import type { Deferred } from "./deferred.js";

export interface WaitingLine<T> {
  readonly length: number;
  /** Rejects with the signal's reason when it aborts first. */
  wait(signal: AbortSignal): Promise<T>;
  /** Gives to the first in line; false when nobody waits. */
  give(value: T): boolean;
  rejectAll(error: Error): void;
}

export function waitingLine<T>(): WaitingLine<T> {
  // A Set keeps the order and forgets anyone at once.
  const line = new Set<Deferred<T>>();
  return {
    get length() {
      return line.size;
    },
    async wait(signal) {
      signal.throwIfAborted();
      const mine = deferred<T>();
      const leave = () => {
        if (line.delete(mine)) mine.reject(signal.reason);
      };
      line.add(mine);
      signal.addEventListener("abort", leave, { once: true });
      try {
        return await mine.promise;
      } finally {
        signal.removeEventListener("abort", leave);
      }
    },
    give(value) {
      const [first] = line;
      if (!first) return false;
      line.delete(first);
      first.resolve(value);
      return true;
    },
    rejectAll(error) {
      for (const one of line) one.reject(error);
      line.clear();
    },
  };
}
