/** Reads: what they say was true together, in the promised order, without gaps. */
import { expect } from "vitest";
import { checkHistory } from "../../../src/history/check.js";
import { countedMax, lanePendingMax, sampledMax } from "../../../src/store/store.js";
import type { Claim, Ending, ListRead, NewJob, Standing, StoredJob } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, everything, guardOf, ids, iso, scope, agingMs, wide } from "./lab.js";
import type { Lab, Spec } from "./lab.js";

const summaries = { code: false, result: false };
const list = (lab: Lab, query: Partial<ListRead>) => lab.store.list(scope, { limit: 50, include: summaries, ...query });
async function pages(lab: Lab, query: Partial<ListRead>): Promise<StoredJob[][]> {
  const found: StoredJob[][] = [];
  for (let cursor: string | undefined; ; ) {
    const { jobs, nextCursor } = await list(lab, { ...query, cursor });
    found.push(jobs);
    if (nextCursor === null) return found;
    cursor = nextCursor;
  }
}

/** In turns of no more than a node's own: one of thousands may take longer than an answer of the database may. */
async function endInTurns(lab: Lab, claims: Claim[], end: Ending["end"], ms: number): Promise<void> {
  for (let from = 0; from < claims.length; from += 200)
    await lab.store.turn({ nodeId: "n1", claimId: `ends${from}`, endings: claims.slice(from, from + 200).map((claim) => ({ ...guardOf(claim), end })), want: 0 }, T0 + ms);
}

