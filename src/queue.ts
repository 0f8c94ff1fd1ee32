/**
 * The composition root: options → store → runner → node. Work goes right (acceptance → store → node: supervisor → chat
 * → job → runner), outcomes go to the store (turns), readers read the store.
 */
import { createAudit } from "./audit.js";
import { createChatTokens } from "./chat-tokens.js";
import { createKeys } from "./keys.js";
import { countFailures, guarded } from "./callbacks.js";
import { createAcceptance } from "./acceptance.js";
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import { BuildlaneError, SettingsError, draining as nodeDraining, noBackup, notQuarantined, queueStopped, validationFailed } from "./errors.js";
import { createFeed } from "./history/feed.js";
import { createEnds } from "./history/ends.js";
import { createWakeups } from "./history/wakeups.js";
import type { Runner } from "./job.js";
import { startNode } from "./node.js";
import type { NodeParts } from "./node.js";
import { queueSettings, refuseUnknown, shown } from "./options.js";
import type { QueueSettingsInput } from "./options.js";
import type { BuildQueue } from "./queue-api.js";
import { checkBulkLimit } from "./query.js";
import { createReaders } from "./readers.js";
import { messageOf } from "./report.js";
import type { Report, Reporter } from "./report.js";
import { checkChatId } from "./request.js";
import { ownRunner } from "./run.js";
import type { Run } from "./run.js";
import { traced } from "./tracing.js";
import { untilStopped } from "./store/until-stopped.js";
import { openStore } from "./store/open.js";
import { defaultTenant, isTenantName, laneKey } from "./store/scope.js";
import type { CallersDatabase, Store } from "./store/store.js";
import { createViews } from "./view.js";
import { sendTo } from "./webhook/send.js";
import { answerMs, startWebhook } from "./webhook/webhook.js";
import { withRecall } from "./recall.js";
import { engineVersion } from "./workers/channel.js";
import { openPackages } from "./workers/open-packages.js";
import { createWorkerPool } from "./workers/pool.js";

export interface BuildQueueOptions extends QueueSettingsInput {
  /** `memory` keeps nothing; unset: `databaseUrl`, else the embedded database in `dataDir`. */
  store?: "memory" | Store | undefined;
  /** The caller's own Drizzle database (postgres.js or PGlite) as the store: Buildlane adds its tables there. It stays the caller's to close. */
  db?: CallersDatabase | undefined;
  /** Runs instead of esbuild. */
  run?: Run | undefined;
  /** Named facts about everything that happens; never code. A throw of its own is counted as `onReport.failed`, and no more. */
  onReport?: Reporter | undefined;
  /** Lines for a person while a first start takes its time. */
  onProgress?: ((line: string) => void) | undefined;
  /** Time and chance; the system's unless a test says otherwise. */
  clock?: Clock | undefined;
}

const besideSettings: Record<Exclude<keyof BuildQueueOptions, keyof QueueSettingsInput>, true> = { store: true, db: true, run: true, onReport: true, onProgress: true, clock: true };

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
const isStore = (value: unknown): boolean => isObject(value) && typeof value["turn"] === "function" && typeof value["accept"] === "function";
const isClock = (value: unknown): boolean => isObject(value) && typeof value["now"] === "function" && typeof value["after"] === "function";

/** What a compiler would have told; throws SettingsError. */
function checkOptions(options: BuildQueueOptions): void {
  if (!isObject(options)) throw new SettingsError(`Expected the options to be an object, got ${shown(options)}.`);
  const { store, db, databaseUrl, run, onReport, onProgress, clock, ...rest } = options;
  refuseUnknown(rest, Object.keys(besideSettings));
  for (const [name, value] of Object.entries({ run, onReport, onProgress })) if (value !== undefined && typeof value !== "function") throw new SettingsError(`Expected ${name} to be a function, got ${typeof value}.`);
  if (store !== undefined && store !== "memory" && !isStore(store)) throw new SettingsError(`Expected store to be "memory" or one of buildlane/testing, got ${shown(store)}.`);
  if (db !== undefined && !(isObject(db) && "$client" in db)) throw new SettingsError(`Expected db to be a Drizzle database over postgres.js or PGlite, got ${isObject(db) ? "another object" : shown(db)}.`);
  if (clock !== undefined && !isClock(clock)) throw new SettingsError(`Expected clock to be one of buildlane/testing, got ${isObject(clock) ? "another object" : shown(clock)}.`);
  if ([store, db, databaseUrl].filter((one) => one !== undefined).length > 1) throw new SettingsError("Expected one of store, db and databaseUrl, got several.");
}

