/**
 * The only file that reads time, sets timers, or makes chance and ids. Everything else gets a Clock, so a test or a
 * simulation can put its own in place and replay a run from a seed.
 */
import { customAlphabet } from "nanoid";

export interface Timer {
  /** Stops it from firing; harmless when it fired already. */
  cancel(): void;
}

export interface Clock {
  /** Wall-clock milliseconds since 1970. */
  now(): number;
  /** Milliseconds that never jump back; only differences mean anything. */
  monotonic(): number;
  /** Calls back once after `delayMs`. */
  after(delayMs: number, callback: () => void): Timer;
  /** A number in [0, 1). */
  random(): number;
  /** A new id, URL-safe, never given before. */
  id(): string;
  /** One that sorts behind those of seconds ago, so that new jobs stand together in an index and not each on a page of its own. */
  jobId(): string;
  /** XState's shape of the same timers. */
  readonly timers: { setTimeout(callback: () => void, delayMs: number): unknown; clearTimeout(handle: unknown): void };
}

// Without "-" and "_", so that an id can be double-clicked, and never looks like a flag on a command line.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const makeId = customAlphabet(alphabet, 21);

/** A job's id begins with its time in steps of four seconds, five digits (until 2086); sixteen random ones follow, 95 bits. */
const stepMs = 4000;
const makeRest = customAlphabet(alphabet, 16);
let step = -1;
let stepDigits = "";
function digitsOf(nowMs: number): string {
  const now = Math.floor(nowMs / stepMs);
  if (now !== step) {
    step = now;
    stepDigits = "";
    for (let rest = now, place = 0; place < 5; place++, rest = Math.floor(rest / alphabet.length)) stepDigits = alphabet.charAt(rest % alphabet.length) + stepDigits;
  }
  return stepDigits;
}

/** `setTimeout` counts in 32 bits: a longer delay would fire at once. */
const delayMsMax = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, callback) {
    const handle = setTimeout(callback, Math.min(Math.max(0, delayMs), delayMsMax));
    return { cancel: () => clearTimeout(handle) };
  },
  random: () => Math.random(),
  id: () => makeId(),
  jobId: () => digitsOf(Date.now()) + makeRest(),
  timers: {
    setTimeout: (callback, delayMs) => setTimeout(callback, Math.min(delayMs, delayMsMax)),
    clearTimeout: (handle) => clearTimeout(handle as NodeJS.Timeout),
  },
};

/** Resolves after `delayMs` by the given clock, or when the signal aborts. */
export const sleep = (clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.after(signal?.aborted ? 0 : delayMs, done);
    signal?.addEventListener("abort", done, { once: true });
  });
