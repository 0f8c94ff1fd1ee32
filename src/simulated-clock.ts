/**
 * A clock that stands still until it is told to go on: time, timers, chance and ids come from a seed, so the same seed
 * gives the same run. Timers fire in order of their time, then of their making, each at its own time.
 */
import type { Clock } from "./clock.js";

export interface SimulatedClock extends Clock {
  /** Goes on by `ms`, firing what is due on the way, and letting promises settle between timers. */
  advance(ms: number): Promise<void>;
  /** Goes to the next timer and fires it; false when there is none. */
  next(): Promise<boolean>;
  /** Goes from timer to timer until `work` settles, and settles like it. Rejects when no timer is left that could help. */
  until<T>(work: Promise<T>): Promise<T>;
  readonly pendingTimers: number;
}

/** Mulberry32: small, fast, and good enough to draw faults from. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Entry {
  readonly at: number;
  readonly order: number;
  state: "set" | "cancelled" | "fired";
  callback(): void;
}

/** Timers that one turn of the event loop fires at most. */
const stepsTogether = 32;

export function createSimulatedClock({ seed = 1, startMs = 1_800_000_000_000 }: { seed?: number; startMs?: number } = {}): SimulatedClock {
  const random = seededRandom(seed);
  /** A binary heap by time, then order. */
  const heap: Entry[] = [];
  /** Cancelled ones stay in the heap until their time comes. */
  let cancelled = 0;
  let now = startMs;
  let order = 0;
  let ids = 0;

  const before = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
  function push(entry: Entry): void {
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (before(heap[parent] as Entry, entry)) break;
      heap[at] = heap[parent] as Entry;
      at = parent;
    }
    heap[at] = entry;
  }
  function pop(): Entry | undefined {
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (before(last, heap[child] as Entry)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
    return top;
  }
  function peek(): Entry | undefined {
    while (heap[0]?.state === "cancelled") {
      pop();
      cancelled--;
    }
    return heap[0];
  }
  function cancel(entry: Entry): void {
    if (entry.state !== "set") return;
    entry.state = "cancelled";
    cancelled++;
  }
  const make = (delayMs: number, callback: () => void): Entry => {
    const entry: Entry = { at: now + Math.max(0, delayMs), order: order++, state: "set", callback };
    push(entry);
    return entry;
  };
  /** Everything that promises do before the next timer. */
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  function fire(entry: Entry): void {
    pop();
    entry.state = "fired";
    now = Math.max(now, entry.at);
    entry.callback();
  }
  async function next(): Promise<boolean> {
    await settle();
    const entry = peek();
    if (!entry) return false;
    fire(entry);
    await settle();
    return true;
  }
  /** Fires what is due until then. All that promises do is done between two steps; steps are queued together, for a turn of the event loop each costs more than most of them. */
  function fireUntil(until: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let over = false;
      const step = (isLast: boolean): void => {
        if (over) return;
        const entry = peek();
        over = !entry || entry.at > until;
        if (over) return resolve();
        try {
          fire(entry as Entry);
        } catch (error) {
          over = true;
          reject(error);
        }
        if (isLast) queue();
      };
      const queue = (): void => {
        for (let count = 1; count <= stepsTogether; count++) setImmediate(step, count === stepsTogether);
      };
      queue();
    });
  }

  const id = (): string => `id${(ids++).toString(36).padStart(6, "0")}`;

  return {
    now: () => now,
    monotonic: () => now - startMs,
    after(delayMs, callback) {
      const entry = make(delayMs, callback);
      return { cancel: () => cancel(entry) };
    },
    random,
    id,
    jobId: id,
    timers: {
      setTimeout: (callback, delayMs) => make(delayMs, callback),
      clearTimeout: (handle) => void (handle && cancel(handle as Entry)),
    },
    async advance(ms) {
      const until = now + ms;
      await fireUntil(until);
      now = until;
      await settle();
    },
    next,
    async until(work) {
      let settled = false;
      const noted = work.then(() => void (settled = true), () => void (settled = true));
      for (await settle(); !settled; await settle()) {
        if (!(await next())) {
          await settle();
          if (!settled) throw new Error("The simulated clock has no timer left, and what was waited for has not happened.");
        }
      }
      await noted;
      return work;
    },
    get pendingTimers() {
      return heap.length - cancelled;
    },
  };
}
