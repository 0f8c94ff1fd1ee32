/** What starts with its acceptance: exactly what an acceptance and a turn after it would have started, and told the same way. */
import { expect } from "vitest";
import { laneKey } from "../../../src/store/scope.js";
import type { AcceptAnswer, AcceptGroup, AcceptLimits, Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, iso, scope, wide } from "./lab.js";
import type { Lab } from "./lab.js";

let claimIds = 0;

/** Accepts a group, and others with it, on a node that lives and has one free slot; what was said of it, and the chats whose jobs started. */
async function offer(lab: Lab, ms: number, group: AcceptGroup, { limits = wide, lives = true, others = [] }: { limits?: AcceptLimits; lives?: boolean; others?: AcceptGroup[] } = {}) {
  const nodeId = "n1";
  if (lives) await lab.store.pulse({ nodeId, leaseMs: 4000, slots: 3, draining: false }, T0 + ms);
  const { answers, claims } = await lab.store.acceptAndStart([group, ...others], limits, { nodeId, claimId: `start${++claimIds}`, want: 1 }, T0 + ms);
  return { answer: answers[0] as AcceptAnswer, claims, chats: claims.map(({ job }) => job.chatId) };
}

const oncePerSecond: AcceptLimits = { ...wide, rate: { burst: 1, intervalMs: 1000 } };

/** Its code is quarantined when it has crashed two workers; nothing of it waits then. */
async function crashTwice(lab: Lab, codeHash: string): Promise<void> {
  await lab.accept(0, ["x", { codeHash }], ["y", { codeHash }]);
  for (const claim of await lab.take(0)) await lab.end(0, claim, ends.crashed);
  await lab.store.cancelChat(scope, "x", T0);
}

/** A situation, and the chats whose jobs start when chat `a` gets its job in it. */
const situations: [name: string, starts: string[], arrange: (lab: Lab) => Promise<{ group?: AcceptGroup; others?: AcceptGroup[]; limits?: AcceptLimits; lives?: boolean; answer?: AcceptAnswer["kind"] } | void>][] = [
  ["nothing else is there", ["a"], async () => {}],
  ["others run, and nobody waits", ["a"], async (lab) => void (await lab.accept(0, "x", "y"), await lab.take(0))],
  ["its chat has a running job", [], async (lab) => void (await lab.accept(0, "a"), await lab.takeOne(0, "n2"))],
  ["its chat is paused", [], async (lab) => {
    await lab.end(0, await lab.accept(0, "a").then(() => lab.takeOne(0)), ends.completed);
    await lab.store.setChatPaused(scope, "a", true, T0 + 1);
  }],
  ["the queue is paused", [], (lab) => lab.store.setQueuePaused(true, T0)],
  ["another chat has waited longer", ["x"], async (lab) => void (await lab.accept(0, "x"))],
  ["another tenant's chat has waited longer", [laneKey({ tenant: "acme" }, "x")], async (lab) => void (await lab.accept(0, [laneKey({ tenant: "acme" }, "x"), {}]))],
  ["another chat's delay is over", ["x"], async (lab) => void (await lab.accept(0, ["x", { delayMs: 5 }]))],
  ["another chat's delay is not over", ["a"], async (lab) => void (await lab.accept(0, ["x", { delayMs: 5000 }]))],
  ["it is delayed itself", [], async (lab) => ({ group: lab.group(["a", { delayMs: 5000 }]) })],
  ["it has a priority", ["a"], async (lab) => ({ group: lab.group(["a", { priority: 5 }]) })],
  ["it supersedes what is pending", [], async (lab) => {
    await lab.accept(0, "a", "a");
    await lab.takeOne(0, "n2");
    return { group: lab.group(["a", { supersede: "pending" }]) };
  }],
  ["it supersedes what is not there", ["a"], async (lab) => ({ group: lab.group(["a", { supersede: "running" }]) })],
  ["it is one of two of its chat", ["a"], async (lab) => ({ group: lab.group("a", "a") })],
  ["another chat's job comes with it", ["a"], async (lab) => ({ others: [lab.group("b")] })],
  ["it has a key that is new", ["a"], async (lab) => ({ group: { ...lab.group("a"), idempotency: { scope: "", key: "k", requestHash: "one" } } })],
  ["its key was used for it before", [], async (lab) => {
    const group = () => ({ ...lab.group("a"), idempotency: { scope: "", key: "k", requestHash: "one" } });
    await lab.store.accept([group()], wide, T0);
    return { group: group(), answer: "replayed" };
  }],
  ["its chat's rate allows it", ["a"], async () => ({ limits: oncePerSecond })],
  ["its chat's rate does not", [], async (lab) => {
    await lab.answer(0, ["a"], oncePerSecond);
    await lab.end(0, await lab.takeOne(0), ends.completed);
    return { limits: oncePerSecond, answer: "rateLimited" };
  }],
  ["the queue takes one more", ["a"], async (lab) => {
    await lab.accept(0, ["x", { delayMs: 5000 }]);
    return { limits: { ...wide, pendingMax: 2 } };
  }],
  ["the queue takes no more", [], async (lab) => {
    await lab.accept(0, ["x", { delayMs: 5000 }]);
    return { limits: { ...wide, pendingMax: 1 }, answer: "queueFull" };
  }],
  ["its node's lease is over", [], async (lab) => {
    await lab.store.pulse({ nodeId: "n1", leaseMs: 10, slots: 3, draining: false }, T0);
    return { lives: false };
  }],
  ["the cluster's cap is taken", [], async (lab) => {
    await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false, clusterCap: 1 }, T0);
    await lab.accept(0, "x");
    await lab.store.turn({ nodeId: "n1", claimId: "capped", endings: [], want: 1 }, T0);
    return { lives: false };
  }],
  ["its code is quarantined", [], async (lab) => {
    await crashTwice(lab, "bad");
    return { group: lab.group(["a", { codeHash: "bad" }]) };
  }],
  ["other code is quarantined", ["a"], (lab) => crashTwice(lab, "bad")],
];

