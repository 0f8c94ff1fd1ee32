import { expect, it } from "vitest";
import { createEnds } from "../../src/history/ends.js";
import type { Wakeups } from "../../src/history/wakeups.js";

/** Ends over a store that answers as told, and one `wake` for all watches. */
function ends(ended: (ids: string[]) => Promise<string[]>) {
  const asked: string[][] = [];
  const wakes = new Set<() => void>();
  const wakeups: Wakeups = {
    watch() {
      let news = false;
      let resume = (): void => {};
      const wake = () => ((news = true), resume());
      wakes.add(wake);
      return {
        wake,
        async next(signal) {
          if (!news && !signal?.aborted) await new Promise<void>((resolve) => ((resume = resolve), signal?.addEventListener("abort", () => resolve())));
          const heard = news;
          news = false;
          return heard;
        },
        close: () => void wakes.delete(wake),
      };
    },
    reading: (read) => read(),
    close: () => {},
  };
  return { asked, wakes, ...createEnds({ ended: (ids) => (asked.push(ids), ended(ids)) }, wakeups), news: () => wakes.forEach((wake) => wake()) };
}
/** Lets everything go on that needs no time. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

it("tells those whose job has ended and no others, with one question for all chats at once, and leaves nothing behind", async () => {
  let over: string[] = [];
  const { asked, wakes, watch, news } = ends(async (ids) => ids.filter((id) => over.includes(id)));
  const told: string[] = [];
  const watches = ["a1", "a2", "b1", "b2"].map((id) => {
    const one = watch(id[0] as string, id);
    void one.next().then(() => told.push(id));
    return one;
  });
  await settle();
  expect([told, asked.flat().sort()]).toEqual([[], ["a1", "a2", "b1", "b2"]]);
  over = ["a2", "b1"];
  asked.length = 0;
  news();
  await settle();
  expect([told.sort(), asked]).toEqual([["a2", "b1"], [["a1", "a2", "b1", "b2"]]]);
  watches.forEach((one) => one.close());
  expect(wakes.size).toBe(0);
});

it("tells everybody of an error that a read does not outlast, and whoever joins in that very moment is told of what comes after", async () => {
  let broken = true;
  const { watch, news } = ends(async (ids) => {
    if (broken) throw new Error("no such column");
    return ids;
  });
  const first = [watch("a", "1"), watch("a", "2")];
  let late = Promise.resolve();
  const outcomes = await Promise.all(first.map((one) => one.next().catch((error: Error) => {
    broken = false;
    late = watch("a", "3").next();
    return error.message;
  })));
  expect(outcomes).toEqual(["no such column", "no such column"]);
  news();
  await late;
});

it("resolves at its signal, also when nobody answers", async () => {
  const { watch } = ends(() => new Promise(() => {}));
  const leave = new AbortController();
  const next = [watch("a", "1"), watch("a", "2")].map((one) => one.next(leave.signal));
  await settle();
  leave.abort();
  await Promise.all(next);
});

it("asks, even for who waits alone, when it was woken without news: a stopped queue wakes again and again, and only its answer ends that", async () => {
  let woken = 0;
  const wakeups: Wakeups = {
    watch: () => ({ wake: () => {}, next: async () => (++woken > 100 ? Promise.reject(new Error("spins")) : false), close: () => {} }),
    reading: (read) => read(),
    close: () => {},
  };
  const { watch } = createEnds({ ended: async () => Promise.reject(new Error("stopped")) }, wakeups);
  await expect(watch("a", "1").next()).rejects.toThrow("stopped");
  expect(woken).toBe(1);
});
