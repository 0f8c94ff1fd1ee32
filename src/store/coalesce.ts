/**
 * Gathers what arrives together into one statement: one call in flight, the next batch gathers meanwhile. No
 * sleep and no tick, so a lone item goes out at once. When a batch meets a lane that is stuck, its items go out each alone, in
 * their lane's order and few at a time: briefly first, which finds the stuck lanes among them, and then those patiently.
 * Further items of stuck lanes follow them; all other lanes go on.
 */
import type { BuildlaneError } from "../errors.js";
import { ContendedError } from "./store.js";

export interface Coalescer<T, R> {
  /** Sends an item with the next batch. */
  add(item: T): Promise<R>;
  /** Sends the next batch even when it is empty. */
  nudge(): void;
  /** Resolves when nothing is in flight and nothing waits. */
  idle(): Promise<void>;
}

/** How an item that was contended in a batch goes out: as it would there, or, where that was contended too, as one that may wait for its lane. */
export type Alone = false | "briefly" | "patiently";

interface Shape<T, R> {
  /** One result for each item, in order. May be called with no items by `nudge`. */
  send(items: T[], alone: Alone): Promise<R[]>;
  /** The lanes that an item must lock. */
  lanesOf(item: T): string[];
  /** What an item counts against `weightMax` of a batch. */
  weightOf(item: T): number;
  weightMax: number;
  /** What an answer brings beside its results: done before they are told, and when the next batch is on its way already, so that both go on at once. */
  afterwards?(): void;
  /** Items of one batch at most. */
  countMax?: number;
  /** Items with the same key never share a batch. */
  keyOf?(item: T): string | null;
  /** The item shares its lanes with no other of its batch. */
  isSolo?(item: T): boolean;
}

interface Waiting<T, R> {
  item: T;
  resolve(result: R): void;
  reject(error: unknown): void;
}

/** A driver writes to its socket some microtasks after it is asked; who went on at once would hold the batch up. */
const handOverTicks = 12;
/** Statements for contended items that run at once, of either kind: fewer than the pool's connections, which the others need. */
const aloneMax = 3;

/** Does work where no more than `max` is at it at once; the rest waits in line. */
function places(max: number): <V>(work: () => Promise<V>) => Promise<V> {
  let taken = 0;
  const line: (() => void)[] = [];
  return async (work) => {
    // Who ends gives its place to the next in line.
    if (taken >= max) await new Promise<void>((resolve) => line.push(resolve));
    else taken++;
    try {
      return await work();
    } finally {
      const next = line.shift();
      if (next) next();
      else taken--;
    }
  };
}

export function coalesce<T, R>({ send, lanesOf, weightOf, weightMax, keyOf, isSolo, afterwards, countMax = Number.POSITIVE_INFINITY }: Shape<T, R>): Coalescer<T, R> {
  let waiting: Waiting<T, R>[] = [];
  let nudged = false;
  let flying = false;
  /** Per stuck lane, the last of its lone items. */
  const stuck = new Map<string, Promise<void>>();
  const [briefly, patiently] = [places(aloneMax), places(aloneMax)];
  let quiet: (() => void)[] = [];

  function takeBatch(): Waiting<T, R>[] {
    const batch: Waiting<T, R>[] = [];
    const keys = new Set<string>();
    let weight = 0;
    const apart = isSolo && waiting.some(({ item }) => isSolo(item)) ? separate(isSolo) : null;
    const rest: Waiting<T, R>[] = [];
    let closed = false;
    for (const one of waiting) {
      const key = keyOf?.(one.item) ?? null;
      weight += weightOf(one.item);
      // The first always fits; once one does not, the later ones wait too, so that order is kept.
      closed ||= (batch.length > 0 && weight > weightMax) || (key !== null && keys.has(key)) || batch.length >= countMax || (apart?.(one.item) ?? false);
      if (closed) rest.push(one);
      else {
        if (key !== null) keys.add(key);
        batch.push(one);
      }
    }
    waiting = rest;
    return batch;
  }

  /** Whether an item must not join those that were asked about before. */
  function separate(solo: (item: T) => boolean): (item: T) => boolean {
    const taken = new Set<string>();
    const closed = new Set<string>();
    return (item) => {
      const lanes = lanesOf(item);
      if (lanes.some((lane) => closed.has(lane) || (solo(item) && taken.has(lane)))) return true;
      for (const lane of lanes) (solo(item) ? closed : taken).add(lane);
      return false;
    };
  }

  async function fly(): Promise<void> {
    // One turn of the event loop's microtasks, so that what was added together goes out together.
    await Promise.resolve();
    const isDone = () => waiting.length === 0 && !nudged;
    /** What the last answer still has to say. */
    let tellLast: (() => void) | null = null;
    for (;;) {
      if (isDone()) {
        tellLast?.();
        tellLast = null;
        if (isDone()) break;
      }
      nudged = false;
      const batch = takeBatch();
      try {
        const sending = send(batch.map((one) => one.item), false);
        if (tellLast) {
          // Heard below, and no surprise before that.
          sending.catch(() => undefined);
          for (let tick = 0; tick < handOverTicks; tick++) await null;
          tellLast();
          tellLast = null;
        }
        const results = await sending;
        const tellResults = () => batch.forEach((one, index) => one.resolve(results[index] as R));
        if (!afterwards) tellResults();
        else
          tellLast = () => {
            afterwards();
            tellResults();
          };
      } catch (error) {
        if (error instanceof ContendedError) batch.forEach(goAlone);
        else {
          batch.forEach((one) => one.reject(error));
          // Those that gathered behind it would only wait as long again, one batch after another, for the same answer.
          if ((error as Partial<BuildlaneError>).code === "database_unavailable") waiting.splice(0).forEach((one) => one.reject(error));
        }
      }
    }
    flying = false;
    settleQuiet();
  }

  function goAlone(one: Waiting<T, R>): void {
    const lanes = lanesOf(one.item);
    const before = lanes.map((lane) => stuck.get(lane));
    // Most of them met no stuck lane themselves, and must not stand in line behind those that did.
    const done = Promise.all(before)
      .then(() => briefly(() => send([one.item], "briefly")))
      .catch((error: unknown) => (error instanceof ContendedError ? patiently(() => send([one.item], "patiently")) : Promise.reject(error)))
      .then(([result]) => one.resolve(result as R), one.reject);
    for (const lane of lanes) stuck.set(lane, done);
    void done.then(() => {
      for (const lane of lanes) if (stuck.get(lane) === done) stuck.delete(lane);
      settleQuiet();
    });
  }

  function start(): void {
    if (flying) return;
    flying = true;
    void fly();
  }

  function settleQuiet(): void {
    if (flying || waiting.length > 0 || stuck.size > 0) return;
    const told = quiet;
    quiet = [];
    told.forEach((tell) => tell());
  }

  return {
    add: (item) =>
      new Promise<R>((resolve, reject) => {
        const one = { item, resolve, reject };
        if (stuck.size > 0 && lanesOf(item).some((lane) => stuck.has(lane))) goAlone(one);
        else {
          waiting.push(one);
          start();
        }
      }),
    nudge() {
      nudged = true;
      start();
    },
    idle: () =>
      new Promise((resolve) => {
        quiet.push(resolve);
        settleQuiet();
      }),
  };
}