export const reads: Exercise = (check) => {
  check("a job is read whole in each status, with its attempts", async (lab) => {
    const [job] = await lab.accept(0, "a");
    const id = job?.id as string;
    expect(await lab.store.get(scope, "nobody")).toBeNull();
    await lab.end(20, await lab.takeOne(10), ends.timedOut);
    const claim = await lab.takeOne(400);
    expect(await lab.job(id)).toMatchObject({ status: "running", startedAt: iso(400), completedAt: null, result: null, attempt: 2, attempts: [{ attempt: 1, outcome: "retrying", failureCode: "timed_out", startedAt: iso(10), endedAt: iso(20), nodeId: "n1" }, { attempt: 2, outcome: "running", endedAt: null }] });
    const warning = { text: "careful", file: "message.tsx", line: 1, column: 2, length: 3, lineText: "x", suggestion: null };
    await lab.end(450, claim, { ...ends.completed, result: "built ü", sourceMap: "{}", warnings: [warning], externals: ["react"] });
    expect(await lab.job(id)).toMatchObject({ status: "completed", startedAt: iso(400), completedAt: iso(450), result: "built ü", warnings: [warning], externals: ["react"], error: null, failure: null, supersededBy: null, attempts: [{}, { outcome: "completed", endedAt: iso(450) }] });
    expect(await lab.store.output(scope, id)).toEqual({ status: "completed", result: "built ü", sourceMap: "{}" });
    expect(await lab.store.output(scope, "nobody")).toBeNull();
  });

  check("a job behind one that is delayed or backs off says until when its chat waits", async (lab) => {
    const [, behind] = await lab.accept(0, ["a", { delayMs: 500 }], "a");
    expect(await lab.job(behind?.id as string)).toMatchObject({ chatReadyAt: iso(500) });
    const [front, next, other] = await lab.accept(1000, "b", "b", "c");
    const claim = (await lab.take(1001)).find(({ job }) => job.id === front?.id);
    await lab.end(1002, claim as Claim, { ...ends.crashed, delayMs: 1e9 });
    expect(await lab.job(next?.id as string)).toMatchObject({ chatReadyAt: iso(1002 + 1e9) });
    const [last] = await lab.accept(1003, "c");
    expect(await lab.job(last?.id as string)).toMatchObject({ chatReadyAt: null });
    expect((await lab.job(other?.id as string)).status).toBe("running");
  });

  check("who submits is told what holds the chat: a pause, or the delay of its first job; so is who finds it full, asks again, or goes among priorities", async (lab) => {
    const hold = (jobs: readonly object[]) => jobs.map((job) => { const { nextAttemptAt, chatPaused, chatReadyAt } = job as Standing; return [nextAttemptAt, chatPaused, chatReadyAt]; });
    expect(hold(await lab.accept(0, ["a", { delayMs: 500 }], "a"))).toEqual([[iso(500), false, iso(500)], [null, false, iso(500)]]);
    expect(hold(await lab.accept(1, "a", ["a", { delayMs: 900 }]))).toEqual([[null, false, iso(500)], [iso(901), false, iso(500)]]);
    expect(hold(await lab.accept(2, ["a", { priority: -1 }]))).toEqual([[null, false, iso(500)]]);
    expect(hold(await lab.accept(600, "a"))).toEqual([[null, false, null]]);
    await lab.accept(700, "b");
    await lab.store.setChatPaused(scope, "b", true, T0 + 701);
    expect(hold(await lab.accept(702, "b"))).toEqual([[null, true, null]]);
    expect(await lab.answer(703, ["b"], { ...wide, pendingPerChatMax: 2 })).toEqual({ kind: "chatQueueFull", chatId: "b", chatPaused: true, chatReadyAt: null });
    await lab.accept(704, ["c", { delayMs: 10_000 }]);
    expect(await lab.answer(705, ["c"], { ...wide, pendingPerChatMax: 1 })).toEqual({ kind: "chatQueueFull", chatId: "c", chatPaused: false, chatReadyAt: iso(10_704) });
    const claim = (await lab.take(706)).find(({ job }) => job.chatId === "a");
    expect(claim).toBeDefined();
    expect(hold(await lab.accept(707, "a"))).toEqual([[null, false, null]]);
  });

  check("which of several jobs have ended is told without them, those that are not there among them", async (lab) => {
    const [first, second, third] = await lab.accept(0, "a", "a", "b");
    const ids = [first, second, third].map((job) => job?.id as string);
    expect(await lab.store.ended(ids)).toEqual([]);
    for (const claim of await lab.take(1)) await lab.end(2, claim, claim.job.chatId === "a" ? ends.failed : ends.completed);
    expect((await lab.store.ended([...ids, "nobody"])).sort()).toEqual([ids[0] as string, ids[2] as string, "nobody"].sort());
    expect(await lab.store.ended([])).toEqual([]);
  });

  check("a failed job says why, whole", async (lab) => {
    const [job] = await lab.accept(0, "a");
    const failure = { code: "build_failed" as const, message: "m", retryable: false, diagnostics: [{ text: "t", file: "a.ts", line: 1, column: 2, length: 3, lineText: "l", suggestion: null }] };
    await lab.end(2, await lab.takeOne(1), { kind: "failed", failure, error: "a frame\n ^" });
    expect(await lab.job(job?.id as string)).toMatchObject({ status: "failed", result: null, error: "a frame\n ^", failure });
    expect(await lab.store.output(scope, job?.id as string)).toEqual({ status: "failed", result: null, sourceMap: null });
  });

  check("an attempt keeps how long its run took, apart from what came after it, however it ended", async (lab) => {
    const [job] = await lab.accept(0, "a");
    const end = async (ms: number, end: Ending["end"], runMs?: number) => {
      const claim = await lab.takeOne(ms);
      await lab.store.turn({ nodeId: "n1", claimId: `own${ms}`, endings: [{ ...guardOf(claim), end, runMs }], want: 0 }, T0 + ms + 100);
    };
    await end(1000, ends.released);
    await end(2000, ends.released, 30);
    await end(3000, ends.timedOut, 40);
    await end(4000, ends.completed, 60);
    expect((await lab.job(job?.id as string)).attempts.map(({ outcome, runMs }) => [outcome, runMs])).toEqual([["released", null], ["released", 30], ["retrying", 40], ["completed", 60]]);
    const failed = await lab.accept(5000, "b");
    await end(5001, ends.failed, 70);
    expect((await lab.job(failed[0]?.id as string)).attempts).toMatchObject([{ outcome: "failed", runMs: 70, endedAt: iso(5101) }]);
    const events = await lab.events("a");
    expect(events.at(-1)?.data).toEqual({ resultBytes: 2, processingMs: 100, runMs: 60 });
    expect(events[2]?.data).toEqual({});
  });

  check("a chat is seen by status: pending as they will run, finished newest first, no more than asked for", async (lab) => {
    await lab.accept(0, "a", "a", "a", "b");
    for (const [index, end] of [ends.completed, ends.failed, ends.completed].entries()) {
      const claim = (await lab.take(10 * index + 1)).find(({ job }) => job.chatId === "a");
      if (claim) await lab.end(10 * index + 2, claim, end);
    }
    await lab.accept(50, "a", ["a", { priority: 5 }], "a");
    await lab.take(60);
    const view = await lab.store.chat(scope, "a", 50, summaries);
    const numbers = Object.fromEntries(Object.entries(view).map(([status, jobs]) => [status, jobs.map((job: StoredJob) => job.chatSeq)]));
    expect(numbers).toEqual({ pending: [4, 6], running: [5], completed: [3, 1], failed: [2] });
    expect(view.completed[0]).toMatchObject({ code: null, result: null });
    expect((await lab.store.chat(scope, "a", 1, everything)).completed).toMatchObject([{ chatSeq: 3, code: "1", result: "ok" }]);
    expect((await lab.store.chat(scope, "a", 1, summaries)).pending).toHaveLength(1);
    expect(await lab.store.chat(scope, "nobody", 50, summaries)).toEqual({ pending: [], running: [], completed: [], failed: [] });
  });

  check("the list goes through all jobs page by page, newest first, each once, however many share a moment", async (lab) => {
    for (let batch = 0; batch < 5; batch++) await lab.accept(batch * 10, "a", "b", "c", "a", "b");
    const found = await pages(lab, { limit: 4 });
    expect(found.map((page) => page.length)).toEqual([4, 4, 4, 4, 4, 4, 1]);
    const all = found.flat();
    expect(new Set(ids(all)).size).toBe(25);
    expect(all.map((job) => job.createdAt)).toEqual([...all.map((job) => job.createdAt)].sort().reverse());
    // What comes meanwhile does not shift the pages that follow.
    const first = await list(lab, { limit: 10 });
    await lab.accept(1000, "z");
    const second = await list(lab, { limit: 50, cursor: first.nextCursor as string });
    expect([...ids(first.jobs), ...ids(second.jobs)]).toEqual(ids(all));
  });

  check("the list is filtered by status, chat, failure, time and dead letters, all together", async (lab) => {
    await lab.deadLetter(0, "a");
    await lab.deadLetter(10, "b");
    const [cancelled] = await lab.accept(20, "a");
    await lab.store.cancel(scope, cancelled?.id as string, T0 + 21);
    await lab.accept(30, "a", "a", "b");
    await lab.take(31, 1);
    const found = async (query: Partial<ListRead>) => ids((await list(lab, query)).jobs).sort();
    expect(await found({ status: ["failed"] })).toEqual(["j1", "j2", "j3"]);
    expect(await found({ status: ["running", "pending"], chatId: "a" })).toEqual(["j4", "j5"]);
    expect(await found({ failureCode: "cancelled" })).toEqual(["j3"]);
    expect(await found({ deadLetters: true })).toEqual(["j1", "j2"]);
    expect(await found({ deadLetters: true, chatId: "b" })).toEqual(["j2"]);
    expect(await found({ createdAfter: iso(10), createdBefore: iso(20) })).toEqual(["j2", "j3"]);
    expect(await found({ createdAfter: iso(31) })).toEqual([]);
    expect((await list(lab, { chatId: "b", include: everything })).jobs[0]).toMatchObject({ code: "1" });
    expect((await list(lab, { chatId: "b" })).jobs[0]).toMatchObject({ code: null, result: null });
  });

  check("a cursor that is none is refused", async (lab) => {
    const made = ["{}", '["soon","j1"]', '["1.5","j1"]', '["0000-01-01T00:00:00Z","j1"]', '["2026-02-31 00:00:00+00","j1"]', '["1767225600000000","j\\u0000"]'].map((text) => Buffer.from(text).toString("base64url"));
    for (const cursor of ["x", ...made])
      await expect(list(lab, { cursor })).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/cursor" }] });
  });

  check("every transition is one event with the chat's next number, and the history proves the promises", async (lab) => {
    const [, a2, a3] = await lab.accept(0, "a", "a", "a");
    await lab.end(2, await lab.takeOne(1), ends.crashed);
    await lab.store.setChatPaused(scope, "a", true, T0 + 3);
    await lab.store.setChatPaused(scope, "a", false, T0 + 4);
    await lab.store.cancel(scope, a2?.id as string, T0 + 5);
    await lab.end(721, await lab.takeOne(720), ends.failed);
    await lab.store.redrive(scope, "j1", { agingMs }, T0 + 730);
    await lab.takeOne(731);
    await lab.store.cancel(scope, a3?.id as string, T0 + 732);
    await lab.store.rescue({ nodeId: "n2", nodeLossesMax: 5, limit: 10 }, T0 + 9000);
    await lab.end(9002, await lab.takeOne(9001, "n2"), ends.released, "n2");
    await lab.end(9004, await lab.takeOne(9003, "n2"), ends.completed, "n2");
    const events = await lab.events("a");
    expect(events.map((event) => event.number)).toEqual(events.map((_, index) => index + 1));
    expect(events.map((event) => event.type)).toEqual([
      "job.accepted", "job.accepted", "job.accepted", "job.started", "job.retrying", "chat.paused", "chat.resumed", "job.failed", "job.started", "job.failed",
      "job.redriven", "job.started", "job.cancelRequested", "job.failed", "job.started", "job.released", "job.started", "job.completed",
    ]);
    expect(checkHistory(events, (await list(lab, {})).jobs, { agingMs, atRest: true, promised: ["j1", "j2", "j3"] })).toEqual([]);
    expect(events[3]).toEqual({ chatId: "a", number: 4, type: "job.started", jobId: "j1", chatSeq: 1, status: "running", attempt: 1, at: iso(1), data: { nodeId: "n1", slots: 3, fence: 1 } });
    expect(events[4]).toMatchObject({ type: "job.retrying", status: "pending", data: { failureCode: "worker_crashed", runAt: iso(702), delayMs: 700 } });
    expect(events[9]).toMatchObject({ type: "job.failed", data: { failureCode: "build_failed" } });
    expect(events[17]).toMatchObject({ type: "job.completed", at: iso(9004), data: { resultBytes: 2, processingMs: 1 } });
  });

  check("events are read from any number on, of a chat or of one job, and a stream knows where to start", async (lab) => {
    await lab.accept(0, "a", "a");
    const read = async (after: number, more: { limit?: number; jobId?: string } = {}) => (await lab.store.events(scope, "a", { after, limit: 100, ...more })).events.map((event) => event.number);
    expect(await lab.store.eventStart(scope, "a")).toBe(0);
    await lab.end(2, await lab.takeOne(1), ends.completed);
    expect(await read(0)).toEqual([1, 2, 3, 4]);
    expect(await read(2)).toEqual([3, 4]);
    expect(await read(0, { limit: 3 })).toEqual([1, 2, 3]);
    expect(await read(0, { jobId: "j1" })).toEqual([1, 3, 4]);
    expect(await read(1, { jobId: "j1" })).toEqual([3, 4]);
    expect(await lab.store.events(scope, "a", { after: 4, limit: 100 })).toEqual({ events: [], floor: 0, tail: 4 });
    // Before the first event of the oldest unfinished job; the latest number when all are finished.
    expect(await lab.store.eventStart(scope, "a")).toBe(1);
    await lab.end(4, await lab.takeOne(3), ends.completed);
    expect(await lab.store.eventStart(scope, "a")).toBe(6);
    expect([await lab.store.eventStart(scope, "nobody"), await lab.store.events(scope, "nobody", { after: 0, limit: 10 })]).toEqual([0, { events: [], floor: 0, tail: 0 }]);
  });

  check("figures count everything once, and their times are those of the latest finished jobs", async (lab) => {
    expect(await lab.store.stats(scope, T0)).toMatchObject({ totalQueued: 0, totalRunning: 0, totalCompleted: 0, totalFailed: 0, averageProcessingTime: 0, successRate: null, oldestWaitMs: null, activeChats: 0, waitingChats: 0, deadLetters: 0, processing: { p50: null }, waiting: { p99: null } });
    for (const [index, ms] of [100, 200, 300, 400].entries()) {
      await lab.accept(index * 1000, "a");
      await lab.end(index * 1000 + 50 + ms, await lab.takeOne(index * 1000 + 50), index === 3 ? ends.failed : ends.completed);
    }
    await lab.accept(5000, "a", "a", "b", ["c", { delayMs: 60_000 }], "d");
    await lab.store.setChatPaused(scope, "d", true, T0 + 5000);
    await lab.take(5001, 1);
    const stats = await lab.store.stats(scope, T0 + 5100);
    expect(stats).toMatchObject({ totalQueued: 4, totalRunning: 1, totalCompleted: 3, totalFailed: 1, averageProcessingTime: 250, successRate: 0.75, finishedLastMinute: 4, activeChats: 4, waitingChats: 1, deadLetters: 1, queuePaused: false, oldestWaitMs: 100 });
    expect(stats.processing).toEqual({ p50: 250, p90: expect.closeTo(370, 3), p95: expect.closeTo(385, 3), p99: expect.closeTo(397, 3) });
    expect(stats.waiting).toEqual({ p50: 50, p95: 50, p99: 50 });
    expect((await lab.store.stats(scope, T0 + 65_000)).finishedLastMinute).toBe(0);
  });

  check("the longest wait for a slot is counted from a job's acceptance, from the end of its delay or backoff, or from its redrive", async (lab) => {
    const longest = async (ms: number) => (await lab.store.stats(scope, T0 + ms)).oldestWaitMs;
    await lab.accept(0, ["later", { delayMs: 60_000 }]);
    expect(await longest(50_000)).toBeNull();
    expect(await longest(60_100)).toBe(100);
    await lab.end(60_102, await lab.takeOne(60_101), ends.crashed);
    expect(await longest(60_110)).toBeNull();
    expect(await longest(60_852)).toBe(50);
    await lab.end(61_001, await lab.takeOne(61_000), ends.failed);
    await lab.accept(90_000, "a");
    await lab.store.redrive(scope, "j1", { agingMs }, T0 + 90_100);
    expect(await longest(90_300)).toBe(300);
    await lab.end(90_302, await lab.takeOne(90_301), ends.completed);
    expect(await longest(90_310)).toBe(210);
  });

  check("figures count chats of a kind and dead letters up to their limit and no further, and jobs all", async (lab) => {
    const beyond = countedMax + 1;
    const chats = (name: string, extra: Partial<NewJob> = {}) => lab.store.accept([lab.group(...Array.from({ length: beyond }, (_, nth): Spec => [`${name}${nth}`, extra]))], wide, T0);
    await chats("dead");
    const claims = await lab.take(1, beyond);
    expect(claims).toHaveLength(beyond);
    const fail = (some: Claim[]) => endInTurns(lab, some, ends.failed, 2);
    await fail(claims.slice(2));
    expect((await lab.store.stats(scope, T0 + 2)).deadLetters).toBe(countedMax - 1);
    await fail(claims.slice(0, 2));
    await chats("ready");
    await chats("delayed", { delayMs: 60_000 });
    expect(await lab.store.stats(scope, T0 + 3)).toMatchObject({ totalQueued: 2 * beyond, totalFailed: beyond, deadLetters: countedMax, waitingChats: countedMax, activeChats: 2 * countedMax });
    // Those whose delay is over wait with the others, and are of one kind with them.
    expect(await lab.store.stats(scope, T0 + 60_001)).toMatchObject({ waitingChats: countedMax, activeChats: countedMax });
  });

  check("what ended in the last minute is counted among the latest, and told by their pace where all of these did", async (lab) => {
    const total = 3 * sampledMax;
    await lab.store.accept([lab.group(...Array.from({ length: total }, (_, nth): Spec => `c${nth}`))], wide, T0);
    const claims = await lab.take(1, total);
    const end = (some: Claim[], ms: number) => endInTurns(lab, some, ends.completed, ms);
    const lastMinute = async (ms: number) => (await lab.store.stats(scope, T0 + ms)).finishedLastMinute;
    await end(claims.slice(0, sampledMax - 1), 1000);
    expect(await lastMinute(2000)).toBe(sampledMax - 1);
    await end(claims.slice(sampledMax - 1), 10_000);
    // Never more than ever ended; then by the pace of the latest, and as many as were counted at the least.
    expect(await lastMinute(10_001)).toBe(total);
    expect(await lastMinute(40_000)).toBe(2 * sampledMax);
    expect(await lastMinute(69_999)).toBe(sampledMax);
    expect(await lastMinute(70_000)).toBe(0);
  });

  check("lanes come in pages without a gap or a repeat, those that need a person first, however many are of a kind and in whatever pages", async (lab) => {
    const named = (kind: string, count: number) => Array.from({ length: count }, (_, nth) => `${String((nth * 13) % count).padStart(3, "0")}${kind}`);
    await lab.accept(0, ...named("idle", 230));
    for (const claim of await lab.take(1, 230)) await lab.end(2, claim, ends.completed);
    await lab.accept(3, ...named("held", 3));
    for (const chatId of named("held", 3)) await lab.store.setChatPaused(scope, chatId, true, T0 + 3);
    await lab.accept(4, ...named("due", 210).map((chatId): Spec => [chatId, { delayMs: 10 }]), ...named("later", 205).map((chatId): Spec => [chatId, { delayMs: 1e6 }]));
    await lab.accept(5, ...named("ready", 220), ...Array.from({ length: 20 }, () => "007ready"));
    await lab.take(6, 4);
    const at = T0 + 100;
    const whole = await lab.store.lanes(scope, { limit: 2000 }, at);
    const groups = [named("held", 3), named("later", 205), [...named("due", 210), ...named("ready", 220)], named("idle", 230)];
    expect(whole.nextCursor).toBeNull();
    expect(whole.lanes.map(({ chatId }) => chatId)).toEqual(groups.flatMap((chats) => chats.sort()));
    expect(whole.lanes.find(({ chatId }) => chatId === "007ready")).toMatchObject({ state: "ready", pending: 21, jobs: { length: lanePendingMax } });
    for (const limit of [100, 200, 201, 202, 433]) {
      const walked = [];
      for (let cursor: string | undefined; ; ) {
        const page = await lab.store.lanes(scope, { limit, cursor }, at);
        walked.push(...page.lanes);
        if (page.nextCursor === null) break;
        expect(page.lanes).toHaveLength(limit);
        cursor = page.nextCursor;
      }
      expect(walked).toEqual(whole.lanes);
    }
  });

  check("a lane says which failure its policy holds it for, and not when a person pauses it", async (lab) => {
    await lab.accept(0, "a", "a");
    await lab.store.setPolicy(scope, "a", { afterFailure: "hold" }, T0);
    const claim = await lab.takeOne(1);
    const lane = async () => (await lab.store.lanes(scope, { limit: 1, chatIds: ["a"] }, T0 + 5)).lanes[0];
    expect(await lane()).toMatchObject({ paused: false, heldBy: null });
    await lab.end(2, claim, ends.failed);
    expect(await lane()).toMatchObject({ state: "paused", paused: true, heldBy: claim.job.id });
    await lab.store.setChatPaused(scope, "a", false, T0 + 3);
    await lab.store.setChatPaused(scope, "a", true, T0 + 4);
    expect(await lane()).toMatchObject({ state: "paused", paused: true, heldBy: null });
  });

  check("a database that answers says so", async (lab) => {
    expect(await lab.store.ping()).toBe(true);
  });
};
