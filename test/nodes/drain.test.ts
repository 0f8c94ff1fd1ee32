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

/** A node that leaves and one that stays, on one store that can be away for both. `ends` ends what runs, in the order of starts. */
async function underOutage() {
  const clock = createSimulatedClock();
  const store = createMemoryStore({ clock });
  let isAway = false;
  const outage = new Proxy(store, {
    get: (target, verb: keyof Store) =>
      !["turn", "pulse", "leave", "rescue"].includes(verb) ? target[verb] : async (request: never) => {
        if (isAway) throw databaseUnavailable(new Error("away"));
        return (target[verb] as (request: never) => unknown)(request);
      },
  });
  const ends: (() => void)[] = [];
  const node = () => clock.until(createBuildQueue({ store: outage, clock, concurrency: 2, drainMs: 10_000, maxNodeLosses: 1, run: () => new Promise((end) => ends.push(() => end("done"))) }));
  const leaving = await node();
  const { jobs } = await clock.until(leaving.enqueueMany(["a", "b"].map((chatId) => ({ chatId, messageId: "m", code: "1" }))));
  while (ends.length < 2) await clock.next();
  return { clock, leaving, jobs, ends, staying: await node(), away: (so: boolean) => void (isAway = so) };
}

for (const { name, awayForMs } of [
  { name: "begins while the database is away", awayForMs: 500 },
  { name: "begins when the lease is lost already", awayForMs: 5000 },
])
  it(`a drain that ${name} waits within its time for the database, and records what had ended by then: nothing runs again`, async () => {
    const { clock, leaving, jobs, ends, staying, away } = await underOutage();
    away(true);
    ends.forEach((end) => end());
    await clock.advance(awayForMs);
    const stopped = leaving.stop();
    await clock.advance(6000);
    away(false);
    await clock.until(stopped);
    for (const { id } of jobs) expect(await clock.until(staying.waitFor(id))).toMatchObject({ status: "completed", attempt: 1 });
    expect(ends).toHaveLength(2);
    await clock.until(staying.stop());
  });

it("a drain that the database was away for from its very beginning is no loss of a node when it is back within the drain's time", async () => {
  const { clock, leaving, jobs, ends, staying, away } = await underOutage();
  away(true);
  const stopped = leaving.stop();
  await clock.advance(9000);
  away(false);
  await clock.until(stopped);
  while (ends.length < 4) await clock.next();
  ends.forEach((end) => end());
  for (const { id } of jobs) expect(await clock.until(staying.waitFor(id))).toMatchObject({ status: "completed", attempt: 2, attempts: [{ outcome: "released" }, { outcome: "completed" }] });
  await clock.until(staying.stop());
});
