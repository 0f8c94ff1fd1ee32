/** A node at work: the actors, the heartbeat, the turns and the retention around an open store and a runner. */
import { createActor } from "xstate";
import type { SupervisorEvent } from "../machines/supervisor.machine.js";
import { sleep } from "./clock.js";
import type { Clock } from "./clock.js";
import { createEffects, fillMachines } from "./effects.js";
import type { AtWork } from "./effects.js";
import { createHand } from "./hand.js";
import { createHeartbeat } from "./heartbeat.js";
import { viewActors } from "./inspect/actors.js";
import type { ActorsView } from "./inspect/actors.js";
import { inspectActors } from "./inspect/stately.js";
import type { InspectOptions, WireEvent } from "./inspect/stately.js";
import type { Runner } from "./job.js";
import type { QueueSettings } from "./options.js";
import type { Readers } from "./readers.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import { keepRetention } from "./retention.js";
import { withinSlots } from "./slots.js";
import type { Claim, Store } from "./store/store.js";
import { createTurns } from "./turns.js";
import type { Turns } from "./turns.js";

export interface NodeParts {
  nodeId: string;
  settings: QueueSettings;
  store: Store;
  runner: Runner;
  clock: Clock;
  report: Reporter;
}

export interface Node {
  tell(event: SupervisorEvent): void;
  /** The store's accept, which also starts what a slot is free for. */
  accept: Turns["accept"];
  /** Something will be ready in `delayMs`. */
  wakeIn(delayMs: number): void;
  /** What its actors do, from now on; those that live are told first. */
  inspect(options: InspectOptions): AsyncIterable<WireEvent>;
  /** How its actors stand. */
  view(): ActorsView;
  /** What this node has in hand, by chat. */
  readonly atWork: ReadonlyMap<string, AtWork>;
  /** Claims nothing more, waits for running builds, gives back what is left, stops the runner. Call once. */
  drain(): Promise<void>;
}

/** Idle chat actors that are kept for their next grant. */
const idleMax = 200;
/** How long a stopped attempt may take to be gone, and a lane to be given back, milliseconds. */
const killGraceMs = 2000;
const giveBackMs = 3000;
const settleRetryMs = 250;
/** A backing-off job is watched this long past its time, and at most so many of them. */
const watchMs = 2000;
const watchedMax = 500;

/** Lanes taken ahead of free slots, at most. */
const aheadMax = 100;

