/** The store as a queue's callers have it: when the queue was stopped, every call rejects alike, whichever store it is. */
import { queueStopped } from "../errors.js";
import type { Store } from "./store.js";

/** They answer nothing, and are no question. */
const unasked = new Set<PropertyKey>(["hint", "onHint", "close"] satisfies (keyof Store)[]);

export const untilStopped = (store: Store, isStopped: () => boolean): Store => guardedPart(store, isStopped);

function guardedPart<T extends object>(part: T, isStopped: () => boolean): T {
  return new Proxy(part, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value === "object" && value !== null) return guardedPart(value, isStopped);
      if (typeof value !== "function" || unasked.has(name)) return value;
      return async (...args: unknown[]): Promise<unknown> => {
        if (isStopped()) throw queueStopped();
        try {
          return (await value.apply(target, args)) as unknown;
        } catch (error) {
          // What closed under a call that was under way: each driver has words of its own for it.
          throw isStopped() ? queueStopped() : error;
        }
      };
    },
  });
}
