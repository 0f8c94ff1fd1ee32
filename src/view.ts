/** The queue as one scope sees and moves it: each call asks the store, tells whom it concerns, and shapes the answer. */
import type { Acceptance, Taken } from "./acceptance.js";
import type { Clock } from "./clock.js";
import { alreadyFinal, chatStopping, jobNotFound, notFailed, queueStopped, validationFailed } from "./errors.js";
import type { Ends } from "./history/ends.js";
import type { Feed } from "./history/feed.js";
import { follow } from "./history/follow.js";
import { watchMoves } from "./history/moves.js";
import type { Wakeups } from "./history/wakeups.js";
import { isFinal } from "./job.js";
import type { AcceptedJob, FinishedJob, PassingEvent } from "./job.js";
import { leavable } from "./leavable.js";
import type { Node } from "./node.js";
import type { QueueSettings } from "./options.js";
import type { ChatJobs, QueueView } from "./queue-api.js";
import { checkBulkLimit, checkChat, checkFilter, checkLanes, checkLimit, checkList, checkRate } from "./query.js";
import type { Readers } from "./readers.js";
import type { Reporter } from "./report.js";
import { checkChatId, checkJobId, checkPolicy } from "./request.js";
import { defaultTenant, laneKey, laneOfShown, ofLane } from "./store/scope.js";
import type { Scope } from "./store/scope.js";
import type { Accepted, DeadLetterFilter, Stopping, Store } from "./store/store.js";
import { explain } from "./why.js";

interface Needs {
  store: Store;
  settings: QueueSettings;
  clock: Clock;
  report: Reporter;
  acceptance: Acceptance;
  node: Pick<Node, "tell" | "wakeIn">;
  readers: Readers;
  wakeups: Wakeups;
  ends: Ends;
  feed: Feed;
  isDraining(): boolean;
  isStopped(): boolean;
}

/** Whose events are wanted; what a caller without a compiler gives may be anything. */
type Target = { chatId?: unknown; jobId?: unknown } | undefined;

/** How long an erasure waits for the running job to be stopped: longer than a dead node's lease and a worker's last grace. */
const eraseWaitMs = 15_000;