/** Opens the store, starts workers and actors; resolves when the queue takes work. Rejects with SettingsError or BuildlaneError `database_unavailable`. */
export async function createBuildQueue(options: BuildQueueOptions = {}): Promise<BuildQueue> {
  checkOptions(options);
  const settings = queueSettings(options);
  if ((settings.webhookUrl === undefined) !== (settings.webhookSecret === undefined)) throw new SettingsError("Expected the webhook's URL and its secret together, got only one of them.");
  const clock = options.clock ?? systemClock;
  const nodeId = clock.id();
  const counters: Record<string, number> = {};
  const tell = options.onReport && guarded(options.onReport, countFailures("onReport", counters));
  const onProgress = options.onProgress && guarded(options.onProgress, countFailures("onProgress", counters));
  const report: Reporter = (one) => {
    count(counters, one);
    tell?.(one);
  };
  // Before the store is open: a folder that is not there stops the start.
  const packages = await openPackages({ packagesDir: settings.packagesDir, importMap: settings.importMap, clock });
  const store = await openStore({
    store: options.store, db: options.db, databaseUrl: settings.databaseUrl, databasePrepare: settings.databasePrepare, databaseNotify: settings.databaseNotify, dataDir: settings.dataDir, nodeId, clock, onProgress,
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
  let stopped = false;
  const isStopped = () => stopped;
  /** As callers ask it. */
  const asked = untilStopped(store, isStopped);
  const readers = createReaders({ store: asked, clock, slots: settings.concurrency });
  const wakeups = createWakeups(store, clock);
  const ends = createEnds(asked, wakeups);
  const feed = createFeed(store, clock);
  const { webhookUrl, webhookSecret } = settings;
  await store.weighTenants(settings.tenantWeights.weights);
  // Before any job is taken, so that the first one's events are told too.
  if (webhookUrl !== undefined) await store.webhook.begin();
  const node = await startNode({ ...parts, queuePaused: readers.queuePaused });
  const acceptance = createAcceptance({ accept: node.accept, store: asked, settings, clock, checkOpen, turnMs: readers.turnMs });
  const webhook =
    webhookUrl === undefined || webhookSecret === undefined ? null : startWebhook({ store, nodeId, secret: webhookSecret, send: sendTo(webhookUrl, { clock, timeoutMs: answerMs }), clock, report });
  readers.refresh();

  function checkOpen(): void {
    if (stopped) throw queueStopped();
    if (draining !== null) throw nodeDraining();
  }
  async function pauseQueue(paused: boolean): Promise<void> {
    await asked.setQueuePaused(paused);
    readers.queuePaused(paused, clock.monotonic());
    if (paused) node.tell({ type: "lanes.recalled" });
    store.hint({ kind: "paused" });
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
    stopped = true;
    wakeups.close();
    feed.close();
    await store.close();
    report({ type: "node.stopped", nodeId });
  }

  const view = createViews({ store: asked, settings, clock, report, acceptance, node, readers, wakeups, ends, feed, isDraining: () => draining !== null, isStopped });

  const queue: BuildQueue = {
    ...view("everyone"),
    settings,
    counters,
    get draining() {
      return draining !== null;
    },
    keys: createKeys({ store: asked.access, clock }),
    chatTokens: createChatTokens({ store: asked.access, clock }),
    audit: createAudit({ store: asked.access, clock }),
    forChat: (tenant, chatId) => view({ tenant: checkTenant(tenant), chatId: checkChatId(chatId) }),
    forTenant: (tenant) => view({ tenant: checkTenant(tenant) }),
    quarantine: {
      list: async (limit = 200) => asked.quarantined(checkBulkLimit(limit)),
      async lift(hash) {
        if (!(await asked.code.lift(hash))) throw notQuarantined();
      },
    },
    pause: () => pauseQueue(true),
    resume: () => pauseQueue(false),
    inspect({ chatId, tenant = defaultTenant, jobId, sample, signal }) {
      if (!settings.inspect) throw new BuildlaneError("not_found", "The actors are not shown: open the queue with the option `inspect`.");
      return node.inspect({ lane: chatId === undefined ? undefined : laneKey({ tenant }, chatId), jobId, sample, signal });
    },
    node: async () => ({ nodeId, ...node.view(), quarantine: await asked.quarantined(quarantineShown), settings: shownSettings(settings) }),
    async backUp() {
      if (!asked.backUp) throw noBackup(store.kind);
      return asked.backUp();
    },
    async ready() {
      const database = await asked.ping().catch(() => false);
      return { ready: draining === null && database, draining: draining !== null, database };
    },
    drain: () => (draining ??= drain()),
    stop: () => (stopping ??= stop()),
    [Symbol.asyncDispose]: () => queue.stop(),
  };
  return queue;
}

function checkTenant(tenant: string): string {
  if (tenant === defaultTenant || isTenantName(tenant)) return tenant;
  throw validationFailed([{ path: "/tenant", message: "Expected 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit." }]);
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
