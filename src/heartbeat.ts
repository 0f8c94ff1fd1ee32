/**
 * A node's pulse: renews its lease, hears what it must know, and aims timers at what comes next, so that polling is the
 * truth and hints only make it faster. A lease that could not be renewed in time ends here, by the monotonic clock.
 */
import type { SupervisorEvent } from "../machines/supervisor.machine.js";
import type { Clock, Timer } from "./clock.js";
import type { AtWork } from "./effects.js";
import type { Readers } from "./readers.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import type { PulseAnswer, Store } from "./store/store.js";
import type { Turns } from "./turns.js";

/** Longest time between two pulses; a lease outlives at least four. */
const pulseMsMax = 750;
/** The same while something is at work here: a cancel that no hint told of must end it within a second. */
const workingPulseMsMax = 500;
/** Between two tries while the database is away: whoever held lanes renews before others may take them over. */
const awayMs = 250;
/** The lease ends here this much before it may end elsewhere: time for builds to be gone. A part of the lease. */
const leaseMargin = 0.05;
/** Lanes that one rescue takes at most. */
const rescueBatch = 200;

export interface Heartbeat {
  /** The first pulse: registers the node. Rejects when the database is away. */
  start(): Promise<void>;
  /** Something is at work here from now on: pulses come at shorter intervals. */
  working(): void;
  /** Pulses now rather than at its time. */
  soon(): void;
  /** Something will be ready in `delayMs`. */
  wakeIn(delayMs: number): void;
  /** Says that the node drains from now on. */
  drain(): void;
  stop(): Promise<void>;
  /** Whether the lease is this node's by the clock now, also while its timers wait for their turn. */
  holdsLease(): boolean;
  readonly leaseLosses: number;
  /** As the latest good pulse told; absent when it did not say. */
  readonly lineFrom: number | undefined;
}

interface Needs {
  store: Store;
  nodeId: string;
  clock: Clock;
  leaseMs: number;
  slots: number;
  clusterCap: number | null;
  nodeLossesMax: number;
  turns: Turns;
  atWork: ReadonlyMap<string, AtWork>;
  tell(event: SupervisorEvent): void;
  queuePaused: Readers["queuePaused"];
  report: Reporter;
}

