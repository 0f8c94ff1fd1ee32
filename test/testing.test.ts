/** `buildlane/testing` as its users use it: time that they move, and a store that several queues share. */
import { expect, test } from "vitest";
import { createBuildQueue } from "../src/index.js";
import { createMemoryStore, createSimulatedClock } from "../src/testing.js";

test("a backoff of minutes takes no time, and happens exactly when it is due", async () => {
  const clock = createSimulatedClock({ seed: 3 });
  const startedAt: number[] = [];
  const queue = await createBuildQueue({
    store: "memory", clock, retryBaseMs: 600_000, retryMaxMs: 600_000, maxAttempts: 2,
    run: (_job, { attempt }) => {
      startedAt.push(clock.now());
      if (attempt === 1) throw new Error("not yet");
      return "done";
    },
  });
  const { id } = await queue.enqueue({ chatId: "c", messageId: "m", code: "1" });
  const realStart = performance.now();
  const job = await clock.until(queue.waitFor(id));
  expect(job).toMatchObject({ status: "completed", result: "done", attempt: 2 });
  expect(performance.now() - realStart).toBeLessThan(20_000);
  const [retrying] = (await events(queue, "c")).filter((event) => event.type === "job.retrying");
  expect(startedAt[1]! - startedAt[0]!).toBeGreaterThanOrEqual(Number(retrying?.data["delayMs"]));
  expect(Number(retrying?.data["delayMs"])).toBeGreaterThan(1000);
  await clock.until(queue.stop());
});

test("the same seed gives the same run", async () => {
  const run = async (seed: number) => {
    const clock = createSimulatedClock({ seed });
    const queue = await createBuildQueue({ store: "memory", clock, maxAttempts: 3, run: () => { throw new Error("never"); } });
    const { id } = await queue.enqueue({ chatId: "c", messageId: "m", code: "1" });
    await clock.until(queue.waitFor(id));
    const history = await events(queue, "c");
    await clock.until(queue.stop());
    return history;
  };
  expect(await run(5)).toEqual(await run(5));
  expect(await run(5)).not.toEqual(await run(6));
});

test("queues that share a memory store are nodes of one queue: what one accepts, another builds, in order", async () => {
  const clock = createSimulatedClock();
  const store = createMemoryStore({ clock });
  const built: string[] = [];
  const node = (name: string) => createBuildQueue({ store, clock, concurrency: 1, run: (job) => void built.push(`${name}:${job.chatId}${job.chatSeq}`) });
  const [one, two] = [await node("one"), await node("two")];
  const { jobs } = await one.enqueueMany(["a", "b", "a", "b"].map((chatId) => ({ chatId, messageId: "m", code: "1" })));
  await clock.until(Promise.all(jobs.map(({ id }) => two.waitFor(id))));
  for (const chat of ["a", "b"]) expect(built.filter((entry) => entry.includes(`:${chat}`)).map((entry) => entry.split(":")[1])).toEqual([`${chat}1`, `${chat}2`]);
  expect(new Set(built.map((entry) => entry.split(":")[0]))).toEqual(new Set(["one", "two"]));
  await clock.until(Promise.all([one.stop(), two.stop()]));
});

test("waiting for what cannot happen any more rejects instead of hanging", async () => {
  const clock = createSimulatedClock();
  await expect(clock.until(new Promise(() => {}))).rejects.toThrow("no timer left");
  await expect(clock.until(Promise.reject(new Error("its own")))).rejects.toThrow("its own");
  expect(await clock.until(new Promise((resolve) => void clock.after(1e9, () => resolve(clock.monotonic()))))).toBe(1e9);
});

async function events(queue: Awaited<ReturnType<typeof createBuildQueue>>, chatId: string) {
  const found = [];
  const enough = new AbortController();
  for await (const event of queue.events({ chatId }, { after: 0, signal: enough.signal })) {
    if (event === "reset") continue;
    found.push(event);
    if (event.status === "completed" || event.status === "failed") break;
  }
  return found;
}
