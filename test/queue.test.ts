import { afterEach, describe, expect, it } from "vitest";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueue, BuildQueueOptions, HistoryEvent, PendingJob, Report, RunnableJob } from "../src/index.js";
import { createMemoryStore, createSimulatedClock } from "../src/testing.js";
import { systemClock } from "../src/clock.js";
import { databaseUnavailable } from "../src/errors.js";
import type { BuildlaneError } from "../src/errors.js";
import { checkHistory } from "../src/history/check.js";
import type { Store } from "../src/store/store.js";

const open: BuildQueue[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

interface Gate {
  job: RunnableJob;
  signal: AbortSignal;
  attempt: number;
  end(result: unknown): void;
  fail(error: Error): void;
}

/** A queue in memory whose runs end when the test says so. */
async function gated(options: BuildQueueOptions = {}) {
  const gates: Gate[] = [];
  let waiting: (() => void)[] = [];
  const reports: Report[] = [];
  const queue = await createBuildQueue({
    store: "memory", concurrency: 2, drainMs: 100,
    run: (job, { signal, attempt }) =>
      new Promise((resolve, reject) => {
        gates.push({ job, signal, attempt, end: resolve, fail: reject });
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
        waiting.splice(0).forEach((tell) => tell());
      }),
    onReport: (report) => reports.push(report),
    ...options,
  });
  open.push(queue);
  /** The gate of the n-th run, when it is there. */
  const started = async (index: number): Promise<Gate> => {
    while (gates.length <= index) await new Promise<void>((resolve) => waiting.push(resolve));
    return gates[index] as Gate;
  };
  const submit = (chatId: string, messageId = "m", extra: object = {}) => queue.enqueue({ chatId, messageId, code: "1", ...extra });
  return { queue, gates, started, submit, reports };
}

async function eventsOf(queue: BuildQueue, chatId: string, count: number): Promise<HistoryEvent[]> {
  const found: HistoryEvent[] = [];
  for await (const event of queue.events({ chatId }, { after: 0, signal: AbortSignal.timeout(5000) })) {
    if (event !== "reset") found.push(event);
    if (found.length === count) break;
  }
  return found;
}

describe("the queue", () => {
  it("runs a chat's jobs one after another in order of acceptance, while another chat's run beside them", async () => {
    const { queue, gates, started, submit } = await gated();
    const a1 = await submit("a", "1");
    const a2 = await submit("a", "2");
    const b1 = await submit("b", "1");
    expect([a1.queuePosition, a2.chatSeq, b1.chatSeq]).toEqual([1, 2, 1]);
    (await started(0)).end("A1");
    (await started(1)).end("B1");
    (await started(2)).end("A2");
    expect((await Promise.all([a1, a2, b1].map(({ id }) => queue.waitFor(id)))).map((job) => job.result)).toEqual(["A1", "A2", "B1"]);
    expect(gates.filter(({ job }) => job.chatId === "a").map(({ job }) => job.messageId)).toEqual(["1", "2"]);
  });

  it("tells of each acceptance that it did not start itself: while it held the lane, a claim may have passed over that", async () => {
    const store = createMemoryStore();
    const told: string[] = [];
    const { queue, started, submit } = await gated({ store: { ...store, hint: (hint) => (told.push(hint.kind), store.hint(hint)) } });
    await submit("a", "1");
    await started(0);
    // Started with its acceptance: nobody need look for it.
    expect(told).not.toContain("ready");
    await submit("a", "2");
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toContain("ready");
    expect((await queue.stats()).totalQueued).toBe(1);
  });

  it("never runs more than its slots, and uses all of them while work waits", async () => {
    let running = 0;
    let most = 0;
    const { queue } = await gated({
      concurrency: 4,
      run: async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
        return "";
      },
    });
    const jobs = await queue.enqueueMany(Array.from({ length: 100 }, (_, index) => ({ chatId: `c${index % 20}`, messageId: "m", code: "1" })));
    await Promise.all(jobs.jobs.map(({ id }) => queue.waitFor(id)));
    expect([most, running]).toEqual([4, 0]);
  });

  it("reads a job about twice for who waits for it, however many wait in its chat", async () => {
    const store = createMemoryStore({ clock: systemClock });
    const asked = { get: 0, ended: 0 };
    const { get, ended } = store;
    Object.assign(store, {
      get: (...args: Parameters<typeof get>) => (asked.get++, get(...args)),
      ended: (...args: Parameters<typeof ended>) => (asked.ended++, ended(...args)),
    });
    const { queue } = await gated({ store, run: async (job) => void (await new Promise((resolve) => setImmediate(resolve)), job), maxPendingPerChat: 1000 });
    const { jobs } = await queue.enqueueMany(Array.from({ length: 200 }, (_, index) => ({ chatId: `c${index % 4}`, messageId: "m", code: "1" })));
    const done = await Promise.all([...jobs, ...jobs].map(({ id }) => queue.waitFor(id)));
    expect(done.map(({ id }) => id)).toEqual([...jobs, ...jobs].map(({ id }) => id));
    // And who is left alone at last looks at each news.
    expect(asked.get).toBeLessThanOrEqual(2 * 400 + 4 * 2 * 2);
    // A chat's news is its jobs' acceptance, start and end.
    expect(asked.ended).toBeLessThanOrEqual(3 * 200 + 4);
  });

  it("keeps the order of a batch, of one caller's unawaited calls, and of many callers together", async () => {
    const seen: Record<string, number[]> = {};
    const { queue } = await gated({ run: (job) => void (seen[job.chatId] ??= []).push(job.chatSeq), maxPendingPerChat: 1000 });
    const batch = await queue.enqueueMany(Array.from({ length: 50 }, (_, index) => ({ chatId: `c${index % 3}`, messageId: String(index), code: "1" })));
    const calls = await Promise.all(Array.from({ length: 50 }, (_, index) => queue.enqueue({ chatId: `c${index % 3}`, messageId: String(index), code: "1" })));
    for (const chat of ["c0", "c1", "c2"]) {
      const numbers = [...batch.jobs, ...calls].filter((job) => job.chatId === chat).map((job) => job.chatSeq);
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    }
    await Promise.all([...batch.jobs, ...calls].map(({ id }) => queue.waitFor(id)));
    for (const numbers of Object.values(seen)) expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  });

  it("keeps the chat's place through a retry, without a slot, and says when it goes on", async () => {
    const { queue, gates, started, submit } = await gated({ concurrency: 1, retryBaseMs: 60, maxAttempts: 2 });
    const first = await submit("a", "1");
    const second = await submit("a", "2");
    (await started(0)).fail(new Error("flaky"));
    const other = await submit("b", "1");
    (await started(1)).end("B");
    await queue.waitFor(other.id);
    (await started(2)).end("A1");
    (await started(3)).end("A2");
    await queue.waitFor(second.id);
    expect(gates.map(({ job, attempt }) => `${job.chatId}${job.messageId}#${attempt}`)).toEqual(["a1#1", "b1#1", "a1#2", "a2#1"]);
    const done = await queue.get(first.id);
    expect(done).toMatchObject({ status: "completed", attempt: 2, attempts: [{ outcome: "retrying", failureCode: "run_failed" }, { outcome: "completed" }] });
  });

  it("does not try again what says that it is not retryable", async () => {
    const { queue, started, submit } = await gated();
    const job = await submit("a");
    (await started(0)).fail(Object.assign(new Error("never"), { retryable: false }));
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "failed", attempt: 1, error: "never", failure: { code: "run_failed" } });
  });

  it("stops a run at its time limit and tries once more", async () => {
    const { queue, gates, submit } = await gated({ retryBaseMs: 1 });
    const job = await submit("a", "1", { timeoutMs: 100 });
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "failed", failure: { code: "timed_out" }, attempt: 2 });
    expect(gates.map((gate) => gate.signal.aborted)).toEqual([true, true]);
  });

  it("cancels a pending job at once and a running one by stopping it; its successor starts after that", async () => {
    const { queue, started, submit, gates } = await gated({ concurrency: 1 });
    const [running, pending, successor] = [await submit("a", "1"), await submit("a", "2"), await submit("a", "3")];
    await started(0);
    expect(await queue.cancel(pending.id)).toBe("cancelled");
    expect(await queue.cancel(running.id)).toBe("requested");
    (await started(1)).end("done");
    const [one, two, three] = await Promise.all([running, pending, successor].map(({ id }) => queue.waitFor(id)));
    expect([one?.failure?.code, two?.failure?.code, three?.status]).toEqual(["cancelled", "cancelled", "completed"]);
    expect(gates[0]?.signal.aborted).toBe(true);
    expect(Date.parse(three?.startedAt as string)).toBeGreaterThanOrEqual(Date.parse(one?.completedAt as string));
    expect(await queue.cancel(running.id)).toBe("already");
    await expect(queue.cancel(successor.id)).rejects.toMatchObject({ code: "already_final" });
    await expect(queue.cancel("nope")).rejects.toMatchObject({ code: "job_not_found" });
    expect(await queue.deadLetters.count({})).toBe(0);
  });

  it("puts a failed job at the tail of its chat again, with fresh attempts and its old number", async () => {
    const { queue, started, submit } = await gated({ maxAttempts: 1 });
    const job = await submit("a", "1");
    (await started(0)).fail(new Error("no"));
    await queue.waitFor(job.id);
    expect(await queue.deadLetters.count({})).toBe(1);
    await expect(queue.retry("nope")).rejects.toMatchObject({ code: "job_not_found" });
    expect(await queue.retry(job.id)).toMatchObject({ chatSeq: 1, status: "pending" });
    await expect(queue.retry(job.id)).rejects.toMatchObject({ code: "not_failed" });
    (await started(1)).end("yes");
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed", attempt: 2, result: "yes" });
    expect(await queue.deadLetters.count({})).toBe(0);
  });

  it("groups dead letters that failed alike, and redrives a group no faster than it is told", async () => {
    const { queue, gates, submit } = await gated({
      maxAttempts: 1, concurrency: 4,
      run: (job, { attempt }) => {
        gates.push({ job, attempt } as never);
        if (attempt > 1) return "yes";
        throw new Error(job.messageId === "odd" ? "something else" : `line ${job.chatId.length * 7}: no "${job.chatId}"`);
      },
    });
    const alike = await Promise.all(["a", "bb", "ccc"].map((chat) => submit(chat)));
    const odd = await submit("a", "odd");
    await Promise.all([...alike, odd].map(({ id }) => queue.waitFor(id)));
    const groups = await queue.deadLetters.groups({}, 10);
    expect(groups).toMatchObject([{ failureCode: "run_failed", count: 3, chats: 3 }, { count: 1, chats: 1, message: "something else", examples: [odd.id] }]);
    expect(groups[0]?.examples.sort()).toEqual(alike.map(({ id }) => id).sort());
    const fingerprint = groups[0]?.fingerprint as string;
    expect(await queue.deadLetters.count({ fingerprint })).toBe(3);
    expect(await queue.deadLetters.redrive({ fingerprint }, 10, { ratePerSecond: 20 })).toBe(3);
    const again = await Promise.all(alike.map(({ id }) => queue.waitFor(id)));
    const starts = again.map((job) => Date.parse(job.startedAt as string)).sort((x, y) => x - y);
    expect((starts[2] as number) - (starts[0] as number)).toBeGreaterThanOrEqual(95);
    expect(await queue.deadLetters.groups({}, 10)).toHaveLength(1);
  });

  it("redrives and discards dead letters by filter", async () => {
    let fails = true;
    const { queue, submit } = await gated({
      maxAttempts: 1,
      run: () => {
        if (fails) throw new Error("no");
        return "yes";
      },
    });
    const jobs = await Promise.all(["a", "b", "c"].map((chat) => submit(chat)));
    await Promise.all(jobs.map(({ id }) => queue.waitFor(id)));
    expect(await queue.deadLetters.discard({ chatId: "c" }, 10)).toBe(1);
    fails = false;
    expect(await queue.deadLetters.redrive({ failureCode: "run_failed" }, 10)).toBe(2);
    expect((await Promise.all(jobs.slice(0, 2).map(({ id }) => queue.waitFor(id)))).map((job) => job.status)).toEqual(["completed", "completed"]);
    expect((await queue.get((jobs[2] as { id: string }).id)).status).toBe("failed");
  });

  it("supersedes what waits in the chat, and leaves the running one and other chats alone", async () => {
    const { queue, started, submit } = await gated({ concurrency: 1, maxPendingPerChat: 2 });
    const [running, one, two] = [await submit("a", "1"), await submit("a", "2"), await submit("a", "3")];
    const other = await submit("b", "1");
    const gate = await started(0);
    const newest = await submit("a", "4", { supersede: "pending" });
    expect(newest).toMatchObject({ status: "pending", chatSeq: 4, queuePosition: 2 });
    const superseded = await Promise.all([one, two].map(({ id }) => queue.get(id)));
    for (const job of superseded) expect(job).toMatchObject({ status: "failed", supersededBy: newest.id, attempt: 0, failure: { code: "superseded" } });
    expect((await queue.get(running.id)).status).toBe("running");
    expect(await queue.deadLetters.count({})).toBe(0);
    gate.end("");
    for (const index of [1, 2]) (await started(index)).end("");
    expect((await Promise.all([running, other, newest].map(({ id }) => queue.waitFor(id)))).map((job) => job.status)).toEqual(["completed", "completed", "completed"]);
    const failed = (await eventsOf(queue, "a", 7)).filter((event) => event.type === "job.failed");
    expect(failed.map(({ jobId, data }) => [jobId, data["failureCode"], data["supersededBy"]])).toEqual([one, two].map(({ id }) => [id, "superseded", newest.id]));
  });

  it("stops the running one too when asked, and starts the newer one only when it is gone", async () => {
    const { queue, gates, started, submit, reports } = await gated({ concurrency: 2 });
    const [running, waiting] = [await submit("a", "1"), await submit("a", "2")];
    const gate = await started(0);
    const newest = await submit("a", "3", { supersede: "running" });
    expect(gate.signal.aborted).toBe(true);
    (await started(1)).end("new");
    const [first, second, third] = await Promise.all([running, waiting, newest].map(({ id }) => queue.waitFor(id)));
    expect(first).toMatchObject({ status: "failed", supersededBy: newest.id, failure: { code: "superseded" }, attempts: [{ outcome: "failed", failureCode: "superseded" }] });
    expect(second).toMatchObject({ status: "failed", supersededBy: newest.id });
    expect(third).toMatchObject({ status: "completed", result: "new" });
    expect(Date.parse(third?.startedAt as string)).toBeGreaterThanOrEqual(Date.parse(first?.completedAt as string));
    expect(gates).toHaveLength(2);
    expect(reports.filter((report) => report.type === "attempt.ended").map((report) => report.failureCode)).toEqual(["superseded", null]);
    expect(await queue.retry(running.id)).toMatchObject({ status: "pending" });
    (await started(2)).end("again");
    expect(await queue.waitFor(running.id)).toMatchObject({ status: "completed", supersededBy: null });
  });

  it("supersedes inside a batch too, and what a superseding submission ends makes room for it", async () => {
    const { queue, submit } = await gated({ maxPendingPerChat: 2, maxPending: 3 });
    await queue.pause();
    await submit("a", "1");
    await submit("a", "2");
    await submit("b", "1");
    await expect(submit("a", "3")).rejects.toMatchObject({ code: "chat_queue_full" });
    const request = (messageId: string, supersede?: "pending") => ({ chatId: "a", messageId, code: "1", supersede });
    const { jobs } = await queue.enqueueMany([request("4", "pending"), request("5"), request("6", "pending")]);
    expect(jobs.map(({ status, queuePosition }) => [status, queuePosition])).toEqual([["failed", 0], ["failed", 0], ["pending", 1]]);
    const view = await queue.chat("a");
    expect(view.pending.map((job) => job.messageId)).toEqual(["6"]);
    expect(Object.fromEntries(view.failed.map((job) => [job.messageId, job.supersededBy]))).toEqual({ 1: jobs[0]?.id, 2: jobs[0]?.id, 4: jobs[2]?.id, 5: jobs[2]?.id });
    await queue.resume();
  });

  it("runs higher priorities earlier, and equal ones in order", async () => {
    const { queue, gates, started, submit } = await gated({ concurrency: 1 });
    const first = await submit("a", "first");
    await started(0);
    await submit("a", "low", { priority: -5 });
    await submit("a", "one");
    const high = await submit("a", "high", { priority: 5 });
    const last = await submit("a", "two");
    expect([high.queuePosition, last.queuePosition]).toEqual([2, 4]);
    for (let index = 0; index < 5; index++) (await started(index)).end("");
    await queue.waitFor(first.id);
    expect(gates.map(({ job }) => job.messageId)).toEqual(["first", "high", "one", "two", "low"]);
  });

  it("claims nothing while it is paused, and goes on when it is resumed; a chat by itself too", async () => {
    const { queue, gates, started, submit } = await gated();
    await queue.pauseChat("nobody");
    const warm = await submit("a", "0");
    (await started(0)).end("");
    await queue.waitFor(warm.id);
    await queue.pauseChat("a");
    const held = await submit("a", "1");
    const free = await submit("b", "1");
    (await started(1)).end("");
    await queue.waitFor(free.id);
    expect(await queue.get(held.id)).toMatchObject({ status: "pending", estimatedWaitTime: null });
    await queue.resumeChat("a");
    (await started(2)).end("");
    await queue.waitFor(held.id);
    await queue.pause();
    const later = await submit("c", "1");
    expect((await queue.stats()).queuePaused).toBe(true);
    expect(gates).toHaveLength(3);
    await queue.resume();
    (await started(3)).end("");
    await queue.waitFor(later.id);
  });

  it("lets later jobs pass one in backoff where the chat's policy says yield", async () => {
    const { queue, gates, started, submit } = await gated({ concurrency: 1, retryBaseMs: 1, clock: { ...systemClock, random: () => 0.999 } });
    expect(await queue.setPolicy("a", { whileRetrying: "yield" })).toEqual({ whileRetrying: "yield", afterFailure: "skip" });
    const flaky = await submit("a", "flaky", { maxAttempts: 2 });
    const others = [await submit("a", "1"), await submit("a", "2")];
    (await started(0)).fail(new Error("flaky"));
    for (let index = 1; index < 4; index++) (await started(index)).end("");
    await Promise.all([flaky, ...others].map(({ id }) => queue.waitFor(id)));
    expect(gates.map(({ job }) => job.messageId)).toEqual(["flaky", "1", "2", "flaky"]);
    const events = await eventsOf(queue, "a", 12);
    expect(events[0]).toMatchObject({ type: "chat.policyChanged", jobId: null, data: { whileRetrying: "yield", afterFailure: "skip" } });
    expect(checkHistory(events, await Promise.all([flaky, ...others].map(({ id }) => queue.get(id))), { agingMs: 30_000, atRest: true })).toEqual([]);
    const blind = events.slice(1).map((event) => ({ ...event, number: event.number - 1 }));
    expect(checkHistory(blind, await Promise.all([flaky, ...others].map(({ id }) => queue.get(id))), { agingMs: 30_000 }).map(({ kind }) => kind)).toContain("overtaking");
  });

  it("holds a chat after a final failure where its policy says so, until the job is redriven or the chat resumed", async () => {
    const { queue, started, submit, gates } = await gated({ maxAttempts: 1 });
    await queue.setPolicy("a", { afterFailure: "hold" });
    const [bad, next] = [await submit("a", "bad"), await submit("a", "next")];
    (await started(0)).fail(new Error("no"));
    await queue.waitFor(bad.id);
    expect(await queue.chatState("a")).toEqual({ paused: true, heldBy: bad.id, policy: { whileRetrying: "block", afterFailure: "hold" } });
    expect(await queue.why(next.id)).toMatchObject({ reason: "chat_held", message: expect.stringContaining(bad.id) });
    const cancelled = await submit("a", "cancelled");
    await queue.cancel(cancelled.id);
    await queue.retry(bad.id);
    (await started(1)).end("");
    (await started(2)).fail(new Error("again"));
    await queue.waitFor(bad.id);
    expect(gates.map(({ job }) => job.messageId)).toEqual(["bad", "next", "bad"]);
    const last = await submit("a", "last");
    expect((await queue.chatState("a"))?.heldBy).toBe(bad.id);
    await queue.resumeChat("a");
    (await started(3)).end("");
    await queue.waitFor(last.id);
    expect(await queue.chatState("a")).toMatchObject({ paused: false, heldBy: null });
  });

  it("refuses bounds that are no times, or of years that a database has not", async () => {
    const { queue } = await gated();
    const list = (bounds: object) => queue.list({ limit: 10, include: { code: false, result: false }, ...bounds });
    for (const time of ["soon", "", "0000-12-31T23:59:59Z", "+010000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01"])
      await expect(list({ createdAfter: time, createdBefore: time })).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/createdAfter" }, { path: "/createdBefore" }] });
    expect((await list({ createdAfter: "0001-01-01T00:00:00Z", createdBefore: "9999-12-31T23:59:59.999Z" })).jobs).toEqual([]);
  });

  it("cancels all of a chat, the running one by stopping it, and no other chat", async () => {
    const { queue, started, submit } = await gated();
    const [running, one, two, other] = [await submit("a", "1"), await submit("a", "2"), await submit("a", "3"), await submit("b", "1")];
    const gate = await started(0);
    expect(await queue.cancelChat("a")).toEqual({ cancelled: 2, stopping: running.id });
    expect(gate.signal.aborted).toBe(true);
    const ended = await Promise.all([running, one, two].map(({ id }) => queue.waitFor(id)));
    expect(ended.map((job) => job.failure?.code)).toEqual(["cancelled", "cancelled", "cancelled"]);
    expect(await queue.cancelChat("a")).toEqual({ cancelled: 0, stopping: null });
    expect(await queue.cancelChat("nobody")).toBeNull();
    (await started(1)).end("");
    expect((await queue.waitFor(other.id)).status).toBe("completed");
  });

  it("erases a chat whose run takes its time to go, and lets everything else have its turn meanwhile", async () => {
    const { queue, submit } = await gated({
      concurrency: 1,
      // Gone only after a turn of the event loop: whoever spins meanwhile waits for ever.
      run: (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => setImmediate(() => reject(new Error("gone"))), { once: true })),
    });
    const job = await submit("a");
    while ((await queue.get(job.id)).status !== "running") await new Promise((resolve) => setImmediate(resolve));
    expect(await queue.erase("a")).toEqual({ jobs: 1 });
  });

  it("erases a conversation: stops what runs, then forgets jobs, results and events, and goes on counting", async () => {
    const { queue, started, submit } = await gated({ concurrency: 2 });
    const [done, running, waiting] = [await queue.enqueue({ chatId: "a", messageId: "1", code: "1" }, { idempotencyKey: "k" }), await submit("a", "2"), await submit("a", "3")];
    const other = await submit("b");
    (await started(0)).end("secret");
    await queue.waitFor(done.id);
    (await started(1)).end("");
    await queue.waitFor(other.id);
    const gate = await started(2);
    await queue.setPolicy("a", { afterFailure: "hold" });
    const watching = queue.events({ chatId: "a" }, { after: 1, signal: AbortSignal.timeout(10_000) })[Symbol.asyncIterator]();
    await watching.next();
    expect(await queue.erase("a")).toEqual({ jobs: 3 });
    expect(gate.signal.aborted).toBe(true);
    for (const { id } of [done, running, waiting]) await expect(queue.get(id)).rejects.toMatchObject({ code: "job_not_found" });
    expect(await queue.chat("a")).toEqual({ pending: [], running: [], completed: [], failed: [] });
    expect(await queue.chatState("a")).toEqual({ paused: false, heldBy: null, policy: { whileRetrying: "block", afterFailure: "skip" } });
    await expect(queue.enqueue({ chatId: "a", messageId: "1", code: "1" }, { idempotencyKey: "k" })).rejects.toMatchObject({ code: "job_not_found" });
    let seen = await watching.next();
    while (seen.value !== "reset") seen = await watching.next();
    expect(await submit("a", "4")).toMatchObject({ chatSeq: 4, queuePosition: 1 });
    (await started(3)).end("");
    expect((await watching.next()).value).toMatchObject({ type: "chat.erased", jobId: null, data: {} });
    expect((await watching.next()).value).toMatchObject({ type: "job.accepted", chatSeq: 4 });
    expect((await queue.get(other.id)).status).toBe("completed");
    expect(await queue.erase("nobody")).toBeNull();
  });

  it("holds a delayed job's place until its time", async () => {
    const { queue, gates, started, submit } = await gated();
    await submit("a", "1", { delayMs: 80 });
    const second = await submit("a", "2");
    (await started(0)).end("");
    (await started(1)).end("");
    await queue.waitFor(second.id);
    expect(gates.map(({ job }) => job.messageId)).toEqual(["1", "2"]);
  });

  it("answers one idempotency key with one job, and refuses another request under it", async () => {
    const { queue } = await gated();
    const request = { chatId: "a", messageId: "m", code: "1" };
    const [one, two] = await Promise.all([queue.enqueue(request, { idempotencyKey: "k" }), queue.enqueue(request, { idempotencyKey: "k" })]);
    expect(two).toMatchObject({ id: one.id, replayed: true });
    await expect(queue.enqueue({ ...request, code: "2" }, { idempotencyKey: "k" })).rejects.toMatchObject({ code: "idempotency_conflict" });
  });

  it("says that what a key was used for has been removed, instead of building it again", async () => {
    const store = createMemoryStore();
    const { queue, started } = await gated({ store });
    const request = { chatId: "a", messageId: "m", code: "1" };
    const first = await queue.enqueue(request, { idempotencyKey: "k" });
    (await started(0)).end("");
    await queue.waitFor(first.id);
    await store.prune({ ageMs: 1e9, count: 0, idempotencyMs: 1e9, batch: 10 });
    await expect(queue.enqueue(request, { idempotencyKey: "k" })).rejects.toMatchObject({ code: "job_not_found", message: expect.stringContaining("removed by the retention") });
  });

  it("refuses exactly what goes over a limit, with a time to come back: a minute while the queue is paused", async () => {
    const { queue, started, submit } = await gated({ maxPendingPerChat: 2, maxPending: 5, concurrency: 1 });
    await submit("a");
    await started(0);
    await submit("a");
    await submit("a");
    await expect(submit("a")).rejects.toMatchObject({ code: "chat_queue_full", statusCode: 429, retryAfterMs: 100 });
    await queue.pause();
    await expect(submit("a")).rejects.toMatchObject({ code: "chat_queue_full", statusCode: 429, retryAfterMs: 60_000 });
    for (const chat of ["b", "c", "d"]) await submit(chat);
    await expect(submit("e")).rejects.toMatchObject({ code: "queue_full", statusCode: 503, retryAfterMs: 60_000 });
    await expect(queue.enqueueMany(Array.from({ length: 3 }, () => ({ chatId: "z", messageId: "m", code: "1" })))).rejects.toMatchObject({ code: "batch_too_large", statusCode: 422 });
    await queue.resume();
  });

  it("follows without options until its reader leaves, also while nothing happens, and only what is a chat or a job", async () => {
    const { queue, submit } = await gated();
    const { id } = await submit("a");
    for (const items of [queue.events({ chatId: "a" }), queue.stream({ jobId: id }), queue.stream("all")].map((one) => one[Symbol.asyncIterator]())) {
      expect((await items.next()).done).toBe(false);
      const rest = (async () => {
        while (!(await items.next()).done);
      })();
      await items.return?.();
      await rest;
    }
    for await (const event of queue.events({ jobId: id })) if (event !== "reset" && event.type === "job.started") break;
    for (const nothing of [{}, undefined, "a"]) {
      for (const items of [queue.events(nothing as never), queue.stream(nothing as never)])
        await expect(items[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "validation_failed", message: "Expected a chatId or a jobId to follow." });
    }
  });

  it("limits a chat's rate, and only that chat's", async () => {
    const { queue, submit } = await gated({ rateLimit: "3/minute" });
    await queue.pause();
    for (let index = 0; index < 3; index++) await submit("a");
    const refusal = await submit("a").catch((error: unknown) => error as { code: string; retryAfterMs: number });
    expect(refusal).toMatchObject({ code: "rate_limited" });
    expect((refusal as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(15_000);
    expect((refusal as { retryAfterMs: number }).retryAfterMs).toBeLessThanOrEqual(20_000);
    await submit("b");
    await queue.resume();
  });

  it("tells a chat's events in order without gaps, from any number on", async () => {
    const { queue, started } = await gated({ maxAttempts: 1 });
    const { jobs } = await queue.enqueueMany(["1", "2"].map((messageId) => ({ chatId: "a", messageId, code: "1" })));
    (await started(0)).end("");
    (await started(1)).fail(new Error("no"));
    await Promise.all(jobs.map(({ id }) => queue.waitFor(id)));
    const events = await eventsOf(queue, "a", 6);
    expect(events.map((event) => event.number)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(events.map((event) => event.type)).toEqual(["job.accepted", "job.accepted", "job.started", "job.completed", "job.started", "job.failed"]);
    for (let cut = 0; cut < 6; cut++) {
      for await (const event of queue.events({ chatId: "a" }, { after: cut, signal: AbortSignal.timeout(5000) })) {
        expect(event).toMatchObject({ number: cut + 1 });
        break;
      }
    }
  });

  it("gives running work back when it stops, at no cost, after the time to drain", async () => {
    const { queue, started, submit, reports } = await gated({ drainMs: 30 });
    await submit("a");
    const gate = await started(0);
    await queue.stop();
    expect(gate.signal.aborted).toBe(true);
    expect(reports.filter((report) => report.type === "attempt.ended")).toMatchObject([{ outcome: "released" }]);
    await expect(submit("a")).rejects.toMatchObject({ code: "draining", statusCode: 503 });
  });

  it("drains what runs before it stops, and starts nothing more", async () => {
    const { queue, gates, started, submit } = await gated({ concurrency: 1 });
    await submit("a", "1");
    await submit("a", "2");
    const gate = await started(0);
    const stopped = queue.drain();
    gate.end("done");
    await stopped;
    expect(gates).toHaveLength(1);
    expect((await queue.chat("a"))).toMatchObject({ completed: [{ messageId: "1" }], pending: [{ messageId: "2", attempt: 0 }] });
  });

  it("stops twice, and by `await using`", async () => {
    {
      await using queue = await createBuildQueue({ store: "memory", run: () => "" });
      await queue.enqueue({ chatId: "a", messageId: "m", code: "1" });
    }
    const { queue } = await gated();
    await Promise.all([queue.stop(), queue.stop()]);
  });

  it("cleans what a run returns, so that it can be stored", async () => {
    const { queue, started, submit } = await gated();
    const job = await submit("a");
    (await started(0)).end("a\0b\ud800c");
    expect((await queue.waitFor(job.id)).result).toBe("a\uFFFDb\uFFFDc");
  });

  it("refuses a result over the limit", async () => {
    const { queue, started, submit } = await gated({ maxOutputBytes: 1024 });
    const job = await submit("a");
    (await started(0)).end("x".repeat(1025));
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "failed", failure: { code: "output_too_large" }, attempt: 1 });
  });

  it("records how long a run took apart from how long its end took to be recorded, while the database is away too", async () => {
    const clock = createSimulatedClock();
    const store = createMemoryStore({ clock });
    let away = true;
    const { turn } = store;
    store.turn = async (request, now) => {
      if (request.endings.length === 0) return turn(request, now);
      await new Promise<void>((resolve) => void clock.after(700, resolve));
      if (!away) return turn(request, now);
      away = false;
      throw new Error("away");
    };
    const { queue, submit } = await gated({ clock, store, run: () => new Promise((resolve) => void clock.after(300, () => resolve(""))) });
    const { id } = await submit("a");
    await clock.until(queue.waitFor(id));
    const [attempt] = (await queue.get(id)).attempts;
    expect(attempt?.runMs).toBe(300);
    expect(Date.parse(attempt?.endedAt ?? "") - Date.parse(attempt?.startedAt ?? "")).toBeGreaterThanOrEqual(300 + 700 + 700);
    await clock.until(queue.stop());
  });

  describe("while the database is away", () => {
    /** A queue whose reads of jobs, of events and of places are refused while `away`, and a count of what was asked meanwhile. */
    async function troubled() {
      const clock = createSimulatedClock();
      const store = createMemoryStore({ clock });
      const state = { away: false, asked: 0 };
      const reached = <A extends unknown[], T>(read: (...args: A) => Promise<T>) => async (...args: A): Promise<T> => {
        if (!state.away) return read(...args);
        state.asked++;
        throw databaseUnavailable(new Error("away"));
      };
      const { get, ended, events, eventStart, places, close } = store;
      Object.assign(store, {
        get: reached(get), ended: reached(ended), events: reached(events), eventStart: reached(eventStart), places: reached(places),
        // As over SQL: what is asked after the close is refused like an outage, and for good.
        close: async () => void (await close(), (state.away = true)),
      });
      return { clock, store, state, ...(await gated({ clock, store, buildTimeoutMs: 120_000 })) };
    }

    it.each([["begins to wait", true], ["waits already", false]])("whoever %s is told of the job's end all the same, by a read a second", async (_, atFirst) => {
      const { clock, state, queue, started, submit } = await troubled();
      const { id } = await submit("a");
      const gate = await started(0);
      state.away = atFirst;
      const done = queue.waitFor(id);
      if (!atFirst) await clock.advance(1);
      state.away = true;
      await clock.advance(60_000);
      expect(state.asked).toBeGreaterThanOrEqual(55);
      expect(state.asked).toBeLessThanOrEqual(65);
      gate.end("built");
      await clock.advance(1);
      state.away = false;
      expect(await clock.until(done)).toMatchObject({ status: "completed", result: "built", attempt: 1 });
      await expect(queue.waitFor("none")).rejects.toMatchObject({ code: "job_not_found" });
      await clock.until(queue.stop());
    });

    it("whoever waits is let go by a signal at once, also from a read that does not answer, and by a stop", async () => {
      const { clock, store, state, queue, started, submit } = await troubled();
      const { id } = await submit("a");
      await started(0);
      state.away = true;
      const gone = new AbortController();
      const left = expect(queue.waitFor(id, { signal: gone.signal })).rejects.toThrow("gone");
      await clock.advance(2500);
      const before = clock.monotonic();
      gone.abort(new Error("gone"));
      await left;

      const { get } = store;
      let asked = () => {};
      const isAsked = new Promise<void>((resolve) => (asked = resolve));
      store.get = () => (asked(), new Promise(() => {}));
      const silent = new AbortController();
      const leftSilent = expect(queue.waitFor(id, { signal: silent.signal })).rejects.toThrow("silent");
      await isAsked;
      silent.abort(new Error("silent"));
      await leftSilent;
      expect(clock.monotonic()).toBe(before);

      store.get = get;
      const stopped = expect(queue.waitFor(id)).rejects.toMatchObject({ code: "draining", message: "This queue was stopped." });
      await clock.until(Promise.all([queue.stop(), stopped]));
    });

    it("a stream of events stays, and goes on without a gap", async () => {
      const { clock, state, queue, started, submit } = await troubled();
      const { id } = await submit("a");
      const gate = await started(0);
      const leaving = new AbortController();
      const seen: string[][] = [[], [], []];
      const ends = [queue.events({ chatId: "a" }, { signal: leaving.signal }), queue.events({ jobId: id }, { after: 0, signal: leaving.signal }), queue.stream({ jobId: id }, { signal: leaving.signal })].map(async (items, index) => {
        for await (const item of items) seen[index]?.push(item === "reset" ? item : item.type);
      });
      await clock.advance(1);
      state.away = true;
      await clock.advance(10_000);
      gate.end("built");
      await clock.advance(1000);
      state.away = false;
      await clock.advance(1000);
      expect(seen).toEqual(seen.map(() => ["job.accepted", "job.started", "job.completed"]));
      state.away = true;
      await clock.advance(2000);
      leaving.abort();
      await Promise.all(ends);
      await clock.until(queue.stop());
    });
  });

  it("asks the store for no job and no chat that there cannot be", async () => {
    const { queue } = await gated();
    const first = async (which: never) => queue.events(which, { signal: AbortSignal.timeout(1000) })[Symbol.asyncIterator]().next();
    const ofJobs = { get: queue.get, output: queue.output, waitFor: queue.waitFor, cancel: queue.cancel, retry: queue.retry, why: queue.why, events: (jobId: string) => first({ jobId } as never) };
    const ofChats = { chat: queue.chat, chatState: queue.chatState, pauseChat: queue.pauseChat, resumeChat: queue.resumeChat, cancelChat: queue.cancelChat, erase: queue.erase, events: (chatId: string) => first({ chatId } as never), forChat: async (chatId: string) => queue.forChat("", chatId) };
    const texts = ["", "a\0", "\ud800", "x".repeat(101)];
    for (const [name, verb] of Object.entries(ofJobs)) {
      for (const id of texts) await expect(verb(id), name).rejects.toMatchObject({ code: "job_not_found" });
      for (const id of [null, 5, {}]) await expect(verb(id as never), name).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/id" }] });
    }
    await expect(queue.get(undefined as never)).rejects.toThrow("/id: Expected a job's id, got nothing.");
    for (const [name, verb] of Object.entries(ofChats)) for (const chatId of [...texts, "a\u001fb", ...(name === "events" ? [] : [undefined]), null, 5]) await expect(verb(chatId as never), name).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/chatId" }] });
    expect(() => queue.forTenant(undefined as never)).toThrow(/^\/tenant: Expected 1 to 63 letters/);
  });

  it("reads with the routes' defaults and bounds, and refuses what cannot be meant", async () => {
    const { queue, started, submit } = await gated();
    await submit("a");
    (await started(0)).fail(Object.assign(new Error("no"), { retryable: false }));
    expect((await queue.list()).jobs).toHaveLength(1);
    expect((await queue.list({ include: { code: true } })).jobs[0]).toMatchObject({ code: "1", result: null });
    expect((await queue.list({ limit: 5000, chatId: "a", status: ["failed", "running", "pending"] })).jobs).toHaveLength(1);
    expect((await queue.chat("a", { limit: 1 })).completed).toEqual([]);
    expect((await queue.lanes()).lanes).toHaveLength(1);
    const wrong: [string, () => Promise<unknown>][] = [
      ["/limit", () => queue.list({ limit: -1 })], ["/limit", () => queue.list({ limit: 1.5 })], ["/createdAfter", () => queue.list({ createdAfter: "yesterday" })], ["/status/0", () => queue.list({ status: ["nope"] as never })],
      ["/cursor", () => queue.list({ cursor: "zzz" })], ["/chatId", () => queue.list({ chatId: "a\0" })], ["/include", () => queue.list({ include: ["code"] as never })], ["", () => queue.list({ chatID: "a" } as never)], ["", () => queue.list(null as never)],
      ["/limit", () => queue.chat("a", { limit: -1 })], ["/include", () => queue.chat("a", { include: ["code"] as never })], ["/limit", () => queue.lanes({ limit: 0 })], ["/limit", () => queue.quarantine.list(-1)],
      ["/filter", () => queue.deadLetters.count(undefined as never)], ["/filter", () => queue.deadLetters.discard(undefined as never)], ["/filter/ids/0", () => queue.deadLetters.discard({ ids: [5 as never] })], ["/limit", () => queue.deadLetters.groups({}, 0)],
      ["/ratePerSecond", () => queue.deadLetters.redrive({}, 1, { ratePerSecond: 0 })], ["", () => queue.setPolicy("a", undefined as never)],
      ["/idempotencyKey", () => queue.enqueue({ chatId: "a", messageId: "m", code: "1" }, { idempotencyKey: null as never })], ["/idempotencyKey", () => queue.enqueue({ chatId: "a", messageId: "m", code: "1" }, { idempotencyKey: 5 as never })],
    ];
    for (const [path, call] of wrong) await expect(call(), String(call)).rejects.toMatchObject({ code: "validation_failed", issues: [{ path }] });
  });

  it.each([
    ["throws", () => { throw new Error("a fault of its own"); }],
    ["rejects", () => Promise.reject(new Error("a fault of its own"))],
  ])("goes on when onReport %s: builds, retries, stops, counts it and says so once", async (_, onReport) => {
    const warnings: Error[] = [];
    const warned = (warning: Error) => void (warning.name === "BuildlaneWarning" && warnings.push(warning));
    process.on("warning", warned);
    try {
      const { queue } = await gated({ retryBaseMs: 1, onReport, run: (_job, { attempt }) => (attempt === 1 ? Promise.reject(new Error("flaky")) : "built") });
      const job = await queue.enqueue({ chatId: "a", messageId: "m", code: "1" });
      expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed", result: "built", attempt: 2 });
      await queue.stop();
      expect(queue.counters["onReport.failed"]).toBeGreaterThan(3);
      expect(warnings.map((one) => one.message)).toEqual(["onReport failed, which changes nothing for the queue: a fault of its own. From now on it is only counted, as onReport.failed."]);
    } finally {
      process.off("warning", warned);
    }
  });

  it("refuses callbacks that are no functions", async () => {
    for (const name of ["run", "onReport", "onProgress"]) await expect(createBuildQueue({ store: "memory", [name]: "x" })).rejects.toThrow(`Expected ${name} to be a function, got string.`);
  });

  it("estimates no earlier start for a job than its chat's first one has, which is delayed and holds its place", async () => {
    const { queue, submit } = await gated();
    await submit("a", "1", { delayMs: 60_000 });
    const behind = await submit("a", "2");
    for (const { estimatedWaitTime, estimatedWaitTimeP90 } of [behind, (await queue.get(behind.id)) as PendingJob]) {
      expect(estimatedWaitTime).toBeGreaterThan(55_000);
      expect(estimatedWaitTimeP90).toBeGreaterThanOrEqual(estimatedWaitTime ?? 0);
    }
  });

  it("promises no start to who submits to a paused chat, nor room in a full one before a person resumes it or its first job's time comes", async () => {
    const { queue, submit } = await gated({ maxPendingPerChat: 2 });
    await submit("a", "1", { delayMs: 60_000 });
    await submit("a", "2");
    const full = await submit("a", "3").catch((error: unknown) => error as BuildlaneError);
    expect(full).toMatchObject({ code: "chat_queue_full", retryAfterMs: expect.any(Number) });
    expect((full as BuildlaneError).retryAfterMs).toBeGreaterThan(55_000);
    await queue.pauseChat("a");
    await expect(submit("a", "3")).rejects.toMatchObject({ code: "chat_queue_full", retryAfterMs: 60_000, message: expect.stringContaining("It is paused: resume it") });
    await submit("b", "1", { delayMs: 1 });
    await queue.pauseChat("b");
    expect(await submit("b", "2")).toMatchObject({ estimatedWaitTime: null, estimatedWaitTimeP90: null });
  });

  it("promises no start while the queue is paused: at once on the node that was asked, with the next pulse on others, and after any silence", async () => {
    const clock = createSimulatedClock();
    const shared = createMemoryStore({ clock });
    const node = (store: Store) => gated({ clock, store, run: () => "" });
    const [one, two] = await Promise.all([node(shared), node({ ...shared, close: async () => {} })]);
    const waits = async (chatId: string) => (await Promise.all([one, two].map(({ submit }) => submit(chatId)))).map(({ estimatedWaitTime }) => estimatedWaitTime === null ? "unknown" : "known");
    await clock.advance(8000);
    await one.queue.pause();
    expect(await waits("a")).toEqual(["unknown", "known"]);
    await clock.advance(1000);
    expect(await waits("b")).toEqual(["unknown", "unknown"]);
    await two.queue.resume();
    await clock.advance(8000);
    expect(await waits("c")).toEqual(["known", "known"]);
    await clock.until(Promise.all([two.queue.stop(), one.queue.stop()]));
  });

  it("removes old finished jobs with their events, and keeps numbers", async () => {
    const clock = createSimulatedClock();
    const { queue, submit } = await gated({ clock, retention: "1h,1000", run: () => "" });
    const old = await submit("a", "old");
    const until = async (done: () => Promise<boolean>) => {
      while (!(await done())) await clock.next();
    };
    await until(async () => (await queue.get(old.id)).status === "completed");
    await clock.advance(3_700_000);
    await expect(queue.get(old.id)).rejects.toMatchObject({ code: "job_not_found" });
    const next = await submit("a", "new");
    expect(next.chatSeq).toBe(2);
    const first = await queue.events({ chatId: "a" }, { after: 1, signal: AbortSignal.timeout(5000) })[Symbol.asyncIterator]().next();
    expect(first.value).toBe("reset");
    const stopped = queue.stop();
    await until(async () => clock.pendingTimers === 0 || (await Promise.race([stopped.then(() => true), Promise.resolve(false)])));
  });
});
