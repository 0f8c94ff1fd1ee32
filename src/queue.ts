/**
 * The composition root: options → store → runner → node. Work goes right (acceptance → store → node: supervisor → chat
 * → job → runner), outcomes go to the store (turns), readers read the store.
 */
import { createAudit } from "./audit.js";
import { createChatTokens } from "./chat-tokens.js";
import { createKeys } from "./keys.js";
import { createAcceptance } from "./acceptance.js";
import type { Taken } from "./acceptance.js";
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import { BuildlaneError, SettingsError, alreadyFinal, chatStopping, jobNotFound, noBackup, notFailed, notQuarantined, validationFailed } from "./errors.js";
import { createFeed } from "./history/feed.js";
import { follow } from "./history/follow.js";
import { watchMoves } from "./history/moves.js";
import { createWakeups } from "./history/wakeups.js";
import { isFinal } from "./job.js";
import type { AcceptedJob, FinishedJob, PassingEvent, Runner } from "./job.js";
import { startNode } from "./node.js";
import type { NodeParts } from "./node.js";
import { queueSettings } from "./options.js";
import type { QueueSettingsInput } from "./options.js";
import type { BuildQueue, ChatJobs, QueueView } from "./queue-api.js";
import { createReaders } from "./readers.js";
import { messageOf } from "./report.js";
import type { Report, Reporter } from "./report.js";
import { ownRunner } from "./run.js";
import type { Run } from "./run.js";
import { traced } from "./tracing.js";
import { openStore } from "./store/open.js";
import { defaultTenant, isTenantName, laneKey, laneOfShown, ofLane } from "./store/scope.js";
import type { Scope } from "./store/scope.js";
import type { Accepted, CallersDatabase, DeadLetterFilter, Place, Stopping, Store } from "./store/store.js";
import { checkPolicy } from "./request.js";
import { sendTo } from "./webhook/send.js";
import { answerMs, startWebhook } from "./webhook/webhook.js";
import { explain } from "./why.js";
import { withRecall } from "./recall.js";
import { engineVersion } from "./workers/channel.js";
import { openPackages } from "./workers/open-packages.js";
import { createWorkerPool } from "./workers/pool.js";

export interface BuildQueueOptions extends QueueSettingsInput {
  /** `memory` keeps nothing; unset: `databaseUrl`, else the embedded database in `dataDir`. */
  store?: "memory" | Store;
  /** The caller's own Drizzle database (postgres.js or PGlite) as the store: Buildlane adds its tables there. It stays the caller's to close. */
  db?: CallersDatabase;
  /** Runs instead of esbuild. */
  run?: Run;
  /** Named facts about everything that happens; never code. */
  onReport?: Reporter;
  /** Lines for a person while a first start takes its time. */
  onProgress?: (line: string) => void;
  /** Time and chance; the system's unless a test says otherwise. */
  clock?: Clock;
}

/** How long an erasure waits for the running job to be stopped: longer than a dead node's lease and a worker's last grace. */
const eraseWaitMs = 15_000;

