/** P9 at the way in: limits are exact, a refusal changes nothing, and one key is one job. */
import { expect } from "vitest";
import type { AcceptAnswer, AcceptGroup } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, ids, scope, wide } from "./lab.js";
import type { Lab } from "./lab.js";

const kinds = (answers: AcceptAnswer[]): string[] => answers.map(({ kind }) => kind);
const day = 24 * 60 * 60 * 1000;

const keyed = (group: AcceptGroup, key: string, requestHash = "hash", scope = ""): AcceptGroup => ({ ...group, idempotency: { scope, key, requestHash } });
async function offer(lab: Lab, ms: number, group: AcceptGroup): Promise<AcceptAnswer> {
  const [answer] = await lab.store.accept([group], wide, T0 + ms);
  return answer as AcceptAnswer;
}

export const limitsAndKeys: Exercise = (check) => {
  check("a chat takes exactly as many pending jobs as it may have; what runs does not count", async (lab) => {
    const limits = { ...wide, pendingPerChatMax: 3 };
    expect((await lab.answer(0, ["a", "a", "a"], limits)).kind).toBe("accepted");
    expect(await lab.answer(0, ["a"], limits)).toEqual({ kind: "chatQueueFull", chatId: "a", chatPaused: false, chatReadyAt: null });
    expect((await lab.answer(0, ["b"], limits)).kind).toBe("accepted");
    const claim = (await lab.take(1)).find(({ job }) => job.chatId === "a");
    expect((await lab.answer(1, ["a"], limits)).kind).toBe("accepted");
    expect(await lab.answer(1, ["a"], limits)).toEqual({ kind: "chatQueueFull", chatId: "a", chatPaused: false, chatReadyAt: null });
    // A retry comes back over the limit: what was accepted is never refused.
    if (claim) await lab.end(2, claim, ends.crashed);
    expect((await lab.store.chat(scope, "a", 10, { code: false, result: false })).pending).toHaveLength(4);
  });

  check("a group that would go over a limit is refused whole, uses no number, and hinders no other group", async (lab) => {
    const limits = { ...wide, pendingPerChatMax: 2 };
    const answers = await lab.store.accept([lab.group("a"), lab.group("b", "b", "b"), lab.group("a", "c")], limits, T0);
    expect(answers.map((answer) => (answer.kind === "chatQueueFull" ? answer.chatId : answer.kind))).toEqual(["accepted", "b", "accepted"]);
    expect((await lab.accept(1, "b", "b")).map((job) => job.chatSeq)).toEqual([1, 2]);
    expect((await lab.store.stats(scope, T0)).totalQueued).toBe(5);
  });

  check("the queue takes exactly as many pending jobs as it may have", async (lab) => {
    const limits = { ...wide, pendingMax: 4 };
    expect((await lab.answer(0, ["a", "b", "c"], limits)).kind).toBe("accepted");
    expect((await lab.answer(0, ["d", "e"], limits)).kind).toBe("queueFull");
    expect((await lab.answer(0, ["d"], limits)).kind).toBe("accepted");
    expect((await lab.answer(0, ["e"], limits)).kind).toBe("queueFull");
    const [claim] = await lab.take(1, 1);
    expect((await lab.answer(1, ["e"], limits)).kind).toBe("accepted");
    expect((await lab.answer(1, ["f"], limits)).kind).toBe("queueFull");
    if (claim) await lab.end(2, claim, ends.completed);
    expect((await lab.answer(2, ["f"], limits)).kind).toBe("queueFull");
  });

  check("a chat's rate is a burst, then one each interval, to the millisecond, and only that chat's", async (lab) => {
    const limits = { ...wide, rate: { burst: 3, intervalMs: 1000 } };
    expect((await lab.answer(0, ["a", "a"], limits)).kind).toBe("accepted");
    expect((await lab.answer(0, ["a"], limits)).kind).toBe("accepted");
    expect(await lab.answer(0, ["a"], limits)).toEqual({ kind: "rateLimited", chatId: "a", retryAfterMs: 1000 });
    expect(await lab.answer(400, ["a"], limits)).toEqual({ kind: "rateLimited", chatId: "a", retryAfterMs: 600 });
    expect((await lab.answer(400, ["b"], limits)).kind).toBe("accepted");
    expect(await lab.answer(999, ["a"], limits)).toEqual({ kind: "rateLimited", chatId: "a", retryAfterMs: 1 });
    expect((await lab.answer(1000, ["a"], limits)).kind).toBe("accepted");
    expect((await lab.answer(1000, ["a"], limits)).kind).toBe("rateLimited");
    // Rest gives the burst back, and never more.
    expect(await lab.answer(60_000, ["a", "a", "a", "a"], limits)).toMatchObject({ kind: "rateLimited" });
    expect((await lab.answer(60_000, ["a", "a", "a"], limits)).kind).toBe("accepted");
    expect((await lab.store.chat(scope, "a", 50, { code: false, result: false })).pending.map((job) => job.chatSeq)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  check("the same key with the same request answers with the same jobs, whatever has become of them", async (lab) => {
    const first = await offer(lab, 0, keyed(lab.group("a", "b"), "k"));
    const again = await offer(lab, 1, keyed(lab.group("a", "b"), "k"));
    expect([first.kind, again.kind]).toEqual(["accepted", "replayed"]);
    if (first.kind !== "accepted" || again.kind !== "replayed") return;
    expect(again.jobs).toEqual(first.jobs);
    await lab.runAll(2);
    const later = await offer(lab, 3, keyed(lab.group("a", "b"), "k"));
    expect(later).toMatchObject({ kind: "replayed", jobs: first.jobs.map(({ id }) => ({ id, status: "completed", queuePosition: 0 })) });
    expect((await lab.accept(4, "a"))[0]?.chatSeq).toBe(2);
  });

  check("the same key with another request is refused, and other scopes have keys of their own", async (lab) => {
    await offer(lab, 0, keyed(lab.group("a"), "k", "one"));
    expect((await offer(lab, 1, keyed(lab.group("a"), "k", "two"))).kind).toBe("idempotencyConflict");
    expect((await offer(lab, 1, keyed(lab.group("a"), "k", "two", "somebody else"))).kind).toBe("accepted");
    // Among others in one call, too.
    const answers = await lab.store.accept([lab.group("b"), keyed(lab.group("a"), "k", "two"), keyed(lab.group("a"), "k2"), keyed(lab.group("a"), "k", "two", "somebody else")], wide, T0 + 2);
    expect(kinds(answers)).toEqual(["accepted", "idempotencyConflict", "accepted", "replayed"]);
  });

  check("in one call replays and new groups each get their own answer in their own place, and what is new starts nothing twice", async (lab) => {
    const pair = await offer(lab, 0, keyed(lab.group("a", "b"), "pair"));
    const lone = await offer(lab, 0, keyed(lab.group("c"), "lone"));
    if (pair.kind !== "accepted" || lone.kind !== "accepted") throw new Error(`Expected both to be accepted, got ${pair.kind} and ${lone.kind}.`);
    const mixed = () => [keyed(lab.group("a", "b"), "pair"), lab.group("a"), keyed(lab.group("b", "a"), "new"), keyed(lab.group("c"), "lone"), lab.group(["c", { priority: 5 }], "c")];
    const groups = mixed();
    const answers = await lab.store.accept(groups, wide, T0 + 1);
    expect(kinds(answers)).toEqual(["replayed", "accepted", "accepted", "replayed", "accepted"]);
    const jobs = answers.map((answer) => ("jobs" in answer ? answer.jobs : []));
    const own = groups.map((group) => ids(group.jobs));
    expect(jobs.map(ids)).toEqual([ids(pair.jobs), own[1], own[2], ids(lone.jobs), own[4]]);
    expect(jobs.map((of) => of.map(({ chatSeq }) => chatSeq))).toEqual([[1, 1], [2], [2, 3], [1], [2, 3]]);
    // A replay tells how its job stands after all that came with it: here behind one of higher priority.
    expect(jobs.map((of) => of.map(({ queuePosition }) => queuePosition))).toEqual([[1, 1], [2], [2, 3], [2], [1, 3]]);
    // What was new has its key now; what has none is accepted again.
    const again = await lab.store.acceptAndStart(mixed(), wide, { nodeId: "n1", claimId: "with", want: 10 }, T0 + 2);
    expect(kinds(again.answers)).toEqual(["replayed", "accepted", "replayed", "replayed", "accepted"]);
    expect(again.answers.map((answer) => ("jobs" in answer ? answer.jobs.map(({ chatSeq }) => chatSeq) : []))).toEqual([[1, 1], [4], [2, 3], [1], [4, 5]]);
    expect(again.claims).toEqual([]);
    expect((await lab.store.stats(scope, T0 + 2)).totalQueued).toBe(11);
  });

  check("a key that is used twice at the same moment makes one job", async (lab) => {
    const groups = Array.from({ length: 6 }, () => keyed(lab.group("a"), "k"));
    const answers = await Promise.all(groups.map((group) => lab.store.accept([group], { ...wide, patient: true }, T0).then(([answer]) => answer as AcceptAnswer)));
    expect(kinds(answers).sort()).toEqual(["accepted", ...Array.from({ length: 5 }, () => "replayed")]);
    expect(new Set(answers.flatMap((answer) => ("jobs" in answer ? ids(answer.jobs) : []))).size).toBe(1);
    expect((await lab.store.stats(scope, T0)).totalQueued).toBe(1);
  });

  check("a refused request leaves its key free", async (lab) => {
    const limits = { ...wide, pendingPerChatMax: 1 };
    await lab.store.accept([lab.group("a")], limits, T0);
    expect(kinds(await lab.store.accept([keyed(lab.group("a"), "k")], limits, T0))).toEqual(["chatQueueFull"]);
    expect((await offer(lab, 0, keyed(lab.group("b"), "k", "other"))).kind).toBe("accepted");
  });

  check("a key is kept for its time, and free again when that is over", async (lab) => {
    await offer(lab, 0, keyed(lab.group("a"), "k"));
    const keep = { ageMs: 7 * day, count: 1000, idempotencyMs: day, batch: 100 };
    await lab.store.prune(keep, T0 + day - 1);
    expect((await offer(lab, day - 1, keyed(lab.group("a"), "k"))).kind).toBe("replayed");
    await lab.store.prune(keep, T0 + day + 1);
    expect((await offer(lab, day + 1, keyed(lab.group("a"), "k", "new"))).kind).toBe("accepted");
  });
};
