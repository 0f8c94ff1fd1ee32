/** What a person asks for: cancel, redrive, discard, pause. Each is one transition under the lane's lock. */
import { expect } from "vitest";
import type { Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, ids, iso, scope, agingMs } from "./lab.js";
import type { Lab } from "./lab.js";

const aging = { agingMs };
const failureOf = async (lab: Lab, id: string) => (await lab.job(id)).failure?.code;

export const people: Exercise = (check) => {
  check("a pending job is cancelled at once, is no dead letter, and its successors go on in order", async (lab) => {
    const [a1, a2, a3] = await lab.accept(0, "a", "a", "a");
    expect(await lab.store.cancel(scope, a1?.id as string, T0 + 1)).toEqual({ kind: "cancelled", chatId: "a" });
    expect(await lab.job(a1?.id as string)).toMatchObject({ status: "failed", attempt: 0, startedAt: null, failure: { code: "cancelled", retryable: false }, error: "Cancelled before it ran." });
    expect(await lab.job(a2?.id as string)).toMatchObject({ queuePosition: 1 });
    expect(await lab.store.countDeadLetters(scope, {})).toBe(0);
    expect(await lab.runAll(2)).toEqual([a2?.id, a3?.id]);
  });

  check("the last pending job of a chat is cancelled, and the chat takes new ones", async (lab) => {
    const [only] = await lab.accept(0, "a");
    await lab.store.cancel(scope, only?.id as string, T0 + 1);
    expect(await lab.take(2)).toEqual([]);
    const [next] = await lab.accept(3, "a");
    expect([next?.chatSeq, next?.queuePosition]).toEqual([2, 1]);
    expect(await lab.runAll(4)).toEqual([next?.id]);
  });

  check("a job that backs off or is delayed is cancelled at once, and the chat need not wait for it", async (lab) => {
    const [a1, a2, b1, b2] = await lab.accept(0, "a", "a", ["b", { delayMs: 9000 }], "b");
    await lab.end(2, await lab.takeOne(1), ends.crashed);
    for (const job of [a1, b1]) expect((await lab.store.cancel(scope, job?.id as string, T0 + 3)).kind).toBe("cancelled");
    expect((await lab.take(4)).map(({ job }) => job.id).sort()).toEqual([a2?.id, b2?.id].sort());
  });

  check("a running job is asked to stop; whatever its runner says then, it is recorded as cancelled, and its successor starts after that", async (lab) => {
    for (const end of [ends.completed, ends.failed, ends.crashed, ends.released]) {
      const chatId = `chat ${end.kind}${"failure" in end ? end.failure.code : ""}`;
      const [job, next] = await lab.accept(0, chatId, chatId);
      const claim = (await lab.take(1)).find((one) => one.job.chatId === chatId) as Claim;
      expect(await lab.store.cancel(scope, job?.id as string, T0 + 2)).toEqual({ kind: "requested", chatId, nodeId: "n1" });
      expect((await lab.job(job?.id as string)).status).toBe("running");
      expect((await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 3)).held.find((one) => one.jobId === job?.id)?.cancelRequested).toBe(true);
      expect(await lab.take(3)).toEqual([]);
      expect(await lab.end(4, claim, end)).toMatchObject({ kind: "settled", status: "failed" });
      expect(await lab.job(job?.id as string)).toMatchObject({ status: "failed", result: null, failure: { code: "cancelled" }, error: "Cancelled while it ran." });
      expect(await lab.runAll(5)).toEqual([next?.id]);
    }
    expect(await lab.store.countDeadLetters(scope, {})).toBe(0);
  });

  check("a cancel that was requested is carried out by whoever takes the lane over", async (lab) => {
    const [job, next] = await lab.accept(0, "a", "a");
    await lab.takeOne(1);
    await lab.store.cancel(scope, job?.id as string, T0 + 2);
    expect(await lab.store.rescue({ nodeId: "n2", nodeLossesMax: 5, limit: 10 }, T0 + 5000)).toEqual([{ jobId: job?.id, chatId: "a", status: "failed" }]);
    expect(await failureOf(lab, job?.id as string)).toBe("cancelled");
    expect(await lab.runAll(5001, "n2")).toEqual([next?.id]);
  });

  check("a second cancel says that it was done, and what is final otherwise cannot be cancelled", async (lab) => {
    const [done, gone, running] = await lab.accept(0, "a", "b", "c");
    const claims = await lab.take(1);
    const claimOf = (chat: string) => claims.find(({ job }) => job.chatId === chat) as Claim;
    await lab.end(2, claimOf("a"), ends.completed);
    await lab.end(2, claimOf("b"), ends.failed);
    expect(await lab.store.cancel(scope, done?.id as string, T0 + 3)).toEqual({ kind: "final", status: "completed" });
    expect(await lab.store.cancel(scope, gone?.id as string, T0 + 3)).toEqual({ kind: "final", status: "failed" });
    expect(await lab.store.cancel(scope, "nobody", T0 + 3)).toEqual({ kind: "unknown" });
    await lab.store.cancel(scope, running?.id as string, T0 + 3);
    const before = await lab.events("c");
    expect((await lab.store.cancel(scope, running?.id as string, T0 + 4)).kind).toBe("requested");
    expect(await lab.events("c")).toEqual(before);
    await lab.end(5, claimOf("c"), ends.released);
    expect(await lab.store.cancel(scope, running?.id as string, T0 + 6)).toEqual({ kind: "already" });
  });

  check("a failed job goes to the tail of its chat again, with fresh attempts and its old number", async (lab) => {
    const [first] = await lab.accept(0, ["a", { maxAttempts: 2 }], "a");
    await lab.end(2, await lab.takeOne(1), ends.timedOut);
    await lab.end(400, await lab.takeOne(399), ends.failed);
    const [third] = await lab.accept(401, "a");
    const answer = await lab.store.redrive(scope, first?.id as string, aging, T0 + 402);
    expect(answer).toEqual({ kind: "redriven", job: { id: first?.id, chatId: "a", messageId: first?.messageId, chatSeq: 1, status: "pending", queuePosition: 3, nextAttemptAt: null, chatPaused: false, chatReadyAt: null, createdAt: first?.createdAt } });
    expect(await lab.job(first?.id as string)).toMatchObject({ status: "pending", chatSeq: 1, attempt: 2, completedAt: null, error: null, failure: null });
    await lab.end(404, await lab.takeOne(403), ends.completed);
    expect((await lab.takeOne(405)).job.id).toBe(third?.id);
    await lab.end(406, { ...(await reclaim(lab, third?.id as string)) }, ends.completed);
    const again = await lab.takeOne(407);
    expect(again).toMatchObject({ job: { id: first?.id, attempt: 3 }, spent: 0, strikes: 0 });
    await lab.end(408, again, ends.completed);
    expect((await lab.job(first?.id as string)).status).toBe("completed");
  });

  check("only a failed job is redriven", async (lab) => {
    const [running, pending] = await lab.accept(0, "a", "a");
    const claim = await lab.takeOne(1);
    expect(await lab.store.redrive(scope, running?.id as string, aging, T0 + 2)).toEqual({ kind: "notFailed", status: "running" });
    expect(await lab.store.redrive(scope, pending?.id as string, aging, T0 + 2)).toEqual({ kind: "notFailed", status: "pending" });
    await lab.end(3, claim, ends.completed);
    expect(await lab.store.redrive(scope, running?.id as string, aging, T0 + 4)).toEqual({ kind: "notFailed", status: "completed" });
    expect(await lab.store.redrive(scope, "nobody", aging, T0 + 4)).toEqual({ kind: "unknown" });
    await lab.store.cancel(scope, pending?.id as string, T0 + 5);
    expect((await lab.store.redrive(scope, pending?.id as string, aging, T0 + 6)).kind).toBe("redriven");
  });

  check("dead letters are found by id, chat and failure, oldest first; discarding leaves the job readable", async (lab) => {
    const letters = [];
    for (const [index, chat] of ["a", "b", "a"].entries()) letters.push(await lab.deadLetter(index * 10, chat));
    await lab.store.cancel(scope, (await lab.accept(50, "a"))[0]?.id as string, T0 + 51);
    expect(await lab.store.deadLetterIds(scope, {}, 10)).toEqual(letters);
    expect(await lab.store.deadLetterIds(scope, {}, 2)).toEqual(letters.slice(0, 2));
    expect(await lab.store.deadLetterIds(scope, { chatId: "a" }, 10)).toEqual([letters[0], letters[2]]);
    expect(await lab.store.deadLetterIds(scope, { chatId: "a", ids: [letters[1] as string, letters[2] as string, "nobody"] }, 10)).toEqual([letters[2]]);
    expect(await lab.store.countDeadLetters(scope, { failureCode: "build_failed" })).toBe(3);
    expect(await lab.store.countDeadLetters(scope, { failureCode: "timed_out" })).toBe(0);
    expect(await lab.store.discard(scope, [letters[0] as string, "nobody"], T0 + 60)).toBe(1);
    expect(await lab.store.discard(scope, [letters[0] as string], T0 + 61)).toBe(0);
    expect(await lab.store.deadLetterIds(scope, {}, 10)).toEqual(letters.slice(1));
    expect(await failureOf(lab, letters[0] as string)).toBe("build_failed");
    // Redriven and failed again, it is a dead letter again.
    await lab.store.redrive(scope, letters[0] as string, aging, T0 + 70);
    expect(await lab.store.countDeadLetters(scope, {})).toBe(2);
    await lab.end(72, await lab.takeOne(71), ends.failed);
    expect(await lab.store.countDeadLetters(scope, {})).toBe(3);
  });

  check("dead letters that failed alike are a group: counted largest first, narrowed by chat and failure, listed page by page", async (lab) => {
    const failedAs = (message: string, code: "build_failed" | "run_failed" = "build_failed") => ({ kind: "failed" as const, failure: { code, message, retryable: false, diagnostics: [] }, error: message });
    const fail = async (ms: number, chatId: string, end: ReturnType<typeof failedAs>) => {
      const [job] = await lab.accept(ms, chatId);
      await lab.end(ms + 2, await lab.takeOne(ms + 1), end);
      return job?.id as string;
    };
    const alike = [await fail(10, "a", failedAs('Could not resolve "x" at line 1')), await fail(20, "b", failedAs('Could not resolve "y" at line 22')), await fail(30, "b", failedAs('Could not resolve "z" at line 3'))];
    const other = await fail(40, "b", failedAs("it threw", "run_failed"));
    const [first, second, ...rest] = await lab.store.deadLetterGroups(scope, {}, 50);
    expect(first).toMatchObject({ failureCode: "build_failed", message: 'Could not resolve "z" at line 3', count: 3, chats: 2, firstAt: iso(12), latestAt: iso(32), examples: [...alike].reverse() });
    expect(second).toMatchObject({ failureCode: "run_failed", count: 1, examples: [other] });
    expect(rest).toEqual([]);
    expect(await lab.store.deadLetterGroups(scope, { chatId: "a" }, 50)).toMatchObject([{ fingerprint: first?.fingerprint, count: 1 }]);
    expect(await lab.store.deadLetterGroups(scope, { failureCode: "run_failed" }, 50)).toEqual([second]);
    const letters = { deadLetters: true, fingerprint: first?.fingerprint, limit: 2, include: { code: false, result: false } };
    const page = await lab.store.list(scope, letters);
    const last = await lab.store.list(scope, { ...letters, cursor: page.nextCursor ?? "" });
    expect([ids(page.jobs), ids(last.jobs), last.nextCursor]).toEqual([[alike[2], alike[1]], [alike[0]], null]);
  });

  check("a paused chat is not taken; what runs goes on, jobs are still accepted, and order is kept when it goes on", async (lab) => {
    const [a1] = await lab.accept(0, "a", "a");
    const claim = await lab.takeOne(1);
    expect(await lab.store.setChatPaused(scope, "a", true, T0 + 2)).toBe(true);
    expect((await lab.end(3, claim, ends.completed)).kind).toBe("settled");
    const more = await lab.accept(4, "a", "b");
    expect((await lab.take(5)).map(({ job }) => job.chatId)).toEqual(["b"]);
    expect(await lab.job(more[0]?.id as string)).toMatchObject({ chatPaused: true, queuePosition: 2 });
    expect(await lab.store.setChatPaused(scope, "a", true, T0 + 6)).toBe(true);
    await lab.store.setChatPaused(scope, "a", false, T0 + 7);
    expect((await lab.runAll(8)).filter((id) => id !== a1?.id)).toEqual(["j2", more[0]?.id]);
    // Saying it again is not news.
    expect((await lab.events("a")).filter((event) => event.type.startsWith("chat.")).map((event) => event.type)).toEqual(["chat.paused", "chat.resumed"]);
  });

  check("an idle chat can be paused, and one that nobody ever submitted to cannot", async (lab) => {
    expect(await lab.store.setChatPaused(scope, "nobody", true, T0)).toBe(false);
    await lab.accept(0, "a");
    await lab.runAll(1);
    await lab.store.setChatPaused(scope, "a", true, T0 + 2);
    const [job] = await lab.accept(3, "a");
    expect(await lab.take(4)).toEqual([]);
    await lab.store.setChatPaused(scope, "a", false, T0 + 5);
    expect(await lab.runAll(6)).toEqual([job?.id]);
  });

  check("while the queue is paused no node takes anything, and ends are still recorded", async (lab) => {
    await lab.accept(0, "a", "a", "b");
    const claims = await lab.take(1, 1);
    await lab.store.setQueuePaused(true, T0 + 2);
    expect((await lab.end(3, claims[0] as Claim, ends.completed)).kind).toBe("settled");
    expect(await lab.take(4)).toEqual([]);
    expect(await lab.take(4, 10, "n2")).toEqual([]);
    expect((await lab.store.pulse({ nodeId: "n2", leaseMs: 4000, slots: 1, draining: false }, T0 + 5)).queuePaused).toBe(true);
    expect((await lab.accept(6, "c"))[0]?.status).toBe("pending");
    await lab.store.setQueuePaused(false, T0 + 7);
    expect(ids((await lab.take(8)).map(({ job }) => job))).toHaveLength(3);
  });
};

/** The claim of the job that runs now, from what the node is told that it holds. */
async function reclaim(lab: Lab, jobId: string): Promise<Claim> {
  const { held } = await lab.store.pulse({ nodeId: "n1", leaseMs: 4000, slots: 3, draining: false }, T0 + 405);
  const found = held.find((one) => one.jobId === jobId);
  if (!found) throw new Error(`Job ${jobId} is not held.`);
  return { job: { id: jobId, chatId: found.chatId, attempt: found.attempt }, fence: found.fence, claimId: found.claimId } as Claim;
}
