/** A clean stop while answers are lost: what the node has in hand, or may have, is another node's at once and cost nothing. */
import { afterEach, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { databaseUnavailable } from "../../src/errors.js";
import { createBuildQueue } from "../../src/index.js";
import type { BuildQueue } from "../../src/index.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";

const open: BuildQueue[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

it("a claim whose answer was lost when its node drained runs on another node, and is no loss of a node", async () => {
  const store = createMemoryStore({ clock: systemClock });
  let losing = false;
  // One turn arrives and takes effect; what it is answered does not.
  const deafened = new Proxy(store, {
    get: (target, name: keyof Store) =>
      name === "turn" ? async (...args: Parameters<Store["turn"]>) => {
        const answer = await target.turn(...args);
        const lost = losing && answer.claims.length > 0;
        if (lost) losing = false;
        if (lost) throw databaseUnavailable(new Error("lost"));
        return answer;
      } : target[name],
  });
  const starts: { node: string; messageId: string; end(): void }[] = [];
  let told = () => {};
  const node = async (name: string, its: Store) => {
    const queue = await createBuildQueue({
      store: its, concurrency: 1, drainMs: 0, maxNodeLosses: 1,
      run: ({ messageId }) => new Promise((end) => (starts.push({ node: name, messageId, end: () => end("done") }), told())),
    });
    open.push(queue);
    return queue;
  };
  const started = async (count: number) => {
    while (starts.length < count) await new Promise<void>((resolve) => (told = resolve));
    return starts[count - 1] as (typeof starts)[number];
  };
  const leaving = await node("leaving", deafened);
  const { jobs } = await leaving.enqueueMany(["1", "2"].map((messageId) => ({ chatId: "a", messageId, code: "1" })));
  const first = await started(1);
  const staying = await node("staying", store);
  losing = true;
  // Its end is recorded, and the same turn claims the second job: nobody here ever hears of it.
  first.end();
  while ((await staying.get(jobs[1]?.id as string)).status !== "running");
  await leaving.stop();
  const second = await started(2);
  expect(second).toMatchObject({ node: "staying", messageId: "2" });
  second.end();
  expect(await staying.waitFor(jobs[1]?.id as string)).toMatchObject({ status: "completed", attempt: 2, attempts: [{ outcome: "released" }, { outcome: "completed" }] });
});

it("a drain whose end the database was away for is no loss of a node: it had said that it drains", async () => {
  const clock = createSimulatedClock();
  const store = createMemoryStore({ clock });
  const verbs = ["turn", "pulse", "leave"];
  let isAway = false;
  const leavingStore = new Proxy(store, {
    get: (target, name: keyof Store) =>
      !verbs.includes(name) ? target[name] : async (request: { draining?: boolean }) => {
        if (isAway) throw databaseUnavailable(new Error("away"));
        const answer = await (target[name] as (request: unknown) => Promise<unknown>)(request);
        // The last that arrives says so.
        isAway = request.draining === true;
        return answer;
      },
  });
  let starts = 0;
  let started = () => {};
  const begun = new Promise<void>((resolve) => (started = resolve));
  const node = (its: Store) =>
    createBuildQueue({ store: its, clock, concurrency: 1, drainMs: 10_000, maxNodeLosses: 1, run: () => (started(), ++starts === 1 ? new Promise(() => {}) : Promise.resolve("done")) });
  const leaving = await clock.until(node(leavingStore));
  const job = await clock.until(leaving.enqueue({ chatId: "a", messageId: "m", code: "1" }));
  await clock.until(begun);
  const staying = await clock.until(node(store));
  await clock.until(leaving.stop());
  expect(isAway).toBe(true);
  expect(await clock.until(staying.waitFor(job.id))).toMatchObject({ status: "completed", attempt: 2, attempts: [{ outcome: "released" }, { outcome: "completed" }] });
  await clock.until(staying.stop());
});
