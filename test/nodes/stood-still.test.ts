/**
 * A process that stands still (frozen, or held up by a run that never yields) finds its timers due when it goes on, but what
 * came or was begun before may be worked on first. By then its lanes may be another node's (P2).
 */
import { expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";

/** A clock that goes on at once, without its timers. */
function standingClock() {
  const clock = createSimulatedClock();
  let stood = 0;
  return { clock, standing: { ...clock, monotonic: () => clock.monotonic() + stood }, standStill: (ms: number) => void (stood += ms) };
}

it("begins nothing of an answer that it had not read before it stood still for longer than its lease (P2)", async () => {
  const { clock, standing, standStill } = standingClock();
  const store = createMemoryStore({ clock });
  let read = () => {};
  const unread = new Promise<void>((resolve) => (read = resolve));
  const slow = new Proxy(store, {
    get: (target, verb: keyof Store) =>
      verb !== "acceptAndStart" ? target[verb] : async (...args: Parameters<Store["acceptAndStart"]>) => {
        const answer = await target.acceptAndStart(...args);
        await unread;
        return answer;
      },
  });
  let runs = 0;
  const queue = await createBuildQueue({ store: slow, clock: standing, run: () => ++runs });
  const accepted = queue.enqueue({ chatId: "a", messageId: "m", code: "1" });
  await clock.advance(1);
  standStill(5000);
  read();
  const { id } = await accepted;
  await clock.advance(1);
  expect(runs).toBe(0);
  // The pulses find that the lane is still this node's by the store's word, and that nobody works on it.
  expect(await clock.until(queue.waitFor(id))).toMatchObject({ attempts: [{ outcome: "released" }, { outcome: "completed" }] });
  await clock.until(queue.stop());
});

it("begins nothing beside a run that held it up for longer than its lease (P2)", async () => {
  const { clock, standing, standStill } = standingClock();
  const begun: string[] = [];
  const queue = await createBuildQueue({
    store: createMemoryStore({ clock }), clock: standing, concurrency: 2,
    run({ chatId }) {
      begun.push(chatId);
      if (begun.length === 1) standStill(5000);
    },
  });
  const { jobs } = await queue.enqueueMany(["a", "b"].map((chatId) => ({ chatId, messageId: "m", code: "1" })));
  await clock.advance(1);
  expect(begun).toEqual(["a"]);
  const [a, b] = await Promise.all(jobs.map(({ id }) => clock.until(queue.waitFor(id))));
  // What it was held up by came to its end, and nobody had taken that lane.
  expect(a).toMatchObject({ attempts: [{ outcome: "completed" }] });
  expect(b).toMatchObject({ attempts: [{ outcome: "released" }, { outcome: "completed" }] });
  await clock.until(queue.stop());
});
