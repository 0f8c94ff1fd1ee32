/** Lanes that a node takes ahead of free slots: nobody else's, in line all the same, and on record when they have begun. */
import { expect } from "vitest";
import { laneKey } from "../../../src/store/scope.js";
import type { Begun, Claim, Ending, TurnAnswer, TurnRequest } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, guardOf, ids, iso, scope } from "./lab.js";
import type { Lab } from "./lab.js";

const handMs = 1000;
let calls = 0;

/** A turn of a living node that takes lanes ahead, or tells of those that it has. */
async function turn(lab: Lab, ms: number, request: Partial<TurnRequest> & { clusterCap?: number } = {}): Promise<TurnAnswer> {
  const { clusterCap, nodeId = "n1", ...rest } = request;
  await lab.store.pulse({ nodeId, leaseMs: 4000, slots: 3, draining: false, ...(clusterCap === undefined ? {} : { clusterCap }) }, T0 + ms);
  return lab.store.turn({ nodeId, claimId: `ahead${++calls}`, endings: [], want: 0, handMs, ...rest }, T0 + ms);
}
async function takeAhead(lab: Lab, ms: number, ahead = 10): Promise<Claim[]> {
  return (await turn(lab, ms, { ahead })).claims;
}
async function takeOneAhead(lab: Lab, ms: number): Promise<Claim> {
  const [claim, ...others] = await takeAhead(lab, ms);
  expect([claim?.startedAt, others]).toEqual([null, []]);
  return claim as Claim;
}
const begunAt = (claim: Claim, ms: number): Begun => ({ ...guardOf(claim), startedMs: T0 + ms });
/** Its run began and was over then. */
const ran = (claim: Claim, from: number, to: number, end: Ending["end"] = ends.completed): Ending => ({ ...guardOf(claim), startedMs: T0 + from, endedMs: T0 + to, end });

