/**
 * The composition root: options → store → workers → actors. Work goes right (acceptance → store → supervisor → chat →
 * job → runner), outcomes go to the store (turns), readers read the store.
 */
import { createActor } from "xstate";
import type { SupervisorEvent } from "../machines/supervisor.machine.js";
import { createAcceptance } from "./acceptance.js";
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import { createEffects, fillMachines } from "./effects.js";
import { alreadyFinal, jobNotFound, notFailed } from "./errors.js";
import { createHeartbeat } from "./heartbeat.js";
import { follow } from "./history/follow.js";
import { createWakeups } from "./history/wakeups.js";
import { isFinal } from "./job.js";
import type { AcceptedJob, FinishedJob, Runner } from "./job.js";
import { queueSettings } from "./options.js";
import type { QueueSettingsInput } from "./options.js";
import type { BuildQueue, ChatJobs } from "./queue-api.js";
import { createReaders } from "./readers.js";
import { messageOf } from "./report.js";
import type { Report, Reporter } from "./report.js";
import { keepRetention } from "./retention.js";
import { ownRunner } from "./run.js";
import type { Run } from "./run.js";
import { openStore } from "./store/open.js";
import type { Accepted, DeadLetterFilter, Store } from "./store/store.js";
import { createTurns } from "./turns.js";
import { createWorkerPool } from "./workers/pool.js";

export interface BuildQueueOptions extends QueueSettingsInput {
  /** `memory` keeps nothing; unset: `databaseUrl`, else the embedded database in `dataDir`. */
  store?: "memory" | Store;
  /** Runs instead of esbuild. */
  run?: Run;
  /** Named facts about everything that happens; never code. */
  onReport?: Reporter;
  /** Lines for a person while a first start takes its time. */
  onProgress?: (line: string) => void;
  /** Time and chance; the system's unless a test says otherwise. */
  clock?: Clock;
}

/** Idle chat actors that are kept for their next grant. */
const keptIdle = 200;
/** How long a stopped attempt may take to be gone, and a lane to be given back, milliseconds. */
const killGraceMs = 2000;
const giveBackMs = 3000;
const settleRetryMs = 250;
/** A backing-off job is watched this long past its time, and at most so many of them. */
const watchMs = 2000;
const watchedMax = 500;

