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

/** Words of one node for the others are gathered for so long, as over PostgreSQL. */
const notifyEveryMs = 20;

export function createDoors(store: Store, world: SimulatedClock, network: Network): Doors {
  const listeners = new Map<SimulatedProcess, Set<(hint: Hint) => void>>();

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

  /** As by NOTIFY: at once to its own listeners, to each other process gathered, in one message that may be late or lost. */
  function speaker(from: SimulatedProcess): (hint: Hint) => void {
    const gathered = new Map<string, Hint>();
    const tell = (to: SimulatedProcess, hints: Hint[]) => {
      for (const hint of hints) for (const listener of listeners.get(to) ?? []) listener(hint);
    };
    const send = () => {
      const hints = [...gathered.values()];
      gathered.clear();
      for (const to of listeners.keys()) {
        if (to.state === "dead") listeners.delete(to);
        const ms = to === from ? null : network.hintWay();
        if (ms !== null) world.after(ms, () => to.deliver(() => tell(to, hints)));
      }
    };
    return (hint) => {
      queueMicrotask(() => from.deliver(() => tell(from, [hint])));
      if (gathered.size === 0) from.clock.after(notifyEveryMs, send);
      gathered.set(JSON.stringify(hint), hint);
    };
  }

  return {
    doorFor(process, isCut) {
      const own = new Set<(hint: Hint) => void>();
      const local = {
        hint: speaker(process),
        onHint(listener: (hint: Hint) => void) {
          own.add(listener);
          listeners.set(process, own);
          return () => {
            own.delete(listener);
            if (own.size === 0) listeners.delete(process);
          };
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
