/** Retention: what is old goes in small steps, and nothing that is numbered starts again. */
import { expect } from "vitest";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, ids, scope, wide } from "./lab.js";
import type { Lab } from "./lab.js";

const hour = 3_600_000;
const prune = (lab: Lab, ms: number, keep: { ageMs?: number; count?: number; batch?: number } = {}) => lab.store.prune({ ageMs: hour, count: 1000, idempotencyMs: 24 * hour, batch: 100, ...keep }, T0 + ms);
const left = async (lab: Lab): Promise<string[]> => ids((await lab.store.list(scope, { limit: 100, include: { code: false, result: false } })).jobs).sort();

export const retention: Exercise = (check) => {
  check("finished jobs go by age, oldest first, in steps; numbers of jobs and events go on", async (lab) => {
    for (let index = 0; index < 5; index++) {
      await lab.accept(index * 10, "a");
      await lab.runAll(index * 10 + 1);
    }
    expect(await prune(lab, hour)).toEqual({ jobs: 0, more: false });
    expect(await prune(lab, hour + 25, { batch: 2 })).toEqual({ jobs: 2, more: true });
    expect(await prune(lab, hour + 25, { batch: 2 })).toEqual({ jobs: 1, more: false });
    expect(await left(lab)).toEqual(["j4", "j5"]);
    expect(await lab.store.get(scope, "j1")).toBeNull();
    expect((await lab.store.events(scope, "a", { after: 0, limit: 100 }))).toMatchObject({ floor: 9, events: [{ number: 10 }, { number: 11 }, { number: 12 }, { number: 13 }, { number: 14 }, { number: 15 }] });
    await prune(lab, 9 * hour);
    expect(await left(lab)).toEqual([]);
    const [next] = await lab.accept(9 * hour, "a");
    expect(next?.chatSeq).toBe(6);
    expect((await lab.events("a")).map((event) => event.number)).toEqual([16]);
    expect(await lab.store.stats(scope, T0 + 9 * hour)).toMatchObject({ totalCompleted: 5, totalQueued: 1 });
  });

  check("finished jobs go by count, the newest stay", async (lab) => {
    for (let index = 0; index < 5; index++) {
      await lab.accept(index * 10, `chat${index % 2}`);
      await lab.runAll(index * 10 + 1);
    }
    expect(await prune(lab, 100, { count: 2 })).toEqual({ jobs: 3, more: false });
    expect(await left(lab)).toEqual(["j4", "j5"]);
  });

  check("beyond the count superseded jobs go first, then the oldest; beyond the age all alike", async (lab) => {
    await lab.accept(0, "a");
    await lab.runAll(1);
    await lab.accept(10, "b");
    for (const ms of [11, 12]) await lab.accept(ms, ["b", { supersede: "pending" }]);
    await lab.runAll(20);
    await lab.accept(30, "c");
    await lab.runAll(31);
    // j1, j4 and j5 were built; j2 and j3 gave way to j4.
    expect(await prune(lab, 100, { count: 4 })).toEqual({ jobs: 1, more: false });
    expect(await left(lab)).toEqual(["j1", "j3", "j4", "j5"]);
    expect(await prune(lab, 100, { count: 2 })).toEqual({ jobs: 2, more: false });
    expect(await left(lab)).toEqual(["j4", "j5"]);
    await lab.accept(200, "d", ["d", { supersede: "pending" }]);
    await lab.runAll(201);
    expect(await prune(lab, hour + 150)).toEqual({ jobs: 2, more: false });
    expect(await left(lab)).toEqual(["j6", "j7"]);
  });

  check("what is not finished is never removed, however old", async (lab) => {
    await lab.accept(0, "a", "b", ["c", { delayMs: 99 * hour }], "d");
    await lab.store.setChatPaused(scope, "d", true, T0);
    await lab.take(1, 1);
    await lab.deadLetter(2, "e");
    expect((await prune(lab, 50 * hour)).jobs).toBe(1);
    expect(await left(lab)).toEqual(["j1", "j2", "j3", "j4"]);
  });

  check("an old job of a chat that still works goes without it", async (lab) => {
    await lab.accept(0, "a", "a");
    await lab.end(2, await lab.takeOne(1), ends.completed);
    const running = await lab.takeOne(3);
    expect((await prune(lab, 2 * hour)).jobs).toBe(1);
    expect((await lab.store.events(scope, "a", { after: 0, limit: 10 })).floor).toBe(4);
    expect((await lab.end(2 * hour, running, ends.completed)).kind).toBe("settled");
  });

  check("a key whose jobs were removed answers with what is left of them, until it is removed itself", async (lab) => {
    const group = { ...lab.group("a"), idempotency: { scope: "", key: "k", requestHash: "h" } };
    await lab.store.accept([group], wide, T0);
    await lab.runAll(1);
    await prune(lab, 2 * hour);
    const again = { ...lab.group("a"), idempotency: { scope: "", key: "k", requestHash: "h" } };
    expect(await lab.store.accept([again], wide, T0 + 2 * hour)).toEqual([{ kind: "replayed", jobs: [] }]);
    await prune(lab, 25 * hour);
    expect((await lab.store.accept([again], wide, T0 + 25 * hour))[0]?.kind).toBe("accepted");
  });

  check("rows of dead nodes go, and the totals that they counted stay", async (lab) => {
    await lab.accept(0, "a");
    await lab.end(2, await lab.takeOne(1, "gone"), ends.completed, "gone");
    await lab.store.pulse({ nodeId: "here", leaseMs: 60 * hour, slots: 1, draining: false }, T0);
    await prune(lab, 30_000);
    expect((await lab.store.stats(scope, T0 + 30_000)).nodes.map((node) => [node.id, node.alive])).toEqual([["here", true], ["gone", false]]);
    await prune(lab, 70_000);
    const stats = await lab.store.stats(scope, T0 + 70_000);
    expect([stats.nodes.map((node) => node.id), stats.totalCompleted, stats.totalQueued]).toEqual([["here"], 1, 0]);
  });
};
