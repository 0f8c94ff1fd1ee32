/** P3, P5 and P11 at the store: what a dead node held comes back in its old place, and code that kills is refused. */
import { expect } from "vitest";
import type { Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, iso, scope, guardOf } from "./lab.js";
import type { Lab } from "./lab.js";

const rescue = (lab: Lab, ms: number, nodeLossesMax = 5, limit = 100) => lab.store.rescue({ nodeId: "n2", nodeLossesMax, limit }, T0 + ms);
const crash = { ...ends.crashed, delayMs: 0 };

export const loss: Exercise = (check) => {
  check("a node's lanes stay its own until its lease is over, and come back in their old place then", async (lab) => {
    const [a1, a2] = await lab.accept(0, "a", "a");
    const claim = await lab.takeOne(0);
    expect(await rescue(lab, 3999)).toEqual([]);
    expect((await lab.store.pulse({ nodeId: "n2", leaseMs: 4000, slots: 1, draining: false }, T0 + 3000)).nextLeaseEndInMs).toBeCloseTo(1000, 3);
    expect(await rescue(lab, 4000)).toEqual([{ jobId: a1?.id, chatId: "a", status: "pending" }]);
    expect(await rescue(lab, 4001)).toEqual([]);
    expect(await lab.job(a1?.id as string)).toMatchObject({ status: "pending", queuePosition: 1, attempt: 1, attempts: [{ outcome: "rescued", nodeId: "n1" }] });
    // Who was thought dead comes too late.
    expect(await lab.end(4002, claim, ends.completed)).toEqual({ kind: "notMine", jobId: a1?.id });
    const again = await lab.takeOne(4003, "n2");
    expect(again).toMatchObject({ job: { id: a1?.id, attempt: 2 }, spent: 0, strikes: 0 });
    expect(await lab.end(4004, claim, ends.completed)).toEqual({ kind: "notMine", jobId: a1?.id });
    await lab.end(4005, again, ends.completed, "n2");
    expect((await lab.takeOne(4006, "n2")).job.id).toBe(a2?.id);
    expect((await lab.events("a")).map((event) => event.type)).toEqual(["job.accepted", "job.accepted", "job.started", "job.rescued", "job.started", "job.completed", "job.started"]);
  });

  check("a renewed lease keeps its lanes, and a node never takes its own for lost", async (lab) => {
    await lab.accept(0, "a");
    await lab.takeOne(0);
    await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 3000);
    expect(await rescue(lab, 5000)).toEqual([]);
    expect(await lab.store.rescue({ nodeId: "n1", nodeLossesMax: 5, limit: 10 }, T0 + 60_000)).toEqual([]);
    expect(await rescue(lab, 60_000)).toHaveLength(1);
  });

  check("a clean stop gives back what the node still holds, at once, at the cost of no attempt and of no loss; what it offers later counts for nothing", async (lab) => {
    const [a1] = await lab.accept(0, "a", "a", ["b", { maxAttempts: 1 }], "c");
    const claims = await lab.take(1, 2, "n1");
    const [other] = await lab.take(2, 1, "n3");
    await lab.store.cancel(scope, claims[1]?.job.id as string, T0 + 3);
    await lab.store.leave({ nodeId: "n1" }, T0 + 10);
    expect(await lab.job(a1?.id as string)).toMatchObject({ status: "pending", attempt: 1, queuePosition: 1, attempts: [{ outcome: "released", nodeId: "n1" }] });
    expect(await lab.job(claims[1]?.job.id as string)).toMatchObject({ status: "failed", failure: { code: "cancelled" } });
    expect(await rescue(lab, 11, 1)).toEqual([]);
    for (const claim of claims) expect(await lab.end(12, claim, ends.completed)).toMatchObject({ kind: "notMine" });
    expect((await lab.store.turn({ nodeId: "n1", claimId: "late", endings: [], want: 5 }, T0 + 12)).claims).toEqual([]);
    expect(await lab.takeOne(13, "n2")).toMatchObject({ job: { id: a1?.id, attempt: 2 }, spent: 0 });
    expect(await lab.end(14, other as Claim, ends.completed, "n3")).toMatchObject({ status: "completed" });
    await lab.store.leave({ nodeId: "nobody" }, T0 + 15);
  });

  check("a node that said that it drains, and whose last word did not arrive, is no loss; one that said nothing is", async (lab) => {
    await lab.accept(0, "a", "b");
    await lab.take(0, 1, "n1");
    await lab.take(0, 1, "n3");
    await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: true }, T0 + 10);
    // With one loss a job fails.
    expect((await rescue(lab, 5000, 1)).sort((x, y) => (x.chatId < y.chatId ? -1 : 1))).toMatchObject([{ chatId: "a", status: "pending" }, { chatId: "b", status: "failed" }]);
    expect((await lab.events("a")).at(-1)).toMatchObject({ type: "job.released", status: "pending" });
    expect(await lab.takeOne(5001, "n2")).toMatchObject({ job: { chatId: "a", attempt: 2 }, spent: 0 });
  });

  check("the end of a lease is one at once; one who holds the folder alone ends all others", async (lab) => {
    await lab.accept(0, "a", "b");
    await lab.take(0, 1, "n1");
    await lab.take(0, 1, "n3");
    await lab.store.endLeases({ nodeId: "n1" }, T0 + 10);
    expect((await rescue(lab, 11)).map(({ chatId }) => chatId)).toEqual(["a"]);
    await lab.store.pulse({ nodeId: "n2", leaseMs: 4000, slots: 1, draining: false }, T0 + 12);
    await lab.store.endLeases({ exceptNodeId: "n2" }, T0 + 13);
    expect((await rescue(lab, 14)).map(({ chatId }) => chatId)).toEqual(["b"]);
    expect(await lab.take(15, 10, "n2")).toHaveLength(2);
  });

  check("at most as many lanes as asked for are rescued at once", async (lab) => {
    await lab.accept(0, "a", "b", "c");
    await lab.take(0);
    expect(await rescue(lab, 5000, 5, 2)).toHaveLength(2);
    expect(await rescue(lab, 5000, 5, 2)).toHaveLength(1);
  });

  check("a job that loses too many nodes fails as node_lost, and its code is refused from then on", async (lab) => {
    const [job] = await lab.accept(0, ["a", { codeHash: "killer" }], "a");
    for (let round = 1; round <= 3; round++) {
      await lab.takeOne(round * 10_000, "n1");
      const [found] = await rescue(lab, round * 10_000 + 5000, 3);
      expect(found?.status).toBe(round < 3 ? "pending" : "failed");
    }
    expect(await lab.job(job?.id as string)).toMatchObject({ status: "failed", attempt: 3, failure: { code: "node_lost", quarantined: true } });
    expect(await lab.store.deadLetterIds(scope, {}, 10)).toEqual([job?.id]);
    const [same] = await lab.accept(50_000, ["b", { codeHash: "killer" }]);
    expect((await lab.take(50_001)).map((claim) => claim.job.chatId)).toEqual(["a"]);
    expect(await lab.job(same?.id as string)).toMatchObject({ status: "failed", attempt: 0, failure: { code: "node_lost", quarantined: true } });
  });

  check("code that crashed two workers is quarantined: the job fails, and the same code is not started anywhere", async (lab) => {
    const bad = { codeHash: "bad" };
    const [a, b] = await lab.accept(0, ["a", bad], ["b", bad]);
    const claims = await lab.take(1);
    const claimOf = (chat: string) => claims.find(({ job }) => job.chatId === chat) as Claim;
    expect(await lab.end(2, claimOf("a"), crash)).toMatchObject({ status: "pending", quarantined: false });
    expect(await lab.end(3, claimOf("b"), crash)).toMatchObject({ status: "failed", quarantined: true });
    expect(await lab.job(b?.id as string)).toMatchObject({ failure: { code: "worker_crashed", quarantined: true, retryable: false } });
    // The other one is at the head of its lane; whoever wants it finds it refused, and takes the next lane instead.
    const [, next, other] = await lab.accept(4, ["c", bad], ["c", { codeHash: "good" }], "d");
    expect((await lab.take(5)).map(({ job }) => job.id).sort()).toEqual([next?.id, other?.id].sort());
    expect(await lab.job(a?.id as string)).toMatchObject({ status: "failed", attempt: 1, failure: { code: "worker_crashed", quarantined: true } });
    expect((await lab.store.stats(scope, T0 + 6)).deadLetters).toBe(3);
  });

  check("two crashes in one turn are enough, and a crash that was not the code's doing counts for nothing", async (lab) => {
    await lab.accept(0, ["a", { codeHash: "x" }], ["b", { codeHash: "x" }], ["c", { codeHash: "y" }], ["d", { codeHash: "y" }]);
    const claims = await lab.take(1);
    const endings = claims.map((claim) => ({ ...guardOf(claim), end: { ...crash, blameless: claim.job.chatId === "c" || claim.job.chatId === "d" } }));
    const { settled } = await lab.store.turn({ nodeId: "n1", claimId: "z", endings, want: 0 }, T0 + 2);
    expect(settled.map((one) => one.kind === "settled" && [one.chatId, one.status, one.quarantined])).toEqual([["a", "failed", true], ["b", "failed", true], ["c", "pending", false], ["d", "pending", false]]);
  });

  check("how a quarantined code's attempt ends does not depend on what ends with it", async (lab) => {
    const bad = { codeHash: "bad" };
    await lab.accept(0, ["a", bad], ["b", bad], ["c", bad], ["d", bad], "e");
    const claims = await lab.take(1);
    const claimOf = (chat: string) => claims.find(({ job }) => job.chatId === chat) as Claim;
    for (const chat of ["a", "b"]) await lab.end(2, claimOf(chat), crash);
    const alone = await lab.end(3, claimOf("c"), ends.timedOut);
    const { settled } = await lab.store.turn({ nodeId: "n1", claimId: "z", endings: [{ ...guardOf(claimOf("d")), end: ends.timedOut }, { ...guardOf(claimOf("e")), end: crash }], want: 0 }, T0 + 3);
    expect([alone, settled[0]]).toEqual([alone, { ...alone, jobId: claimOf("d").job.id, chatId: "d" }]);
    // It waits for nothing: its next start is refused.
    expect(await lab.take(1000)).toHaveLength(1);
    for (const chat of ["c", "d"]) expect(await lab.job(claimOf(chat).job.id)).toMatchObject({ status: "failed", failure: { quarantined: true } });
  });

  check("a pulse tells a node what it holds, and who else's lease ends when", async (lab) => {
    await lab.accept(0, "a", "b", ["c", { delayMs: 700 }], "d");
    const [claim] = (await lab.take(1, 1)) as [Claim];
    await lab.take(2, 1, "n3");
    const pulse = await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 10);
    expect(pulse.held).toEqual([{ chatId: claim.job.chatId, jobId: claim.job.id, attempt: 1, fence: claim.fence, claimId: claim.claimId, cancelRequested: false }]);
    expect([pulse.queuePaused, pulse.readyLanes, pulse.pending]).toEqual([false, 1, 2]);
    expect(pulse.nextReadyInMs).toBeCloseTo(690, 3);
    expect(pulse.nextLeaseEndInMs).toBeCloseTo(3992, 3);
    expect((await lab.store.stats(scope, T0 + 10)).nodes.map((node) => [node.id, node.running, node.alive, node.startedAt])).toEqual([["n1", 1, true, iso(1)], ["n3", 1, true, iso(2)]]);
  });
};