export function createViews({ store, settings, clock, report, acceptance, node, readers, wakeups, ends, feed, isDraining, isStopped }: Needs): (scope: Scope) => QueueView {
  /** Whoever repeats a request may hear of a job that waits no more. */
  function answerOf(job: Accepted): AcceptedJob {
    const { id, messageId, chatSeq, status, queuePosition, createdAt } = job;
    const { estimatedWaitTime, estimatedWaitTimeP90 } = status === "pending" ? readers.estimateAt(job) : { estimatedWaitTime: null, estimatedWaitTimeP90: null };
    return { id, chatId: ofLane(job.chatId).chatId, messageId, chatSeq, status, queuePosition, createdAt, estimatedWaitTime, estimatedWaitTimeP90 };
  }
  const found = <T>(value: T | null, id: string): T => {
    if (value === null) throw jobNotFound(id);
    return value;
  };

  function announceStop({ chatId, jobId, nodeId: holder }: Stopping): void {
    node.tell({ type: "job.cancelRequested", chatId, jobId });
    store.hint({ kind: "cancel", nodeId: holder });
    store.hint({ kind: "chat", chatId });
  }

  /** Once for all that were accepted together. */
  let isReadyTold = false;
  function announceReady(): void {
    if (isReadyTold) return;
    isReadyTold = true;
    queueMicrotask(() => {
      isReadyTold = false;
      store.hint({ kind: "ready" });
    });
  }

  /** What follows an acceptance: whoever has a free slot may look, and the chat's readers too. */
  function announce(jobs: Accepted[], delays: number[], { stopping, isStarted }: Pick<Taken, "stopping" | "isStarted"> = { stopping: [], isStarted: false }): void {
    stopping.forEach(announceStop);
    for (const job of jobs) store.hint({ kind: "chat", chatId: job.chatId });
    // Also when it stands behind another of its chat: while this held the lane, a claim may have passed over that.
    if (!isStarted) announceReady();
    readers.accepted(jobs.map((job) => job.chatId));
    const delay = Math.max(0, ...delays);
    if (delay > 0) node.wakeIn(delay + 1);
  }

  async function redrive(scope: Scope, id: string): Promise<AcceptedJob> {
    const answer = await store.redrive(scope, id, { agingMs: settings.agingMs });
    if (answer.kind === "unknown") throw jobNotFound(id);
    if (answer.kind === "notFailed") throw notFailed(id, answer.status);
    announce([answer.job], [0]);
    return answerOf(answer.job);
  }

  async function pauseChat(scope: Scope, chatId: string, paused: boolean): Promise<boolean> {
    const known = await store.setChatPaused(scope, chatId, paused);
    if (known) store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
    if (known && !paused) store.hint({ kind: "ready" });
    return known;
  }

  async function erase(scope: Scope, chatId: string): Promise<{ jobs: number } | null> {
    const watch = wakeups.watch(laneKey(scope, chatId));
    const deadline = clock.monotonic() + eraseWaitMs;
    try {
      // Told once: a hint at each look would wake this very watch, and nothing else would have its turn.
      for (let isTold = false; ; isTold = true) {
        const answer = await store.erase(scope, chatId);
        if (answer.kind === "unknown") return null;
        if (answer.kind === "erased" || !isTold) store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
        if (answer.kind === "erased") {
          report({ type: "chat.erased", jobs: answer.jobs });
          return { jobs: answer.jobs };
        }
        if (!isTold) announceStop(answer.stopping);
        if (clock.monotonic() > deadline) throw chatStopping(chatId, answer.stopping.jobId);
        await watch.next();
      }
    } finally {
      watch.close();
    }
  }

  async function laneFor(scope: Scope, target: Target, signal: AbortSignal): Promise<{ of: Scope; chatId: string }> {
    const { chatId, jobId } = target ?? {};
    if (chatId === undefined && jobId === undefined) throw validationFailed([{ path: "", message: "Expected a chatId or a jobId to follow." }]);
    if (jobId === undefined) return { of: scope, chatId: checkChatId(chatId) };
    const id = checkJobId(jobId);
    const job = found(await wakeups.reading(() => store.get(scope, id), signal), id);
    return { of: { tenant: job.tenant ?? defaultTenant }, chatId: job.chatId };
  }

  /** What is followed ends when its reader leaves, and with the queue. */
  const following = <T>(read: (ends: AbortSignal) => AsyncIterable<T>, signal: AbortSignal | undefined) =>
    leavable(async function* (ends) {
      if (isStopped()) throw queueStopped();
      try {
        yield* read(ends);
      } catch (error) {
        if (!isStopped()) throw error;
      }
    }, signal);


  return (scope) => ({
    async enqueue(request, enqueueOptions) {
      const taken = await acceptance.accept(scope, [request], enqueueOptions, false);
      const { jobs, replayed } = taken;
      // Of jobs in a transaction there is nothing to tell until it commits.
      if (!replayed && !enqueueOptions?.tx) announce(jobs, [request.delayMs ?? 0], taken);
      return Object.assign(answerOf(jobs[0] as Accepted), { replayed });
    },
    async enqueueMany(requests, enqueueOptions) {
      const taken = await acceptance.accept(scope, requests, enqueueOptions, true);
      const { jobs, replayed } = taken;
      const delays = requests.map((request) => request.delayMs ?? 0);
      if (!replayed && !enqueueOptions?.tx) announce(jobs, delays, taken);
      return { jobs: jobs.map(answerOf), replayed };
    },
    get: async (id) => readers.withEstimate(found(await store.get(scope, checkJobId(id)), id)),
    output: async (id) => found(await store.output(scope, checkJobId(id)), id),
    async waitFor(id, { signal } = {}): Promise<FinishedJob> {
      checkJobId(id);
      const read = async () => found(await wakeups.reading(() => store.get(scope, id), signal), id);
      let job = await read();
      const watch = ends.watch(laneOfShown(job), id);
      try {
        for (; !isFinal(job.status); job = await read()) {
          await watch.next(signal);
          signal?.throwIfAborted();
        }
        return job as FinishedJob;
      } finally {
        watch.close();
      }
    },
    async chat(chatId, chatOptions): Promise<ChatJobs> {
      const { limit, include } = checkChat(chatOptions);
      const view = await store.chat(scope, checkChatId(chatId), limit, include);
      return { pending: view.pending.map(readers.withEstimate), running: view.running.map(readers.withEstimate), completed: view.completed.map(readers.withEstimate), failed: view.failed.map(readers.withEstimate) };
    },
    async list(query) {
      const { jobs, nextCursor } = await store.list(scope, checkList(query));
      return { jobs: jobs.map(readers.withEstimate), nextCursor };
    },
    stats: async () => ({ ...(await readers.stats(scope)), slots: settings.concurrency, concurrency: settings.concurrency, draining: isDraining() }),
    async cancel(id) {
      const answer = await store.cancel(scope, checkJobId(id));
      switch (answer.kind) {
        case "unknown":
          throw jobNotFound(id);
        case "final":
          throw alreadyFinal(id, answer.status);
        case "requested":
          announceStop({ chatId: answer.chatId, jobId: id, nodeId: answer.nodeId });
          return "requested";
        case "cancelled":
          node.tell({ type: "lane.recalled", chatId: answer.chatId });
          store.hint({ kind: "chat", chatId: answer.chatId });
          store.hint({ kind: "ready" });
          return "cancelled";
        case "already":
          return "already";
        default:
          return answer satisfies never;
      }
    },
    retry: async (id) => redrive(scope, checkJobId(id)),
    deadLetters: {
      count: async (filter) => store.countDeadLetters(scope, checkFilter(filter)),
      groups: async (filter, limit) => store.deadLetterGroups(scope, checkFilter(filter), checkLimit(limit)),
      async redrive(filter: DeadLetterFilter, limit, { ratePerSecond } = {}) {
        let redriven = 0;
        checkRate(ratePerSecond);
        for (const id of await store.deadLetterIds(scope, checkFilter(filter), checkBulkLimit(limit))) {
          // One that somebody else redrove or removed meanwhile is no error of this call.
          const delayMs = ratePerSecond === undefined ? 0 : (redriven * 1000) / ratePerSecond;
          const answer = await store.redrive(scope, id, { agingMs: settings.agingMs, delayMs });
          if (answer.kind !== "redriven") continue;
          announce([answer.job], [delayMs]);
          redriven++;
        }
        return redriven;
      },
      discard: async (filter, limit) => store.discard(scope, await store.deadLetterIds(scope, checkFilter(filter), checkBulkLimit(limit))),
    },
    async cancelChat(chatId) {
      const answer = await store.cancelChat(scope, checkChatId(chatId));
      if (answer.kind === "unknown") return null;
      node.tell({ type: "lane.recalled", chatId: laneKey(scope, chatId) });
      if (answer.stopping) announceStop(answer.stopping);
      else store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
      return { cancelled: answer.cancelled, stopping: answer.stopping?.jobId ?? null };
    },
    chatState: async (chatId) => store.chatState(scope, checkChatId(chatId)),
    async setPolicy(chatId, policy) {
      checkPolicy(chatId, policy);
      const whole = await store.setPolicy(scope, chatId, policy);
      store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
      return whole;
    },
    erase: async (chatId) => erase(scope, checkChatId(chatId)),
    rateAheadMs: async (chatId) => store.rateAheadMs(scope, checkChatId(chatId)),
    pauseChat: async (chatId) => pauseChat(scope, checkChatId(chatId), true),
    resumeChat: async (chatId) => pauseChat(scope, checkChatId(chatId), false),
    events: (which, { after, signal } = {}) =>
      following(async function* (ends) {
        const { of, chatId } = await laneFor(scope, which, ends);
        yield* follow<never>(store, wakeups, of, { chatId, jobId: which.jobId }, { after, signal: ends });
      }, signal),
    stream: (which, { after, signal } = {}) =>
      following(async function* (ends) {
        if (which === "all") return yield* feed.read(scope, ends);
        const { of, chatId } = await laneFor(scope, which, ends);
        yield* follow<PassingEvent>(store, wakeups, of, { chatId, jobId: which.jobId }, { after, signal: ends, look: watchMoves({ store, clock, estimateAt: readers.estimateAt }, of, { chatId, jobId: which.jobId }) });
      }, signal),
    why: async (id) => explain(found(await store.why(scope, checkJobId(id)), id)),
    lanes: async (query) => store.lanes(scope, checkLanes(query)),
  });
}
