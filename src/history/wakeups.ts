/** Wakes those who wait for news of one chat: the store's hints, sorted by chat, and a poll for when a hint is lost. Lets them read through an outage. */
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";
import type { Store } from "../store/store.js";
import { unlessAborted } from "../unless-aborted.js";

/** The longest that news may take when every hint is lost, and the pause before a read that was refused is asked again, milliseconds. */
const pollMs = 1000;

export interface Wakeups {
  /** `chatId` is a lane's key, as in hints. Call before reading; `next` then resolves at news since that call, at the poll's time, or when the signal aborts; true for news. `wake`: as if there were news. */
  watch(chatId: string): { next(signal?: AbortSignal): Promise<boolean>; wake(): void; close(): void };
  /**
   * What the read answers, asked again every second while the database is away (any retryable BuildlaneError). There is no
   * upper bound: what is waited for is in good hands meanwhile, an error would tell nothing of it, and how long it is worth
   * waiting for only the caller knows. So it ends by the signal, with its reason and at once, or by the queue's stop, with what the read says then.
   */
  reading<T>(read: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Wakes all who wait: they read once more, and hear what becomes of that. */
  close(): void;
}

export function createWakeups(store: Store, clock: Clock): Wakeups {
  const byChat = new Map<string, Set<() => void>>();
  const pauses = new Set<() => void>();
  let closed = false;
  const unsubscribe = store.onHint((hint) => {
    if (hint.kind === "chat") byChat.get(hint.chatId)?.forEach((wake) => wake());
  });

  /** Until the poll's time, or when the signal aborts, or whoever has the key turns it. */
  const pause = (signal: AbortSignal | undefined, key: (resume: () => void) => void = () => {}): Promise<void> =>
    new Promise((resolve) => {
      if (closed) return resolve();
      const done = () => {
        timer.cancel();
        pauses.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = clock.after(pollMs, done);
      signal?.addEventListener("abort", done, { once: true });
      pauses.add(done);
      key(done);
    });

  return {
    watch(chatId) {
      let news = false;
      let resume: (() => void) | null = null;
      const wake = () => {
        news = true;
        resume?.();
      };
      const set = byChat.get(chatId) ?? new Set();
      byChat.set(chatId, set.add(wake));
      return {
        wake,
        async next(signal) {
          if (!news && !signal?.aborted) {
            await pause(signal, (done) => (resume = done));
            resume = null;
          }
          const heard = news;
          news = false;
          return heard;
        },
        close() {
          set.delete(wake);
          if (set.size === 0) byChat.delete(chatId);
          resume?.();
        },
      };
    },
    async reading(read, signal) {
      for (;;) {
        try {
          // One may meet a connection that fell silent, and then takes its ten seconds.
          return await (signal && !signal.aborted ? unlessAborted(read(), signal) : read());
        } catch (error) {
          if (closed || signal?.aborted || !(error instanceof BuildlaneError && error.retryable)) throw error;
        }
        await pause(signal);
        signal?.throwIfAborted();
      }
    },
    close() {
      closed = true;
      unsubscribe();
      for (const done of pauses) done();
    },
  };
}
