/**
 * Tells those who wait for a job's end when to look at it. They share one question at the news of their chats: asked by
 * each for itself, a chat with a hundred waiters was read a hundred times for each of its builds.
 */
import type { Store } from "../store/store.js";
import type { Wakeups } from "./wakeups.js";

export interface Ends {
  /** `next` resolves when the job has ended, before the call too, or is gone; maybe sooner, and when the signal aborts. Rejects as the store does. */
  watch(lane: string, jobId: string): { next(signal?: AbortSignal): Promise<void>; close(): void };
}

interface Waiter {
  jobId: string;
  tell(error?: unknown): void;
}
/** Those who wait in one chat. */
interface Party {
  lane: string;
  waiters: Set<Waiter>;
  left: AbortController;
  watch: ReturnType<Wakeups["watch"]>;
}

export function createEnds(store: Pick<Store, "ended">, wakeups: Wakeups): Ends {
  const parties = new Map<string, Party>();
  let gathered: { ids: string[]; answer: Promise<Set<string>> } | null = null;
  let asking: Promise<unknown> = Promise.resolve();

  /** What is asked while a question is under way goes along with the next one. */
  function ask(ids: string[]): Promise<Set<string>> {
    if (!gathered) {
      const all: string[] = [];
      const answer = asking.then(async () => {
        gathered = null;
        return new Set(await store.ended(all));
      });
      gathered = { ids: all, answer };
      asking = answer.catch(() => {});
    }
    gathered.ids.push(...ids);
    return gathered.answer;
  }

  async function follow(party: Party): Promise<void> {
    const { waiters, left: { signal }, watch } = party;
    try {
      for (;;) {
        const isNews = await watch.next(signal);
        if (signal.aborted) return;
        const ids = [...new Set([...waiters].map(({ jobId }) => jobId))];
        // Who waits alone looks at once: one way to the database less until the end is known. Not without news: what a stopped queue wakes, only its refusal ends.
        const ended = isNews && ids.length === 1 ? new Set(ids) : await wakeups.reading(() => ask(ids), signal);
        for (const waiter of waiters) if (ended.has(waiter.jobId)) waiter.tell();
      }
    } catch (error) {
      // First, so that nobody joins it any more.
      dissolve(party);
      for (const waiter of waiters) waiter.tell(error);
    }
  }

  function partyOf(lane: string): Party {
    const known = parties.get(lane);
    if (known) return known;
    const party: Party = { lane, waiters: new Set(), left: new AbortController(), watch: wakeups.watch(lane) };
    parties.set(lane, party);
    void follow(party);
    return party;
  }

  function dissolve(party: Party): void {
    if (parties.get(party.lane) === party) parties.delete(party.lane);
    party.left.abort();
    party.watch.close();
  }

  return {
    watch(lane, jobId) {
      let news: { error: unknown } | null = null;
      let resume = (): void => {};
      const waiter: Waiter = {
        jobId,
        tell(error) {
          news = { error };
          resume();
        },
      };
      const party = partyOf(lane);
      party.waiters.add(waiter);
      party.watch.wake();
      return {
        async next(signal) {
          if (!news && !signal?.aborted) {
            await new Promise<void>((resolve) => {
              resume = resolve;
              signal?.addEventListener("abort", resume, { once: true });
            });
            signal?.removeEventListener("abort", resume);
          }
          const heard = news;
          news = null;
          if (heard?.error !== undefined) throw heard.error;
        },
        close() {
          party.waiters.delete(waiter);
          if (party.waiters.size === 0) dissolve(party);
        },
      };
    },
  };
}