/** Opens the store, starts workers and actors; resolves when the queue takes work. Rejects with SettingsError or BuildlaneError `database_unavailable`. */
export async function createBuildQueue(options: BuildQueueOptions = {}): Promise<BuildQueue> {
  const settings = queueSettings(options);
  const clock = options.clock ?? systemClock;
  const nodeId = clock.id();
  const counters: Record<string, number> = {};
  const report: Reporter = (one) => {
    count(counters, one);
    options.onReport?.(one);
  };
  const store = await openStore({
    store: options.store, databaseUrl: settings.databaseUrl, dataDir: settings.dataDir, nodeId, clock, onProgress: options.onProgress,
    onUpkeepError: (error) => report({ type: "database.away", verb: "upkeep", error: messageOf(error) }),
  });
  const runner: Runner = options.run
    ? ownRunner(options.run, settings.maxOutputBytes)
    : createWorkerPool({ slots: settings.concurrency, memoryMb: settings.workerMemoryMb, outputBytesMax: settings.maxOutputBytes, clock, onEvent: ({ type, ...facts }) => report({ type: "worker", event: type, facts }) });

  let draining: Promise<void> | null = null;
  let stopping: Promise<void> | null = null;
  const readers = createReaders({ store, clock, slots: settings.concurrency });
  const wakeups = createWakeups(store, clock);
  const acceptance = createAcceptance({ store, settings, clock, isDraining: () => draining !== null, turnMs: readers.turnMs });

  const tell = (event: SupervisorEvent) => supervisor.send(event);
  const turns = createTurns({
    store, nodeId, clock, nodeLossesMax: settings.maxNodeLosses,
    want(ending) {
      const snapshot = supervisor.getSnapshot();
      return snapshot.hasTag("claiming") ? snapshot.context.slots - Object.keys(snapshot.context.held).length + ending : 0;
    },
    tell(event) {
      // A turn that was in flight when the last lane ended: what it claimed goes back.
      if (supervisor.getSnapshot().status !== "active") return effects.returnClaims(event.grants);
      tell(event);
      for (const { claim } of event.grants) store.hint({ kind: "chat", chatId: claim.job.chatId });
    },
    failed: (error) => report({ type: "database.away", verb: "turn", error: messageOf(error) }),
  });
  const effects = createEffects({
    runner, turns, clock, report,
    changed({ chatId, status, runAt }) {
      store.hint({ kind: "chat", chatId });
      if (status === "pending" && runAt !== null) heartbeat.wakeIn(Math.max(0, Date.parse(runAt) - clock.now() + 1));
    },
    mayWatch() {
      const { held, granted } = supervisor.getSnapshot().context;
      return Object.keys(granted).length - Object.keys(held).length < keptIdle + watchedMax;
    },
  });
  const supervisor = createActor(fillMachines(effects), {
    id: "supervisor",
    systemId: "supervisor",
    clock: clock.timers as never,
    input: {
      slots: settings.concurrency, drainMs: settings.drainMs, giveBackMs, keptMax: settings.concurrency + keptIdle,
      policy: { retryBaseMs: settings.retryBaseMs, retryMaxMs: settings.retryMaxMs, killGraceMs, settleRetryMs, watchMs },
    },
  });
  supervisor.subscribe({ error: (error) => report({ type: "actor.crashed", actorId: "supervisor", error: String(error) }) });
  const heartbeat = createHeartbeat({ store, nodeId, clock, leaseMs: settings.leaseMs, slots: settings.concurrency, nodeLossesMax: settings.maxNodeLosses, turns, atWork: effects.atWork, tell, report });
  store.onHint((hint) => {
    if (hint.kind === "ready") tell({ type: "lanes.ready" });
    if (hint.kind === "paused" || (hint.kind === "cancel" && hint.nodeId === nodeId)) heartbeat.soon();
  });

  try {
    await Promise.all([runner.start(), heartbeat.start()]);
  } catch (error) {
    await Promise.allSettled([runner.stop(), heartbeat.stop()]);
    await store.close();
    throw error;
  }
  supervisor.start();
  readers.refresh();
  const retention = keepRetention({ store, clock, keep: settings.retention, report });
  report({ type: "node.started", nodeId, store: store.kind, slots: settings.concurrency });

  const answerOf = (job: Accepted, delayMs: number): AcceptedJob => ({ ...job, ...readers.estimateAt(job.queuePosition, delayMs) });
  const found = <T>(value: T | null, id: string): T => {
    if (value === null) throw jobNotFound(id);
    return value;
  };

  /** What follows an acceptance: whoever has a free slot may look, and the chat's readers too. */
  function announce(jobs: Accepted[], delays: number[]): void {
    for (const job of jobs) store.hint({ kind: "chat", chatId: job.chatId });
    store.hint({ kind: "ready" });
    const delay = Math.max(0, ...delays);
    if (delay > 0) heartbeat.wakeIn(delay + 1);
  }

  async function redrive(id: string): Promise<AcceptedJob> {
    const answer = await store.redrive(id, { agingMs: settings.agingMs });
    if (answer.kind === "unknown") throw jobNotFound(id);
    if (answer.kind === "notFailed") throw notFailed(id, answer.status);
    announce([answer.job], [0]);
    return answerOf(answer.job, 0);
  }

  async function pauseQueue(paused: boolean): Promise<void> {
    await store.setQueuePaused(paused);
    store.hint({ kind: "paused" });
  }
  async function pauseChat(chatId: string, paused: boolean): Promise<boolean> {
    const known = await store.setChatPaused(chatId, paused);
    if (known) store.hint({ kind: "chat", chatId });
    if (known && !paused) store.hint({ kind: "ready" });
    return known;
  }

  async function drain(): Promise<void> {
    report({ type: "node.draining", held: effects.atWork.size });
    await acceptance.idle();
    heartbeat.drain();
    const stopped = new Promise<void>((resolve) => {
      if (supervisor.getSnapshot().status !== "active") resolve();
      else supervisor.subscribe({ complete: resolve, error: () => resolve() });
    });
    tell({ type: "node.drained" });
    await stopped;
    await bounded(turns.idle(), giveBackMs);
    await Promise.all([heartbeat.stop(), retention.stop()]);
    // What could not be given back is another node's at once; when the database is away, when the lease ends.
    await bounded(store.endLeases({ nodeId }).catch(() => undefined), giveBackMs);
    await runner.stop();
  }
  async function stop(): Promise<void> {
    await (draining ??= drain());
    wakeups.close();
    await store.close();
    report({ type: "node.stopped", nodeId });
  }
  const bounded = (work: Promise<unknown>, ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = clock.after(ms, resolve);
      void work.finally(() => {
        timer.cancel();
        resolve();
      });
    });

  const queue: BuildQueue = {
    settings,
    counters,
    get draining() {
      return draining !== null;
    },
    async enqueue(request, enqueueOptions) {
      const { jobs, replayed } = await acceptance.accept([request], enqueueOptions, false);
      if (!replayed) announce(jobs, [request.delayMs ?? 0]);
      return { ...answerOf(jobs[0] as Accepted, request.delayMs ?? 0), replayed };
    },
    async enqueueMany(requests, enqueueOptions) {
      const { jobs, replayed } = await acceptance.accept(requests, enqueueOptions, true);
      const delays = requests.map((request) => request.delayMs ?? 0);
      if (!replayed) announce(jobs, delays);
      return { jobs: jobs.map((job, index) => answerOf(job, delays[index] ?? 0)), replayed };
    },
    get: async (id) => readers.withEstimate(found(await store.get(id), id)),
    output: async (id) => found(await store.output(id), id),
    async waitFor(id, { signal } = {}): Promise<FinishedJob> {
      const watch = wakeups.watch(await queue.chatOf(id));
      try {
        for (;;) {
          signal?.throwIfAborted();
          const job = found(await store.get(id), id);
          if (isFinal(job.status)) return job as FinishedJob;
          await watch.next(signal);
        }
      } finally {
        watch.close();
      }
    },
    async chat(chatId, { limit = 50, include = { code: false, result: false } } = {}): Promise<ChatJobs> {
      const view = await store.chat(chatId, limit, include);
      return { pending: view.pending.map(readers.withEstimate), running: view.running.map(readers.withEstimate), completed: view.completed.map(readers.withEstimate), failed: view.failed.map(readers.withEstimate) };
    },
    async list(query) {
      const { jobs, nextCursor } = await store.list(query);
      return { jobs: jobs.map(readers.withEstimate), nextCursor };
    },
    stats: async () => ({ ...(await readers.stats()), slots: settings.concurrency, concurrency: settings.concurrency, draining: draining !== null }),
    async cancel(id) {
      const answer = await store.cancel(id);
      switch (answer.kind) {
        case "unknown":
          throw jobNotFound(id);
        case "final":
          throw alreadyFinal(id, answer.status);
        case "requested":
          tell({ type: "job.cancelRequested", chatId: answer.chatId, jobId: id });
          store.hint({ kind: "cancel", nodeId: answer.nodeId });
          store.hint({ kind: "chat", chatId: answer.chatId });
          return "requested";
        case "cancelled":
          store.hint({ kind: "chat", chatId: answer.chatId });
          store.hint({ kind: "ready" });
          return "cancelled";
        case "already":
          return "already";
        default:
          return answer satisfies never;
      }
    },
    retry: redrive,
    deadLetters: {
      count: (filter) => store.countDeadLetters(filter),
      async redrive(filter: DeadLetterFilter, limit) {
        let redriven = 0;
        for (const id of await store.deadLetterIds(filter, limit)) {
          // One that somebody else redrove or removed meanwhile is no error of this call.
          const answer = await store.redrive(id, { agingMs: settings.agingMs });
          if (answer.kind !== "redriven") continue;
          announce([answer.job], [0]);
          redriven++;
        }
        return redriven;
      },
      discard: async (filter, limit) => store.discard(await store.deadLetterIds(filter, limit)),
    },
    pause: () => pauseQueue(true),
    resume: () => pauseQueue(false),
    pauseChat: (chatId) => pauseChat(chatId, true),
    resumeChat: (chatId) => pauseChat(chatId, false),
    events: (which, eventOptions) => follow(store, wakeups, which, eventOptions),
    chatOf: async (jobId) => found(await store.get(jobId), jobId).chatId,
    async ready() {
      const database = await store.ping();
      return { ready: draining === null && database, draining: draining !== null, database };
    },
    drain: () => (draining ??= drain()),
    stop: () => (stopping ??= stop()),
    [Symbol.asyncDispose]: () => queue.stop(),
  };
  return queue;
}

/** Counts for /metrics: one per kind of report, and outcomes by failure code. */
function count(counters: Record<string, number>, report: Report): void {
  const name = report.type === "attempt.ended" ? `attempt.${report.outcome}${report.failureCode ? `.${report.failureCode}` : ""}` : report.type === "worker" ? report.event : report.type;
  counters[name] = (counters[name] ?? 0) + 1;
}