export const ahead: Exercise = (check) => {
  check("what is taken ahead is pending, in line, and nobody else's until its time is over", async (lab) => {
    const [job] = await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    expect([claim.job.id, claim.job.attempt, claim.fence]).toEqual([job?.id, 1, 1]);
    expect(await lab.job(claim.job.id)).toMatchObject({ status: "pending", attempt: 0, queuePosition: 1 });
    expect([ids((await lab.take(20)).map((one) => one.job)), await takeAhead(lab, 20)]).toEqual([[], []]);
    const [later] = await lab.take(10 + handMs, 1, "n2");
    expect([later?.job.id, later?.fence]).toEqual([job?.id, 2]);
    // Whoever asks why it waited so long reads it here.
    expect((await lab.events("a")).at(-1)?.data).toEqual({ nodeId: "n2", slots: 3, fence: 2, inHandUntil: iso(10 + handMs) });
  });

  check("a run that is over is recorded as started and ended, with its own times", async (lab) => {
    const [job] = await lab.accept(0, "a", "a");
    const claim = await takeOneAhead(lab, 10);
    const { settled } = await turn(lab, 20, { endings: [ran(claim, 12, 15)] });
    expect(settled).toEqual([{ kind: "settled", jobId: job?.id, chatId: "a", status: "completed", runAt: null, quarantined: false, failureCode: null }]);
    expect(await lab.job(claim.job.id)).toMatchObject({ status: "completed", attempt: 1, startedAt: iso(12), completedAt: iso(15), attempts: [{ startedAt: iso(12), endedAt: iso(15), outcome: "completed", nodeId: "n1" }] });
    expect((await lab.events("a")).map(({ number, type, at }) => [number, type, at])).toEqual([[1, "job.accepted", iso(0)], [2, "job.accepted", iso(0)], [3, "job.started", iso(12)], [4, "job.completed", iso(15)]]);
    // The chat's next one follows.
    expect((await takeOneAhead(lab, 30)).job.chatSeq).toBe(2);
  });

  check("a run that is over and was not built ends as any other does", async (lab) => {
    await lab.accept(0, "a", "b", "c");
    const [failed, retried, given] = await takeAhead(lab, 10);
    const answer = await turn(lab, 20, { endings: [ran(failed as Claim, 12, 13, ends.failed), ran(retried as Claim, 12, 14, ends.timedOut), ran(given as Claim, 12, 15, ends.released)] });
    expect(answer.settled.map((one) => "status" in one && one.status)).toEqual(["failed", "pending", "pending"]);
    expect((await lab.job((retried as Claim).job.id)).attempts).toMatchObject([{ startedAt: iso(12), endedAt: iso(14), outcome: "retrying", failureCode: "timed_out" }]);
    expect((await lab.job((given as Claim).job.id)).attempts).toMatchObject([{ outcome: "released" }]);
  });

  check("a run that goes on is recorded as running, and what one says of it later counts", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    expect(await turn(lab, 20, { begun: [begunAt(claim, 12)] })).toMatchObject({ onRecord: [claim.job.id], refused: [] });
    expect(await lab.job(claim.job.id)).toMatchObject({ status: "running", attempt: 1, startedAt: iso(12) });
    expect((await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 20)).held).toMatchObject([{ jobId: claim.job.id, fence: claim.fence, claimId: claim.claimId }]);
    // The answer was lost: told again, it is on record all the same, once.
    expect(await turn(lab, 30, { begun: [begunAt(claim, 12)] })).toMatchObject({ onRecord: [claim.job.id], refused: [] });
    await turn(lab, 40, { endings: [ran(claim, 12, 38)] });
    expect((await lab.events("a")).map(({ type }) => type)).toEqual(["job.accepted", "job.started", "job.completed"]);
  });

  check("one that waited in hand for longer than a moment says since when, and an end that came late when it came", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    await turn(lab, 500, { endings: [ran(claim, 300, 400)] });
    const [, started, completed] = await lab.events("a");
    expect([started?.data["takenAt"], completed?.data["recordedAt"]]).toEqual([iso(10), iso(500)]);
  });

  check("no start is later than its record, nor before the lane's last end or the job's acceptance", async (lab) => {
    await lab.accept(0, "a");
    await lab.end(50, await lab.takeOne(0), ends.completed);
    await lab.accept(60, "a");
    const claim = await takeOneAhead(lab, 70);
    await turn(lab, 80, { endings: [ran(claim, 40, 1000)] });
    expect(await lab.job(claim.job.id)).toMatchObject({ startedAt: iso(60), completedAt: iso(80) });
  });

  check("what is given back is anybody's at once, in its old place, and says that it was in hand", async (lab) => {
    await lab.accept(0, "a");
    await lab.accept(1, "b");
    const [a, b] = await takeAhead(lab, 10);
    expect((await turn(lab, 20, { endings: [{ ...guardOf(a as Claim), end: ends.returned }, { ...guardOf(b as Claim), end: ends.returned }] })).settled).toMatchObject([{ kind: "notMine" }, { kind: "notMine" }]);
    expect(await lab.runAll(30, "n2")).toEqual([(a as Claim).job.id, (b as Claim).job.id]);
    expect((await lab.events("a"))[1]?.data).toMatchObject({ nodeId: "n2", inHandUntil: iso(20) });
  });

  check("a lane that was in a hand before, and a job that was tried before, wait for a slot of their own, and so do those behind them", async (lab) => {
    await lab.accept(0, "a");
    await lab.end(0, await lab.takeOne(0), ends.released);
    await lab.accept(5, "b");
    expect(await takeAhead(lab, 10)).toEqual([]);
    expect((await turn(lab, 20, { want: 1, ahead: 5 })).claims.map(({ job, startedAt }) => [job.chatId, startedAt !== null])).toEqual([["a", true], ["b", false]]);
    // b came back from the hand of a node that is lost.
    expect(await takeAhead(lab, 20 + handMs)).toEqual([]);
    expect((await lab.takeOne(20 + handMs)).job.chatId).toBe("b");
  });

  check("nothing is taken ahead of what is claimed for a slot, nor while fewer lanes wait than slots are free", async (lab) => {
    await lab.accept(0, "a", "b", "c");
    expect((await turn(lab, 10, { want: 2, ahead: 5 })).claims.map(({ job, startedAt }) => [job.chatId, startedAt !== null])).toEqual([["a", true], ["b", true], ["c", false]]);
    await lab.accept(20, "d");
    expect((await turn(lab, 20, { want: 2, ahead: 5 })).claims.map(({ job, startedAt }) => [job.chatId, startedAt !== null])).toEqual([["d", true]]);
  });

  check("where other nodes live, a turn takes its node's part of half of a long line, and nothing of a short one", async (lab) => {
    await lab.store.pulse({ nodeId: "n2", leaseMs: 4000, slots: 3, draining: false }, T0);
    await lab.accept(0, ...Array.from({ length: 23 }, (_, index) => `chat${index}`));
    // Twice its three slots would be in hand.
    expect(await takeAhead(lab, 10)).toHaveLength(0);
    await lab.accept(10, ...Array.from({ length: 5 }, (_, index) => `late${index}`));
    expect(await takeAhead(lab, 10)).toHaveLength(7);
    // Of a long line no more than was asked for.
    expect(await takeAhead(lab, 20, 2)).toHaveLength(2);
  });
  check("a priority waits for a slot of its own, and so do those behind it: several nodes follow the ranks to the letter", async (lab) => {
    await lab.accept(0, "a", "b");
    await lab.accept(100, ["c", { priority: -1 }], "d");
    await lab.accept(200, ["e", { priority: 1 }]);
    expect((await takeAhead(lab, 300)).map(({ job }) => job.chatId)).toEqual(["a", "b", "d"]);
    expect((await turn(lab, 300, { want: 1, ahead: 5 })).claims.map(({ job, startedAt }) => [job.chatId, startedAt !== null])).toEqual([["e", true]]);
  });

  /** Each makes what is in hand somebody else's business; a run that began at 40 then counts for nothing. */
  const refusals: [name: string, arrange: (lab: Lab, claim: Claim) => Promise<unknown>, turnAt?: number][] = [
    ["its chat is paused", (lab) => lab.store.setChatPaused(scope, "a", true, T0 + 30)],
    ["the queue was paused before it began", (lab) => lab.store.setQueuePaused(true, T0 + 30)],
    ["it was cancelled", (lab, claim) => lab.store.cancel(scope, claim.job.id, T0 + 30)],
    ["its chat was erased", (lab) => lab.store.erase(scope, "a", T0 + 30)],
    ["another one of its chat goes before it now", (lab) => lab.accept(30, ["a", { priority: 10 }])],
    ["its time is over and another node has its lane", (lab) => lab.take(10 + handMs, 1, "n2"), 20 + handMs],
    ["the cluster's cap binds now", (lab) => lab.store.pulse({ nodeId: "n2", leaseMs: 60_000, slots: 3, draining: false, clusterCap: 1 }, T0 + 30)],
  ];
  for (const [name, arrange, turnAt = 50] of refusals) {
    check(`a start ahead is refused when ${name}`, async (lab) => {
      await lab.accept(0, "a");
      const claim = await takeOneAhead(lab, 10);
      await arrange(lab, claim);
      const before = await lab.events("a");
      expect(await turn(lab, turnAt, { begun: [begunAt(claim, 40)] })).toMatchObject({ onRecord: [], refused: [claim.job.id] });
      // Its run goes on for a moment, and until it is over nobody has the lane.
      expect((await turn(lab, turnAt, { endings: [ran(claim, 40, 45)] })).settled).toMatchObject([{ kind: "notMine" }]);
      expect(await lab.events("a")).toEqual(before);
    });
  }
  check("a run that began before its job was cancelled and redriven is not the redriven job's; one that begins afterwards is", async (lab) => {
    for (const [begins, from] of [[40, 0], [140, 100]] as const) {
      await lab.accept(from, "a");
      const claim = await takeOneAhead(lab, from + 10);
      await lab.store.cancel(scope, claim.job.id, T0 + from + 20);
      await lab.store.redrive(scope, claim.job.id, { agingMs: 1000 }, T0 + from + (begins === 40 ? 45 : 35));
      const before = await lab.job(claim.job.id);
      const { onRecord } = await turn(lab, from + 50, { begun: [begunAt(claim, begins)] });
      expect(onRecord).toEqual(begins === 40 ? [] : [claim.job.id]);
      if (begins === 40) {
        expect((await turn(lab, from + 60, { endings: [ran(claim, begins, begins + 5)] })).settled).toMatchObject([{ kind: "notMine" }]);
        expect(await lab.job(claim.job.id)).toMatchObject({ status: "pending", createdAt: before.createdAt });
        // Its lane is free now.
        await lab.runAll(from + 70);
      }
    }
  });
  check("a lane whose start was refused is nobody's until its run is over", async (lab) => {
    await lab.accept(0, "a", "a");
    const claim = await takeOneAhead(lab, 10);
    await lab.store.cancel(scope, claim.job.id, T0 + 30);
    await turn(lab, 50, { begun: [begunAt(claim, 40)] });
    expect(await lab.take(60, 1, "n2")).toEqual([]);
    await turn(lab, 70, { endings: [ran(claim, 40, 65)] });
    expect((await lab.takeOne(80, "n2")).job.chatSeq).toBe(2);
  });
  check("a chat that is accepted into while what was cancelled still runs ahead of its record waits for it (P2)", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    await lab.store.cancel(scope, claim.job.id, T0 + 30);
    await lab.store.pulse({ nodeId: "n2", leaseMs: 4000, slots: 3, draining: false }, T0 + 40);
    const accepted = await lab.store.acceptAndStart([lab.group("a")], { agingMs: 1000, pendingPerChatMax: 10, pendingMax: 10, rate: null }, { nodeId: "n2", claimId: "start", want: 1 }, T0 + 40);
    expect(accepted.claims).toEqual([]);
  });
  check("a run that began before the queue was paused counts", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    await lab.store.setQueuePaused(true, T0 + 30);
    expect((await turn(lab, 50, { endings: [ran(claim, 20, 45)] })).settled).toMatchObject([{ kind: "settled", status: "completed" }]);
  });
  check("a node whose lease is over has nothing recorded of what it began (P2)", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    await lab.store.endLeases({ nodeId: "n1" }, T0 + 30);
    expect(await lab.store.turn({ nodeId: "n1", claimId: "late", endings: [], want: 0, begun: [begunAt(claim, 20)] }, T0 + 40)).toMatchObject({ onRecord: [], refused: [claim.job.id] });
    expect(await lab.job(claim.job.id)).toMatchObject({ status: "pending" });
  });
  check("another fence, claim or attempt begins nothing (P5)", async (lab) => {
    await lab.accept(0, "a");
    const claim = await takeOneAhead(lab, 10);
    for (const wrong of [{ fence: claim.fence + 1 }, { claimId: "nobody's" }, { attempt: 2 }]) {
      expect(await turn(lab, 20, { begun: [{ ...begunAt(claim, 15), ...wrong }] })).toMatchObject({ onRecord: [] });
      expect((await turn(lab, 20, { endings: [{ ...ran(claim, 15, 16), ...wrong }] })).settled).toMatchObject([{ kind: "notMine" }]);
    }
    expect(await lab.job(claim.job.id)).toMatchObject({ status: "pending", attempt: 0 });
  });

  check("nothing is taken ahead while the queue is paused, a cap binds or tenants share", async (lab) => {
    await lab.accept(0, "a", "b");
    await lab.store.setQueuePaused(true, T0);
    expect(await takeAhead(lab, 10)).toEqual([]);
    await lab.store.setQueuePaused(false, T0);
    expect((await turn(lab, 10, { ahead: 5, clusterCap: 2 })).claims).toEqual([]);
    // As many as the living nodes have slots: it cannot bind.
    expect((await turn(lab, 20, { ahead: 1, clusterCap: 3 })).claims).toHaveLength(1);
    await lab.accept(30, [laneKey({ tenant: "t" }, "x"), {}]);
    await lab.take(30);
    await lab.accept(40, "c", [laneKey({ tenant: "t" }, "y"), {}]);
    expect(await takeAhead(lab, 40)).toEqual([]);
  });
  check("when a cap begins to bind, what others may have begun ahead counts until their hands are empty (P6)", async (lab) => {
    const wants = (nodeId: string, ms: number, want: number) => turn(lab, ms, { nodeId, want, clusterCap: 5 }).then(({ claims }) => claims.length);
    await lab.accept(0, ...Array.from({ length: 20 }, (_, index) => `chat${index}`));
    expect((await turn(lab, 0, { want: 1, ahead: 2, clusterCap: 5 })).claims).toHaveLength(3);
    // One runs; of its three slots it may have begun to use all. So may nobody else, whose slots come on top.
    expect(await wants("n2", 100, 3)).toBe(2);
    expect(await wants("n2", 110, 1)).toBe(0);
    // It knows what it has begun: what it wants slots for is free.
    expect(await wants("n1", 200, 1)).toBe(1);
    expect(await wants("n2", 300, 1)).toBe(0);
    // By now they are.
    expect(await wants("n2", 4100, 1)).toBe(1);
    expect(await wants("n1", 4200, 1)).toBe(0);
  });
  check("a node that is gone has begun nothing that counts", async (lab) => {
    await lab.accept(0, ...Array.from({ length: 20 }, (_, index) => `chat${index}`));
    await turn(lab, 0, { ahead: 2, clusterCap: 5 });
    const wants = (ms: number) => turn(lab, ms, { nodeId: "n2", want: 3, clusterCap: 5 }).then(({ claims }) => claims.length);
    expect(await wants(100)).toBe(2);
    await lab.store.leave({ nodeId: "n1" }, T0 + 200);
    expect(await wants(300)).toBe(3);
  });
  check("quarantined code is not taken ahead, nor what stands behind it", async (lab) => {
    await lab.accept(0, ["x", { codeHash: "bad" }], ["y", { codeHash: "bad" }]);
    for (const claim of await lab.take(0)) await lab.end(0, claim, ends.crashed);
    for (const chat of ["x", "y"]) await lab.store.cancelChat(scope, chat, T0);
    await lab.accept(10, "a", ["b", { codeHash: "bad" }], "c");
    expect((await takeAhead(lab, 20)).map(({ job }) => job.chatId)).toEqual(["a"]);
  });
};