export function createHeartbeat({ store, nodeId, clock, leaseMs, slots, clusterCap, nodeLossesMax, turns, atWork, tell, queuePaused, report }: Needs): Heartbeat {
  const pulseMs = Math.min(pulseMsMax, leaseMs / 4);
  const workingPulseMs = Math.min(workingPulseMsMax, pulseMs);
  /** Who else could take a lane from an embedded database waits for the same connection; a caller's transaction may hold that for long. */
  const lapses = store.kind !== "pglite";
  let next: Timer | null = null;
  let nextAt = 0;
  let leaseEnd: Timer | null = null;
  let leaseEndsAt = Number.POSITIVE_INFINITY;
  let wake: Timer | null = null;
  let wakeAt = Number.POSITIVE_INFINITY;
  let rescueTimer: Timer | null = null;
  let beating: Promise<void> | null = null;
  let stopped = false;
  let draining = false;
  let leaseLost = false;
  let paused = false;
  let away = false;
  /** Good pulses in a row. A new node takes over lapsed lanes from its second on, one that was cut off from its third. */
  let good = 0;
  let leaseLosses = 0;
  let lineFrom: number | undefined;
  /** Claims that the store says are ours and nobody here knows, as of the pulse before, each with the latest turn sent then. */
  let strangers = new Map<string, number>();

  function wakeIn(delayMs: number): void {
    const at = clock.monotonic() + delayMs;
    if (stopped || at >= wakeAt) return;
    wake?.cancel();
    wakeAt = at;
    wake = clock.after(delayMs, () => {
      wakeAt = Number.POSITIVE_INFINITY;
      tell({ type: "lanes.ready" });
    });
  }

  async function rescue(): Promise<void> {
    try {
      const rescued = await store.rescue({ nodeId, nodeLossesMax, limit: rescueBatch });
      if (rescued.length === 0) return;
      report({ type: "lanes.rescued", jobs: rescued.length, chatIds: rescued.slice(0, 10).map((one) => one.chatId) });
      for (const { chatId } of rescued) store.hint({ kind: "chat", chatId });
      store.hint({ kind: "ready" });
    } catch (error) {
      report({ type: "database.away", verb: "rescue", error: messageOf(error) });
    }
  }

  /** What the store says we hold, against what was at work here when the pulse was sent. */
  function compare({ held }: PulseAnswer, building: Map<string, AtWork>): void {
    const known = new Map(held.map((one) => [one.chatId, one]));
    for (const [chatId, entry] of building) {
      const still = atWork.get(chatId) === entry && entry.isListed;
      if (still && known.get(chatId)?.claimId !== entry.claim.claimId) {
        report({ type: "lane.lost", chatId, jobId: entry.claim.job.id, fence: entry.claim.fence });
        tell({ type: "lane.lost", chatId });
      }
    }
    const seen = new Map<string, number>();
    for (const one of held) {
      const entry = atWork.get(one.chatId);
      if (entry?.claim.claimId === one.claimId) {
        if (one.cancelRequested) tell({ type: "job.cancelRequested", chatId: one.chatId, jobId: one.jobId });
        continue;
      }
      // A claim whose answer never came: seen twice, with no turn on its way that may have made it, nobody works on it.
      const key = one.claimId + one.chatId;
      const since = strangers.get(key);
      seen.set(key, since ?? turns.latest());
      if (since === undefined || !turns.isOver(since)) continue;
      report({ type: "lane.returned", chatId: one.chatId, jobId: one.jobId, reason: "unknown" });
      turns.giveBack(one).catch(() => undefined);
    }
    strangers = seen;
  }

  function hear(answer: PulseAnswer, sentAt: number, building: Map<string, AtWork>): void {
    good++;
    leaseEnd?.cancel();
    if (lapses) {
      leaseEndsAt = sentAt + leaseMs * (1 - leaseMargin);
      leaseEnd = clock.after(leaseEndsAt - clock.monotonic(), loseLease);
    }
    if (away) report({ type: "database.back" });
    away = false;
    if (leaseLost) {
      leaseLost = false;
      // The supervisor takes turns from then on: a pause is told anew.
      paused = false;
      report({ type: "lease.renewed" });
      tell({ type: "lease.renewed" });
    }
    queuePaused(answer.queuePaused, sentAt);
    if (answer.queuePaused !== paused) {
      paused = answer.queuePaused;
      report({ type: paused ? "queue.paused" : "queue.resumed" });
      tell({ type: paused ? "queue.paused" : "queue.resumed" });
    }
    compare(answer, building);
    lineFrom = answer.lineFrom ?? undefined;
    if (answer.readyLanes > 0) tell({ type: "lanes.ready" });
    if (answer.nextReadyInMs !== null) wakeIn(Math.max(0, answer.nextReadyInMs));
    rescueTimer?.cancel();
    if (answer.nextLeaseEndInMs !== null && good > 1) rescueTimer = clock.after(Math.max(0, answer.nextLeaseEndInMs) + 1, () => void rescue());
  }

  function loseLease(): void {
    if (leaseLost || stopped) return;
    leaseLost = true;
    leaseLosses++;
    report({ type: "lease.lost", lanes: atWork.size });
    tell({ type: "lease.lost" });
  }

  async function beat(): Promise<void> {
    const sentAt = clock.monotonic();
    const building = new Map([...atWork].filter(([, entry]) => entry.isListed));
    try {
      const answer = await store.pulse({ nodeId, leaseMs, slots, draining, clusterCap });
      if (!stopped) hear(answer, sentAt, building);
    } catch (error) {
      good = -1;
      if (!away) report({ type: "database.away", verb: "pulse", error: messageOf(error) });
      away = true;
      throw error;
    }
  }

  function schedule(delayMs: number): void {
    next?.cancel();
    if (stopped) return;
    nextAt = clock.monotonic() + delayMs;
    next = clock.after(delayMs, () => {
      beating = beat()
        .catch(() => undefined)
        .finally(() => {
          beating = null;
          schedule(away ? Math.min(awayMs, pulseMs) : atWork.size > 0 ? workingPulseMs : pulseMs);
        });
    });
  }

  function soon(): void {
    if (!beating) schedule(0);
  }

  return {
    async start() {
      await beat();
      schedule(pulseMs);
    },
    working() {
      if (!beating && nextAt - clock.monotonic() > workingPulseMs) schedule(workingPulseMs);
    },
    soon,
    wakeIn,
    drain() {
      draining = true;
      // Told at once: should the database be away when the drain ends, whoever takes the lanes over knows that no node was lost.
      soon();
    },
    async stop() {
      stopped = true;
      for (const timer of [next, leaseEnd, wake, rescueTimer]) timer?.cancel();
      await beating;
    },
    holdsLease: () => clock.monotonic() < leaseEndsAt,
    get leaseLosses() {
      return leaseLosses;
    },
    get lineFrom() {
      return lineFrom;
    },
  };
}
