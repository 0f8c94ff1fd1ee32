/**
 * A node's way to the one database: every call takes time there and back, and may fail before it did anything, or after
 * it did everything with the answer lost. Hints may be late or lost.
 */
import { databaseUnavailable } from "../../src/errors.js";
import type { SimulatedClock } from "../../src/simulated-clock.js";
import type { Hint, Store } from "../../src/store/store.js";
import type { SimulatedProcess } from "./process.js";

export interface Network {
  /** Milliseconds for one way; `null`: the call fails there. */
  way(verb: string, leg: "there" | "back", cut: boolean): number | null;
  /** Milliseconds until a hint is heard; `null`: never. */
  hintWay(): number | null;
}

export interface Doors {
  /** The store as one process sees it; `isCut` tells when the network to it is. */
  doorFor(process: SimulatedProcess, isCut: () => boolean): Store;
}

export function createDoors(store: Store, world: SimulatedClock, network: Network): Doors {
  const listeners = new Map<(hint: Hint) => void, SimulatedProcess>();

  function call(process: SimulatedProcess, isCut: () => boolean, verb: string, work: () => Promise<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const fail = (ms: number) => world.after(ms, () => process.deliver(() => reject(databaseUnavailable(new Error("simulated")))));
      const answer = (callback: () => void): void => {
        const back = network.way(verb, "back", isCut());
        if (back === null) fail(5);
        else world.after(back, () => process.deliver(callback));
      };
      const there = network.way(verb, "there", isCut());
      if (there === null) fail(5);
      else world.after(there, () => void work().then((value) => answer(() => resolve(value)), (error: unknown) => answer(() => reject(error))));
    });
  }

  return {
    doorFor(process, isCut) {
      const local = {
        hint(hint: Hint) {
          for (const [listener, to] of listeners) {
            if (to.state === "dead") listeners.delete(listener);
            const ms = network.hintWay();
            if (ms !== null) world.after(ms, () => to.deliver(() => listeners.has(listener) && listener(hint)));
          }
        },
        onHint(listener: (hint: Hint) => void) {
          listeners.set(listener, process);
          return () => void listeners.delete(listener);
        },
        close: async () => undefined,
      };
      return new Proxy(store, {
        get(target, name, receiver) {
          if (name in local) return local[name as keyof typeof local];
          const value: unknown = Reflect.get(target, name, receiver);
          if (typeof value !== "function") return value;
          return (...args: unknown[]) => call(process, isCut, String(name), () => (value as (...all: unknown[]) => Promise<unknown>).apply(target, args));
        },
      });
    },
  };
}
