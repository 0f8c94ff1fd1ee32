/** Wakes those who wait for news of one chat: the store's hints, sorted by chat, and a poll for when a hint is lost. */
import type { Clock } from "../clock.js";
import type { Store } from "../store/store.js";

/** The longest that news may take when every hint is lost, milliseconds. */
const pollMs = 1000;

export interface Wakeups {
  /** `chatId` is a lane's key, as in hints. Call before reading; `next` then resolves at news since that call, at the poll's time, or when the signal aborts; true for news. */
  watch(chatId: string): { next(signal?: AbortSignal): Promise<boolean>; close(): void };
  close(): void;
}

export function createWakeups(store: Store, clock: Clock): Wakeups {
  const byChat = new Map<string, Set<() => void>>();
  const unsubscribe = store.onHint((hint) => {
    if (hint.kind === "chat") byChat.get(hint.chatId)?.forEach((wake) => wake());
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
        async next(signal) {
          if (!news && !signal?.aborted) {
            await new Promise<void>((resolve) => {
              const timer = clock.after(pollMs, resolve);
              const done = () => {
                timer.cancel();
                signal?.removeEventListener("abort", done);
                resolve();
              };
              resume = done;
              signal?.addEventListener("abort", done, { once: true });
            });
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
    close: unsubscribe,
  };
}