export const starts: Exercise = (check) => {
  check("a job that starts with its acceptance is accepted, started and told as by an acceptance and a turn, in a new chat and in a known one", async (lab) => {
    const told = (claim: Claim | undefined) => claim && { ...claim, claimId: null, job: { ...claim.job, id: null, chatId: null, messageId: null } };
    for (const [index, ms] of [0, 100].entries()) {
      const [once, twice] = [lab.group(["once", { traceparent: "t" }]), lab.group(["twice", { traceparent: "t" }])];
      const { answer, claims } = await offer(lab, ms, once);
      const accepted = await lab.store.accept([twice], wide, T0 + ms);
      const taken = await lab.take(ms, 1);
      expect(claims.map(told)).toEqual(taken.map(told));
      expect(answer).toMatchObject({ kind: "accepted", jobs: [{ id: once.jobs[0]?.id, chatId: "once", chatSeq: index + 1, status: "pending", queuePosition: 1 }] });
      expect(accepted[0]).toMatchObject({ kind: "accepted", jobs: [{ chatSeq: index + 1, status: "pending", queuePosition: 1 }] });
      const { id: _id, chatId: _chat, messageId: _message, ...job } = await lab.job(once.jobs[0]?.id as string);
      expect(await lab.job(twice.jobs[0]?.id as string)).toMatchObject({ ...job });
      for (const claim of [...claims, ...taken]) expect(await lab.end(ms + 50, claim, ends.completed)).toMatchObject({ kind: "settled", status: "completed" });
    }
    const plain = async (chatId: string) => (await lab.events(chatId)).map(({ number, type, status, attempt, at, chatSeq, data: { messageId: _message, ...data } }) => ({ number, type, status, attempt, at, chatSeq, data }));
    expect(await plain("once")).toEqual(await plain("twice"));
    expect((await lab.store.stats(scope, T0 + 200))).toMatchObject({ totalQueued: 0, totalRunning: 0, totalCompleted: 4 });
  });

  check("a start with its acceptance never goes back in time inside a chat, even if the clock does", async (lab) => {
    await lab.accept(1000, "a");
    await lab.end(2000, await lab.takeOne(1000), ends.completed);
    const { answer, claims } = await offer(lab, 400, lab.group("a"));
    const [claim] = claims.length > 0 ? claims : await lab.take(2500);
    expect(answer).toMatchObject({ kind: "accepted", jobs: [{ createdAt: iso(1000) }] });
    expect(Date.parse(claim?.startedAt as string)).toBeGreaterThanOrEqual(T0 + 2000);
    expect((await lab.job(claim?.job.id as string)).createdAt).toBe(iso(1000));
  });

  for (const [situation, chats, arrange] of situations)
    check(`where ${situation}, acceptance starts what a turn would: ${chats.length === 0 ? "nothing" : chats.includes("a") ? "the new job" : "that one"}`, async (lab) => {
      const { group = lab.group("a"), others = [], limits = wide, lives = true, answer = "accepted" } = (await arrange(lab)) ?? {};
      const running = async () => (await lab.store.chat(scope, "a", 5, { code: false, result: false })).running.length;
      const before = await running();
      const offered = await offer(lab, 100, group, { limits, lives, others });
      expect([offered.answer.kind, offered.chats]).toEqual([answer, chats]);
      if (chats.includes("a")) expect(await lab.job(group.jobs[0]?.id as string)).toMatchObject({ status: "running", priority: group.jobs[0]?.priority });
      expect(await running()).toBe(before + (chats.includes("a") ? 1 : 0));
    });

  check("a start with its acceptance counts in its tenant's share, while shares are kept", async (lab) => {
    const chat = (tenant: string, index: number) => laneKey({ tenant }, `c${index}`);
    await lab.accept(0, ...[0, 1].flatMap((index) => [[chat("one", index), {}], [chat("two", index), {}]] as [string, object][]));
    for (const claim of await lab.take(1, 4)) await lab.end(1, claim, ends.completed);
    // Both are equal by now. One starts a job more while nobody waits, so the other goes first when both wait again.
    expect((await offer(lab, 2, lab.group([chat("one", 2), {}]))).chats).toEqual([chat("one", 2)]);
    await lab.accept(3, [chat("one", 3), {}]);
    await lab.accept(4, [chat("two", 3), {}]);
    expect((await lab.take(5, 1)).map(({ job }) => job.chatId)).toEqual([chat("two", 3)]);
  });
};