/** Opens the store, starts workers and actors; resolves when the queue takes work. Rejects with SettingsError or BuildlaneError `database_unavailable`. */
export async function createBuildQueue(options: BuildQueueOptions = {}): Promise<BuildQueue> {
  if ([options.store, options.db, options.databaseUrl].filter((one) => one !== undefined).length > 1) throw new SettingsError("Expected one of store, db and databaseUrl, got several.");
  const settings = queueSettings(options);
  if ((settings.webhookUrl === undefined) !== (settings.webhookSecret === undefined)) throw new SettingsError("Expected the webhook's URL and its secret together, got only one of them.");
  const clock = options.clock ?? systemClock;
  const nodeId = clock.id();
  const counters: Record<string, number> = {};
  const report: Reporter = (one) => {
    count(counters, one);
    options.onReport?.(one);
  };
  // Before the store is open: a folder that is not there stops the start.
  const packages = await openPackages({ packagesDir: settings.packagesDir, importMap: settings.importMap, clock });
  const store = await openStore({
    store: options.store, db: options.db, databaseUrl: settings.databaseUrl, databasePrepare: settings.databasePrepare, databaseNotify: settings.databaseNotify, dataDir: settings.dataDir, nodeId, clock, onProgress: options.onProgress,
    onUpkeepError: (error) => report({ type: "database.away", verb: "upkeep", error: messageOf(error) }),
  });
  const { ageMs } = settings.cache;
  const remembering = (pool: Runner): Runner =>
    ageMs === null ? pool : withRecall(pool, { code: store.code, ageMs, clock, report, version: async () => JSON.stringify([engineVersion, await packages.version(), settings.maxOutputBytes]) });
  const runner: Runner = options.run
    ? ownRunner(options.run, settings.maxOutputBytes)
    : remembering(createWorkerPool({ slots: settings.concurrency, memoryMb: settings.workerMemoryMb, outputBytesMax: settings.maxOutputBytes, packages, allowUnconfined: settings.allowUnconfined, clock, onEvent: ({ type, ...facts }) => report({ type: "worker", event: type, facts }) }));
  try {
    return await composeQueue({ nodeId, settings, store, runner: await traced(runner), clock, report, counters });
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Quarantined code that is listed. */
const quarantineShown = 100;

/** The queue around an open store and a runner; the way in for a simulation, which brings its own. */
export async function composeQueue({ counters, ...parts }: NodeParts & { counters: Record<string, number> }): Promise<BuildQueue> {
  const { nodeId, settings, store, clock, report } = parts;
  let draining: Promise<void> | null = null;
  let stopping: Promise<void> | null = null;
  const readers = createReaders({ store, clock, slots: settings.concurrency });
  const wakeups = createWakeups(store, clock);
  const feed = createFeed(store, clock);
  const acceptance = createAcceptance({ accept: (groups, limits) => node.accept(groups, limits), store, settings, clock, isDraining: () => draining !== null, turnMs: readers.turnMs });
  const { webhookUrl, webhookSecret } = settings;
  await store.weighTenants(settings.tenantWeights.weights);
  // Before any job is taken, so that the first one's events are told too.
  if (webhookUrl !== undefined) await store.webhook.begin();
  const node = await startNode(parts);
  const webhook =
    webhookUrl === undefined || webhookSecret === undefined ? null : startWebhook({ store, nodeId, secret: webhookSecret, send: sendTo(webhookUrl, { clock, timeoutMs: answerMs }), clock, report });
  readers.refresh();

  const answerOf = (job: Accepted, delayMs: number): AcceptedJob => ({ ...job, chatId: ofLane(job.chatId).chatId, ...readers.estimateAt(job.queuePosition, delayMs) });
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
    // What stands behind another of its chat waits for that one, not for a slot.
    if (!isStarted && jobs.some(({ queuePosition }) => queuePosition === 1)) announceReady();
    readers.accepted(jobs.map((job) => job.chatId));
    const delay = Math.max(0, ...delays);
    if (delay > 0) node.wakeIn(delay + 1);
  }

  async function redrive(scope: Scope, id: string): Promise<AcceptedJob> {
    const answer = await store.redrive(scope, id, { agingMs: settings.agingMs });
    if (answer.kind === "unknown") throw jobNotFound(id);
    if (answer.kind === "notFailed") throw notFailed(id, answer.status);
    announce([answer.job], [0]);
    return answerOf(answer.job, 0);
  }

  async function pauseQueue(paused: boolean): Promise<void> {
    await store.setQueuePaused(paused);
    store.hint({ kind: "paused" });
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

  async function drain(): Promise<void> {
    report({ type: "node.draining", held: node.atWork.size });
    await acceptance.idle();
    await node.drain();
    // Last, so that what the drain did may still be told.
    await webhook?.stop();
  }
  async function stop(): Promise<void> {
    await (draining ??= drain());
    wakeups.close();
    feed.close();
    await store.close();
    report({ type: "node.stopped", nodeId });
  }

  async function laneFor(scope: Scope, { chatId, jobId }: { chatId?: string | undefined; jobId?: string | undefined }): Promise<{ of: Scope; chatId: string }> {
    if (jobId === undefined) return { of: scope, chatId: chatId ?? "" };
    const job = found(await store.get(scope, jobId), jobId);
    return { of: { tenant: job.tenant ?? defaultTenant }, chatId: job.chatId };
  }

  const view = (scope: Scope): QueueView => ({
    async enqueue(request, enqueueOptions) {
      const taken = await acceptance.accept(scope, [request], enqueueOptions, false);
      const { jobs, replayed } = taken;
      // Of jobs in a transaction there is nothing to tell until it commits.
      if (!replayed && !enqueueOptions?.tx) announce(jobs, [request.delayMs ?? 0], taken);
      return { ...answerOf(jobs[0] as Accepted, request.delayMs ?? 0), replayed };
    },
    async enqueueMany(requests, enqueueOptions) {
      const taken = await acceptance.accept(scope, requests, enqueueOptions, true);
      const { jobs, replayed } = taken;
      const delays = requests.map((request) => request.delayMs ?? 0);
      if (!replayed && !enqueueOptions?.tx) announce(jobs, delays, taken);
      return { jobs: jobs.map((job, index) => answerOf(job, delays[index] ?? 0)), replayed };
    },
    get: async (id) => readers.withEstimate(found(await store.get(scope, id), id)),
    output: async (id) => found(await store.output(scope, id), id),
    async waitFor(id, { signal } = {}): Promise<FinishedJob> {
      const watch = wakeups.watch(laneOfShown(found(await store.get(scope, id), id)));
      try {
        for (;;) {
          signal?.throwIfAborted();
          const job = found(await store.get(scope, id), id);
          if (isFinal(job.status)) return job as FinishedJob;
          await watch.next(signal);
        }
      } finally {
        watch.close();
      }
    },
    async chat(chatId, { limit = 50, include = { code: false, result: false } } = {}): Promise<ChatJobs> {
      const view = await store.chat(scope, chatId, limit, include);
      return { pending: view.pending.map(readers.withEstimate), running: view.running.map(readers.withEstimate), completed: view.completed.map(readers.withEstimate), failed: view.failed.map(readers.withEstimate) };
    },
    async list(query) {
      const { jobs, nextCursor } = await store.list(scope, query);
      return { jobs: jobs.map(readers.withEstimate), nextCursor };
    },
    stats: async () => ({ ...(await readers.stats(scope)), slots: settings.concurrency, concurrency: settings.concurrency, draining: draining !== null }),
    async cancel(id) {
      const answer = await store.cancel(scope, id);
      switch (answer.kind) {
        case "unknown":
          throw jobNotFound(id);
        case "final":
          throw alreadyFinal(id, answer.status);
        case "requested":
          announceStop({ chatId: answer.chatId, jobId: id, nodeId: answer.nodeId });
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
    retry: (id) => redrive(scope, id),
    deadLetters: {
      count: (filter) => store.countDeadLetters(scope, filter),
      groups: (filter, limit) => store.deadLetterGroups(scope, filter, limit),
      async redrive(filter: DeadLetterFilter, limit, { ratePerSecond } = {}) {
        let redriven = 0;
        for (const id of await store.deadLetterIds(scope, filter, limit)) {
          // One that somebody else redrove or removed meanwhile is no error of this call.
          const delayMs = ratePerSecond === undefined ? 0 : (redriven * 1000) / ratePerSecond;
          const answer = await store.redrive(scope, id, { agingMs: settings.agingMs, delayMs });
          if (answer.kind !== "redriven") continue;
          announce([answer.job], [delayMs]);
          redriven++;
        }
        return redriven;
      },
      discard: async (filter, limit) => store.discard(scope, await store.deadLetterIds(scope, filter, limit)),
    },
    async cancelChat(chatId) {
      const answer = await store.cancelChat(scope, chatId);
      if (answer.kind === "unknown") return null;
      if (answer.stopping) announceStop(answer.stopping);
      else store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
      return { cancelled: answer.cancelled, stopping: answer.stopping?.jobId ?? null };
    },
    chatState: (chatId) => store.chatState(scope, chatId),
    async setPolicy(chatId, policy) {
      checkPolicy(chatId, policy);
      const whole = await store.setPolicy(scope, chatId, policy);
      store.hint({ kind: "chat", chatId: laneKey(scope, chatId) });
      return whole;
    },
    erase: (chatId) => erase(scope, chatId),
    rateAheadMs: async (chatId) => store.rateAheadMs(scope, chatId),
    pauseChat: (chatId) => pauseChat(scope, chatId, true),
    resumeChat: (chatId) => pauseChat(scope, chatId, false),
    async *events(which, eventOptions) {
      const { of, chatId } = await laneFor(scope, which);
      yield* follow<never>(store, wakeups, of, { chatId, jobId: which.jobId }, eventOptions);
    },
    async *stream(which, { after, signal }) {
      if (which === "all") return yield* feed.read(scope, signal);
      const { of, chatId } = await laneFor(scope, which);
      const estimate = ({ queuePosition, nextAttemptAt }: Place, paused: boolean) => readers.estimateAt(queuePosition, nextAttemptAt === null ? 0 : Math.max(0, Date.parse(nextAttemptAt) - clock.now()), paused);
      yield* follow<PassingEvent>(store, wakeups, of, { chatId, jobId: which.jobId }, { after, signal, look: watchMoves({ store, clock, estimate }, of, { chatId, jobId: which.jobId }) });
    },
    why: async (id) => explain(found(await store.why(scope, id), id)),
    lanes: (query) => store.lanes(scope, query),
  });

  const queue: BuildQueue = {
    ...view("everyone"),
    settings,
    counters,
    get draining() {
      return draining !== null;
    },
    keys: createKeys({ store: store.access, clock }),
    chatTokens: createChatTokens({ store: store.access, clock }),
    audit: createAudit({ store: store.access, clock }),
    forChat: (tenant, chatId) => view({ tenant, chatId }),
    forTenant(tenant) {
      if (tenant !== defaultTenant && !isTenantName(tenant)) throw validationFailed([{ path: "/tenant", message: "Expected 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit." }]);
      return view({ tenant });
    },
    quarantine: {
      list: (limit = 200) => store.quarantined(Math.min(limit, 1000)),
      async lift(hash) {
        if (!(await store.code.lift(hash))) throw notQuarantined();
      },
    },
    pause: () => pauseQueue(true),
    resume: () => pauseQueue(false),
    inspect({ chatId, tenant = defaultTenant, jobId, sample, signal }) {
      if (!settings.inspect) throw new BuildlaneError("not_found", "The actors are not shown: open the queue with the option `inspect`.");
      return node.inspect({ lane: chatId === undefined ? undefined : laneKey({ tenant }, chatId), jobId, sample, signal });
    },
    node: async () => ({ nodeId, ...node.view(), quarantine: await store.quarantined(quarantineShown), settings: shownSettings(settings) }),
    async backUp() {
      if (!store.backUp) throw noBackup(store.kind);
      return store.backUp();
    },
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

/** Plain numbers and switches, and limits as they were written; never places or secrets, which are texts. */
const shownSettings = (settings: NodeParts["settings"]): Record<string, string | number | boolean> =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]: [string, unknown]) => {
      const shown = typeof value === "object" && value !== null && "text" in value && (name === "retention" || name === "rateLimit") ? value.text : value;
      return typeof shown === "number" || typeof shown === "boolean" || (typeof shown === "string" && shown !== value) ? [[name, shown as string | number | boolean]] : [];
    }),
  );

/** Counts for /metrics: one per kind of report, and outcomes by failure code. */
function count(counters: Record<string, number>, report: Report): void {
  const name = report.type === "attempt.ended" ? `attempt.${report.outcome}${report.failureCode ? `.${report.failureCode}` : ""}` : report.type === "worker" ? report.event : report.type;
  counters[name] = (counters[name] ?? 0) + 1;
}
