/** Retention: what is old goes in small steps, and nothing that is numbered starts again. */
import { expect } from "vitest";
import type { Keep } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { verify } from "../../../src/history/verify.js";
import { T0, agingMs, ends, ids, scope, wide } from "./lab.js";
import type { Lab } from "./lab.js";

const hour = 3_600_000;
const prune = (lab: Lab, ms: number, keep: Partial<Keep> = {}) => lab.store.prune({ ageMs: hour, count: 1000, idempotencyMs: 24 * hour, batch: 100, ...keep }, T0 + ms);
const left = async (lab: Lab): Promise<string[]> => ids((await lab.store.list(scope, { limit: 100, include: { code: false, result: false } })).jobs).sort();
const told = async (lab: Lab, chatId: string): Promise<string[]> => (await lab.events(chatId)).map(({ number, type }) => `${number} ${type}`);
const pauseAndResume = async (lab: Lab, ms: number, chatId: string, times: number) => {
  for (let index = 0; index < 2 * times; index++) await lab.store.setChatPaused(scope, chatId, index % 2 === 0, T0 + ms + index);
};
const violations = async (lab: Lab) => (await lab.store.readHistory((history) => verify(history, { agingMs }))).violations;

export const retention: Exercise = (check) => {
  check("finished jobs go by age, oldest first, in steps; numbers of jobs and events go on", async (lab) => {
    for (let index = 0; index < 5; index++) {
      await lab.accept(index * 10, "a");
      await lab.runAll(index * 10 + 1);
    }
    expect(await prune(lab, hour)).toMatchObject({ jobs: 0, more: false });
    expect(await prune(lab, hour + 25, { batch: 2 })).toMatchObject({ jobs: 2, more: true });
    expect(await prune(lab, hour + 25, { batch: 2 })).toMatchObject({ jobs: 1, more: false });
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
    expect(await prune(lab, 100, { count: 2 })).toMatchObject({ jobs: 3, more: false });
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
    expect(await prune(lab, 100, { count: 4 })).toMatchObject({ jobs: 1, more: false });
    expect(await left(lab)).toEqual(["j1", "j3", "j4", "j5"]);
    expect(await prune(lab, 100, { count: 2 })).toMatchObject({ jobs: 2, more: false });
    expect(await left(lab)).toEqual(["j4", "j5"]);
    await lab.accept(200, "d", ["d", { supersede: "pending" }]);
    await lab.runAll(201);
    expect(await prune(lab, hour + 150)).toMatchObject({ jobs: 2, more: false });
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

  check("of a chat's own events that are old the latest pause or resume and the latest policy stay, and the history still proves the promises", async (lab) => {
    await lab.accept(0, "a");
    await lab.runAll(1);
    await pauseAndResume(lab, 10, "a", 3);
    await lab.store.setPolicy(scope, "a", { whileRetrying: "yield" }, T0 + 20);
    await lab.store.setPolicy(scope, "a", { afterFailure: "hold" }, T0 + 21);
    await lab.store.setChatPaused(scope, "a", true, T0 + 22);
    await lab.accept(30, "a");
    expect(await prune(lab, hour + 15)).toMatchObject({ jobs: 1, chatEvents: 6, more: false });
    expect(await told(lab, "a")).toEqual(["10 chat.policyChanged", "11 chat.policyChanged", "12 chat.paused", "13 job.accepted"]);
    expect(await prune(lab, 2 * hour)).toMatchObject({ jobs: 0, chatEvents: 1, more: false });
    expect(await told(lab, "a")).toEqual(["11 chat.policyChanged", "12 chat.paused", "13 job.accepted"]);
    expect((await lab.store.events(scope, "a", { after: 0, limit: 1 })).floor).toBe(10);
    expect(await violations(lab)).toEqual([]);
    await lab.store.setChatPaused(scope, "a", false, T0 + 3 * hour);
    expect(await lab.runAll(3 * hour + 1)).toEqual(["j2"]);
    expect(await violations(lab)).toEqual([]);
    expect(await prune(lab, 9 * hour)).toMatchObject({ jobs: 1, chatEvents: 1 });
    expect(await told(lab, "a")).toEqual(["11 chat.policyChanged", "14 chat.resumed"]);
    expect(await violations(lab)).toEqual([]);
  });

  check("a chat's own events stay while a job is kept that began under what they say", async (lab) => {
    await lab.store.setPolicy(scope, "a", { whileRetrying: "yield" }, T0);
    await lab.accept(hour - 500, "a", "a");
    await lab.end(hour - 498, await lab.takeOne(hour - 499), ends.timedOut);
    await lab.runAll(hour - 497);
    await lab.store.setPolicy(scope, "a", { whileRetrying: "block" }, T0 + hour - 400);
    await lab.store.setPolicy(scope, "a", { whileRetrying: "yield" }, T0 + hour - 399);
    await lab.runAll(hour);
    expect(await prune(lab, hour + 100)).toMatchObject({ jobs: 0, chatEvents: 0 });
    expect(await violations(lab)).toEqual([]);
    expect(await prune(lab, 2 * hour - 399)).toMatchObject({ jobs: 1, chatEvents: 0 });
    expect(await violations(lab)).toEqual([]);
    expect(await prune(lab, 3 * hour)).toMatchObject({ jobs: 1, chatEvents: 2 });
    expect(await told(lab, "a")).toEqual(["9 chat.policyChanged"]);
  });

  check("that a chat was erased is told for good", async (lab) => {
    await lab.accept(0, "a");
    await lab.store.erase(scope, "a", T0 + 1);
    await pauseAndResume(lab, 10, "a", 1);
    expect(await prune(lab, 2 * hour)).toMatchObject({ chatEvents: 1 });
    expect(await told(lab, "a")).toEqual(["3 chat.erased", "5 chat.resumed"]);
  });

  check("events of chats are looked at a step at a time: those that stay do not hinder those behind them, and there is no hurry without any to remove", async (lab) => {
    for (const [index, chatId] of ["a", "b", "c"].entries()) await lab.store.setPolicy(scope, chatId, { afterFailure: "hold" }, T0 + index);
    await lab.store.setPolicy(scope, "d", { afterFailure: "hold" }, T0 + 5);
    await pauseAndResume(lab, 10, "d", 4);
    const steps: [number, boolean][] = [];
    let cursor: string | undefined;
    do {
      const step = await prune(lab, 2 * hour, { batch: 2, cursor });
      steps.push([step.chatEvents, step.more]);
      cursor = step.cursor;
    } while (cursor !== undefined);
    expect(steps).toEqual([[0, false], [0, false], [2, true], [2, true], [2, true], [1, true], [0, false]]);
    expect(await told(lab, "d")).toEqual(["1 chat.policyChanged", "9 chat.resumed"]);
  });

  check("one crash is forgotten when it is old, and quarantined code stays so", async (lab) => {
    const crash = async (ms: number, codeHash: string) => {
      const [job] = await lab.accept(ms, ["a", { codeHash }]);
      await lab.end(ms + 2, await lab.takeOne(ms + 1), { ...ends.crashed, kind: "failed" });
      return (await lab.job(job?.id as string)).failure?.quarantined ?? false;
    };
    expect([await crash(0, "twice"), await crash(10, "twice")]).toEqual([false, true]);
    await crash(20, "once");
    await prune(lab, hour + 22);
    expect(await crash(2 * hour, "once")).toBe(false);
    await prune(lab, 3 * hour);
    // Its latest crash is not old yet.
    expect(await crash(3 * hour + 1, "once")).toBe(true);
    await prune(lab, 9 * hour);
    expect((await lab.store.quarantined(10)).map(({ codeHash }) => codeHash)).toEqual(["once", "twice"]);
  });
};