/** Resolves when the node takes work. Rejects with BuildlaneError `database_unavailable`; nothing is left running then but the store. */
export async function startNode({ nodeId, settings, store, clock, report, queuePaused, ...parts }: NodeParts & Pick<Readers, "queuePaused">): Promise<Node> {
  const runner = withinSlots(parts.runner, { slots: settings.concurrency, graceMs: killGraceMs, promised: () => turns.promised(), clock });
  const isOver = (): boolean => supervisor.getSnapshot().status !== "active";
  // While a node leaves, pulses and hints go on for longer than there is anything to tell.
  const tell = (event: SupervisorEvent): void => (isOver() ? undefined : supervisor.send(event));
  function lost(claim: Claim): void {
    if (!effects.workOf(claim)) return;
    report({ type: "lane.lost", chatId: claim.job.chatId, jobId: claim.job.id, fence: claim.fence });
    tell({ type: "lane.lost", chatId: claim.job.chatId });
  }
  const hand = createHand({
    clock, handMs: settings.leaseMs,
    // The embedded database works in this very process: nothing can be done while it takes a turn.
    max: settings.takeAhead && store.kind !== "pglite" ? aheadMax : 0,
    tellStarts: () => turns.take(),
    recorded(claim) {
      const entry = effects.workOf(claim);
      if (entry && entry.endedMs === undefined) entry.isListed = true;
    },
    recall(claim) {
      if (effects.workOf(claim)) tell({ type: "lane.recalled", chatId: claim.job.chatId });
      else hand.drop(claim);
    },
    refused(claim) {
      if (!effects.workOf(claim)) return;
      report({ type: "lane.returned", chatId: claim.job.chatId, jobId: claim.job.id, reason: "refused" });
      tell({ type: "lane.refused", chatId: claim.job.chatId });
    },
    lost,
  });
  const turns = createTurns({
    store, hand, handMs: settings.leaseMs, nodeId, clock, nodeLossesMax: settings.maxNodeLosses,
    free() {
      const snapshot = supervisor.getSnapshot();
      return snapshot.hasTag("claiming") ? snapshot.context.slots - snapshot.context.held.size : null;
    },
    takesSlot: ({ chatId, fence }) => supervisor.getSnapshot().context.held.get(chatId) === fence,
    leaseLosses: () => heartbeat.leaseLosses,
    lineFrom: () => heartbeat.lineFrom,
    tell(event) {
      // A turn that was in flight when the last lane ended: what it claimed goes back.
      if (isOver()) return effects.returnClaims(event.grants);
      tell(event);
      if (event.grants.length > 0) heartbeat.working();
      for (const { claim } of event.grants) store.hint({ kind: "chat", chatId: claim.job.chatId });
      // What this node gave back of the cluster's cap, another one may be waiting for.
      if (settings.clusterConcurrency !== undefined && event.ended.length > event.grants.length) store.hint({ kind: "ready" });
    },
    claimed: (claims) => claims.forEach(({ job, startedAt }) => startedAt !== null && runner.expect(job.chatId)),
    landed: () => runner.admit(),
    failed: (error) => report({ type: "database.away", verb: "turn", error: messageOf(error) }),
  });
  const effects = createEffects({
    runner, turns, hand, clock, report, lost,
    holdsLease: () => heartbeat.holdsLease(),
    changed({ chatId, status, runAt }) {
      store.hint({ kind: "chat", chatId });
      if (status === "pending" && runAt !== null) heartbeat.wakeIn(Math.max(0, Date.parse(runAt) - clock.now() + 1));
    },
    mayWatch() {
      const { berths, held } = supervisor.getSnapshot().context;
      return berths.size - held.size < idleMax + watchedMax;
    },
  });
  const supervisor = createActor(fillMachines(effects), {
    id: "supervisor",
    systemId: "supervisor",
    clock: clock.timers as never,
    input: {
      slots: settings.concurrency, drainMs: settings.drainMs, giveBackMs, idleMax,
      policy: { retryBaseMs: settings.retryBaseMs, retryMaxMs: settings.retryMaxMs, killGraceMs, settleRetryMs, watchMs },
    },
  });
  supervisor.subscribe({ error: (error) => report({ type: "actor.crashed", actorId: "supervisor", error: String(error) }) });
  const heartbeat = createHeartbeat({ store, nodeId, clock, leaseMs: settings.leaseMs, slots: settings.concurrency, clusterCap: settings.clusterConcurrency ?? null, nodeLossesMax: settings.maxNodeLosses, turns, atWork: effects.atWork, tell, queuePaused, report });
  const deaf = store.onHint((hint) => {
    if (hint.kind === "ready") tell({ type: "lanes.ready" });
    if (hint.kind === "paused" || (hint.kind === "cancel" && hint.nodeId === nodeId)) heartbeat.soon();
  });

  try {
    await Promise.all([runner.start(), heartbeat.start()]);
  } catch (error) {
    deaf();
    await Promise.allSettled([runner.stop(), heartbeat.stop()]);
    throw error;
  }
  supervisor.start();
  const retention = keepRetention({ store, clock, keep: settings.retention, report });
  report({ type: "node.started", nodeId, store: store.kind, slots: settings.concurrency });

  const bounded = (work: Promise<unknown>, ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = clock.after(ms, resolve);
      void work.finally(() => {
        timer.cancel();
        resolve();
      });
    });

  async function leave(givenUp: () => boolean): Promise<void> {
    while (!givenUp()) {
      try {
        await store.leave({ nodeId });
        return store.hint({ kind: "ready" });
      } catch {
        await sleep(clock, settleRetryMs);
      }
    }
  }

  return {
    tell,
    accept: turns.accept,
    wakeIn: (delayMs) => heartbeat.wakeIn(delayMs),
    atWork: effects.atWork,
    inspect: (options) => inspectActors(supervisor, clock, options),
    view: () => viewActors(supervisor, effects.atWork, settings.concurrency),
    async drain() {
      // Others count what is left at work here as lost unless they are told, so that is worth the rest of the drain's time.
      const tellUntil = effects.atWork.size > 0 ? clock.monotonic() + settings.drainMs : 0;
      heartbeat.drain();
      const stopped = new Promise<void>((resolve) => {
        if (isOver()) resolve();
        else supervisor.subscribe({ complete: resolve, error: () => resolve() });
      });
      tell({ type: "node.drained" });
      await stopped;
      await bounded(turns.idle(), giveBackMs);
      deaf();
      hand.close();
      await Promise.all([heartbeat.stop(), retention.stop()]);
      // What is still this node's by the store's word, a claim whose answer was lost too, is anybody's at once; when the
      // database is away for longer than this, when the lease ends.
      let waited = false;
      await bounded(leave(() => waited), Math.max(giveBackMs, tellUntil - clock.monotonic()));
      waited = true;
      await runner.stop();
    },
  };
}
