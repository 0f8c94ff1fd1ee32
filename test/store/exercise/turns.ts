/** Claiming and settling: P1 (order), P2 (one at a time), P4, P5 (fenced), P8 (fairness); retries and delays hold their places. */
import { expect } from "vitest";
import type { Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, ids, iso, scope, wide, agingMs, guardOf } from "./lab.js";

const jobsOf = (claims: Claim[]): string[] => claims.map(({ job }) => job.id);

export const turns: Exercise = (check) => {
  check("a chat's jobs start one at a time, in order of acceptance", async (lab) => {
    const [a1, a2] = await lab.accept(0, "a", "a", "b");
    const first = await lab.take(1);
    expect(first.map(({ job }) => job.chatId).sort()).toEqual(["a", "b"]);
    expect(jobsOf(first)).toContain(a1?.id);
    expect(await lab.take(2, 10, "n2")).toEqual([]);
    expect(await lab.store.chat(scope, "a", 10, { code: false, result: false })).toMatchObject({ running: [{ id: a1?.id }], pending: [{ id: a2?.id, queuePosition: 2 }] });
    await lab.end(3, first.find(({ job }) => job.chatId === "a") as Claim, ends.completed);
    expect(jobsOf(await lab.take(4, 10, "n2"))).toEqual([a2?.id]);
  });

  check("a claim tells what its runner must know, and grows the lane's fence", async (lab) => {
    await lab.accept(0, "a", "a");
    const first = await lab.takeOne(1);
    expect(first).toMatchObject({ spent: 0, strikes: 0, startedAt: iso(1), job: { attempt: 1, chatSeq: 1 } });
    await lab.end(2, first, ends.timedOut);
    const second = await lab.takeOne(302);
    expect(second).toMatchObject({ spent: 1, strikes: 1, job: { id: first.job.id, attempt: 2 } });
    expect(second.fence).toBeGreaterThan(first.fence);
    expect(second.claimId).not.toBe(first.claimId);
  });

  check("an end is recorded when job, attempt, node, fence and claim id are right, and not when any one is wrong", async (lab) => {
    await lab.accept(0, "a", "b");
    const [claim, other] = (await lab.take(1)) as [Claim, Claim];
    const guard = guardOf(claim);
    const before = [await lab.job(claim.job.id), await lab.events(claim.job.chatId)];
    const wrong: [string, object, string][] = [
      ["job", { jobId: other.job.id }, "n1"],
      ["unknown job", { jobId: "nobody" }, "n1"],
      ["attempt", { attempt: guard.attempt + 1 }, "n1"],
      ["node", {}, "n2"],
      ["fence", { fence: guard.fence + 1 }, "n1"],
      ["older fence", { fence: guard.fence - 1 }, "n1"],
      ["claim id", { claimId: other.claimId === guard.claimId ? "another" : other.claimId }, "n1"],
    ];
    for (const [what, change, nodeId] of wrong) {
      await lab.store.pulse({ nodeId, leaseMs: 4000, slots: 3, draining: false }, T0 + 2);
      const ending = { ...guard, ...change, end: ends.completed };
      // The other job's guard differs in its chat too, so only what is wrong is its id.
      const { settled } = await lab.store.turn({ nodeId, claimId: `x ${what}`, endings: [ending], want: 0 }, T0 + 2);
      expect([what, settled]).toEqual([what, [{ kind: "notMine", jobId: ending.jobId }]]);
    }
    expect([await lab.job(claim.job.id), await lab.events(claim.job.chatId)]).toEqual(before);
    expect((await lab.job(other.job.id)).status).toBe("running");
    expect(await lab.end(3, claim, ends.completed)).toMatchObject({ kind: "settled", jobId: claim.job.id, chatId: claim.job.chatId, status: "completed", runAt: null, quarantined: false });
  });

  check("an attempt has one recorded outcome, however often it is offered", async (lab) => {
    await lab.accept(0, "a");
    const claim = await lab.takeOne(1);
    await lab.end(2, claim, ends.completed);
    expect(await lab.end(3, claim, ends.failed)).toEqual({ kind: "notMine", jobId: claim.job.id });
    expect(await lab.end(3, claim, ends.completed)).toEqual({ kind: "notMine", jobId: claim.job.id });
    expect((await lab.events("a")).map((event) => event.type)).toEqual(["job.accepted", "job.started", "job.completed"]);
    expect((await lab.store.stats(scope, T0 + 4)).totalCompleted).toBe(1);
  });

  check("ends that come together are judged each by itself, and answered in their order", async (lab) => {
    await lab.accept(0, "a", "b", "c");
    const claims = await lab.take(1);
    const endings = claims.map((claim, index) => ({ ...guardOf(claim), ...(index === 1 ? { claimId: "nobody's" } : {}), end: index === 2 ? ends.crashed : ends.completed }));
    const { settled } = await lab.store.turn({ nodeId: "n1", claimId: "z", endings, want: 0 }, T0 + 2);
    expect(settled.map((one) => [one.jobId, one.kind === "settled" ? one.status : one.kind])).toEqual([[claims[0]?.job.id, "completed"], [claims[1]?.job.id, "notMine"], [claims[2]?.job.id, "pending"]]);
  });

  check("one turn ends attempts and takes the lanes that they free", async (lab) => {
    const [, a2] = await lab.accept(0, "a", "a");
    const claim = await lab.takeOne(1);
    const { settled, claims } = await lab.store.turn({ nodeId: "n1", claimId: "both", endings: [{ ...guardOf(claim), end: ends.completed }], want: 1 }, T0 + 2);
    expect([settled[0]?.kind, jobsOf(claims)]).toEqual(["settled", [a2?.id]]);
  });

  check("attempts of a chat never overlap, not even when the clock goes back", async (lab) => {
    const [a1, a2] = await lab.accept(0, "a", "a");
    await lab.end(500, await lab.takeOne(100), ends.completed);
    await lab.store.turn({ nodeId: "n1", claimId: "early", endings: [], want: 1 }, T0 + 300);
    const [one, two] = [await lab.job(a1?.id as string), await lab.job(a2?.id as string)];
    expect([one.completedAt, two.startedAt]).toEqual([iso(500), iso(500)]);
  });

  check("lanes are taken from the head of one line; who was served goes behind all that wait", async (lab) => {
    for (let round = 0; round < 3; round++) await lab.accept(round, "a", "b", "c");
    await lab.accept(5, "d");
    const served: string[] = [];
    for (let ms = 10; served.length < 10; ms++) {
      const claim = await lab.takeOne(ms);
      served.push(claim.job.chatId);
      await lab.end(ms, claim, ends.completed);
    }
    expect(served.slice(0, 4).sort()).toEqual(["a", "b", "c", "d"]);
    expect(served.join("")).toMatch(/^abcd(abc){2}$/);
  });

  check("a turn looks from where the latest pulse saw the line begin, and what comes into line later comes to its end", async (lab) => {
    const pulsed = async (ms: number) => (await lab.store.pulse({ nodeId: "n1", leaseMs: 1e9, slots: 3, draining: false }, T0 + ms)).lineFrom;
    const take = async (ms: number, lineFrom: number | null, want = 9) =>
      (await lab.store.turn({ nodeId: "n1", claimId: `from ${ms}`, endings: [], want, lineFrom: lineFrom ?? undefined }, T0 + ms)).claims.map(({ job }) => job.chatId);
    // Nothing stands in line: what was accepted just before may yet become visible.
    expect(await pulsed(0)).toBe(T0 - 2000);
    await lab.accept(0, "old");
    await lab.accept(10, "paused");
    await lab.store.setChatPaused({ tenant: "" }, "paused", true, T0 + 20);
    expect(await pulsed(5000)).toBe(T0);
    await lab.accept(6000, "new");
    expect(await take(6001, T0 + 1, 1)).toEqual(["new"]);
    expect(await take(6002, await pulsed(6002), 1)).toEqual(["old"]);
    // Paused for long, its turn is not an old one when it goes on.
    const from = await pulsed(9000);
    expect(from).toBe(T0 + 7000);
    await lab.accept(9001, "newer");
    await lab.store.setChatPaused({ tenant: "" }, "paused", false, T0 + 9002);
    await lab.accept(9003, "newest");
    expect(await take(9004, from)).toEqual(["newer", "paused", "newest"]);
  });

  check("a node takes no more lanes than it wants", async (lab) => {
    await lab.accept(0, "a", "b", "c", "d");
    expect(await lab.take(1, 0)).toEqual([]);
    expect(await lab.take(1, 3)).toHaveLength(3);
    expect(await lab.take(1, 3)).toHaveLength(1);
  });

  check("a node without a lease takes nothing", async (lab) => {
    await lab.accept(0, "a");
    expect((await lab.store.turn({ nodeId: "never seen", claimId: "x", endings: [], want: 1 }, T0 + 1)).claims).toEqual([]);
    await lab.store.pulse({ nodeId: "n1", leaseMs: 1000, slots: 3, draining: false }, T0);
    expect((await lab.store.turn({ nodeId: "n1", claimId: "y", endings: [], want: 1 }, T0 + 1000)).claims).toEqual([]);
    expect((await lab.store.turn({ nodeId: "n1", claimId: "z", endings: [], want: 1 }, T0 + 999)).claims).toHaveLength(1);
  });

  check("higher priorities run earlier, equal ones in order, and positions are exact all the while", async (lab) => {
    const priorities = [0, 5, 0, -5, 5, 10, 0, -5];
    const jobs = await lab.accept(0, ...priorities.map((priority) => ["a", { priority }] as ["a", { priority: number }]));
    const expected = [...jobs].sort((x, y) => (priorities[y.chatSeq - 1] as number) - (priorities[x.chatSeq - 1] as number) || x.chatSeq - y.chatSeq);
    for (let left = [...expected], ms = 1; left.length > 0; ms++) {
      const { pending } = await lab.store.chat(scope, "a", 50, { code: false, result: false });
      expect(ids(pending)).toEqual(ids(left));
      for (const [index, job] of pending.entries()) {
        expect((await lab.job(job.id)) as object).toMatchObject({ queuePosition: index + 1 });
        expect(job).toMatchObject({ queuePosition: index + 1 });
      }
      const claim = await lab.takeOne(ms);
      expect(claim.job.id).toBe(left.shift()?.id);
      expect((await lab.store.chat(scope, "a", 50, { code: false, result: false })).pending.map((job) => job.status === "pending" && job.queuePosition)).toEqual(left.map((_, index) => index + 2));
      await lab.end(ms, claim, ends.completed);
    }
  });

  check("a submitter is told the exact position that his priority gives", async (lab) => {
    await lab.accept(0, "a", "a");
    expect((await lab.accept(1, ["a", { priority: 1 }]))[0]?.queuePosition).toBe(1);
    await lab.takeOne(2);
    expect((await lab.accept(3, ["a", { priority: 1 }], ["a", { priority: -1 }], "a")).map((job) => job.queuePosition)).toEqual([2, 6, 5]);
  });

  check("a priority is a head start of bounded time: who has waited longer than that goes first", async (lab) => {
    const [old] = await lab.accept(0, ["a", { priority: -1 }]);
    const [within] = await lab.accept(agingMs - 1, "a");
    const [beyond] = await lab.accept(agingMs + 1, "a");
    expect(await lab.runAll(agingMs + 10)).toEqual([within?.id, old?.id, beyond?.id]);
    // Between chats as well.
    const [low] = await lab.accept(200_000, ["x", { priority: -1 }]);
    await lab.accept(200_000 + agingMs - 1, "y");
    await lab.accept(200_000 + agingMs + 1, "z");
    const order = await lab.take(300_000, 3);
    expect(order.map(({ job }) => job.chatId)).toEqual(["y", "x", "z"]);
    expect(order[1]?.job.id).toBe(low?.id);
  });

  check("a job that backs off holds its chat's place, and other chats go on", async (lab) => {
    const [a1, a2, b1, b2] = await lab.accept(0, "a", "a", "b", "b");
    const [claim, beside] = (await lab.take(1)) as [Claim, Claim];
    expect(await lab.end(10, claim, ends.crashed)).toMatchObject({ status: "pending", runAt: iso(710) });
    expect(await lab.take(11)).toEqual([]);
    await lab.end(12, beside, ends.completed);
    expect(jobsOf(await lab.take(13))).toEqual([b2?.id]);
    expect(await lab.take(709)).toEqual([]);
    expect(await lab.job(a1?.id as string)).toMatchObject({ status: "pending", nextAttemptAt: iso(710), queuePosition: 1, attempt: 1, attempts: [{ outcome: "retrying", failureCode: "worker_crashed" }] });
    const again = await lab.takeOne(710);
    expect(again).toMatchObject({ job: { id: a1?.id, attempt: 2 }, spent: 1 });
    await lab.end(711, again, ends.completed);
    expect(jobsOf(await lab.take(712))).toEqual([a2?.id]);
    expect(b1?.id).toBe(beside.job.id);
  });

  check("a delayed job holds its chat's place until its time", async (lab) => {
    const [slow, next] = await lab.accept(0, ["a", { delayMs: 500 }], "a");
    expect(await lab.job(slow?.id as string)).toMatchObject({ nextAttemptAt: iso(500), queuePosition: 1 });
    expect(await lab.take(499)).toEqual([]);
    expect((await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 100)).nextReadyInMs).toBeCloseTo(400, 3);
    expect(await lab.runAll(500)).toEqual([slow?.id, next?.id]);
  });

  check("what is given back costs no attempt and keeps its place", async (lab) => {
    const [a1, a2] = await lab.accept(0, "a", "a");
    const claim = await lab.takeOne(1);
    expect(await lab.end(2, claim, ends.released)).toMatchObject({ status: "pending", runAt: iso(2) });
    const again = await lab.takeOne(3, "n2");
    expect(again).toMatchObject({ job: { id: a1?.id, attempt: 2 }, spent: 0 });
    await lab.end(4, again, ends.completed, "n2");
    expect(jobsOf(await lab.take(5))).toEqual([a2?.id]);
  });

  check("two nodes that take at once never get the same lane", async (lab) => {
    await lab.accept(0, ...Array.from({ length: 30 }, (_, index) => `chat${index}`));
    for (const nodeId of ["n1", "n2", "n3"]) await lab.store.pulse({ nodeId, leaseMs: 60_000, slots: 10, draining: false }, T0);
    const answers = await Promise.all(["n1", "n2", "n3"].flatMap((nodeId) => [0, 1].map((call) => lab.store.turn({ nodeId, claimId: `${nodeId}.${call}`, endings: [], want: 5 }, T0 + 1))));
    const taken = answers.flatMap(({ claims }) => jobsOf(claims));
    expect(new Set(taken).size).toBe(taken.length);
    const rest = await lab.store.turn({ nodeId: "n1", claimId: "rest", endings: [], want: 30 }, T0 + 2);
    expect(taken.length + rest.claims.length).toBe(30);
  });

  check("a batch of hundreds is ended and taken in one turn each", async (lab) => {
    await lab.store.accept([lab.group(...Array.from({ length: 400 }, (_, index) => `c${index % 200}`))], wide, T0);
    const claims = await lab.take(1, 500);
    expect(claims).toHaveLength(200);
    const { settled, claims: next } = await lab.store.turn({ nodeId: "n1", claimId: "all", endings: claims.map((claim) => ({ ...guardOf(claim), end: ends.completed })), want: 500 }, T0 + 2);
    expect([settled.filter((one) => one.kind === "settled").length, next.length]).toEqual([200, 200]);
  });
};
