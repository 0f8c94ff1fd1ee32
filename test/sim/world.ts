/** The nodes of one simulation around one database, and everything that can happen to them. */
import { createSimulatedClock } from "../../src/simulated-clock.js";
import type { SimulatedClock } from "../../src/simulated-clock.js";
import { queueSettings } from "../../src/options.js";
import { composeQueue } from "../../src/queue.js";
import type { BuildQueue } from "../../src/queue-api.js";
import type { Report } from "../../src/report.js";
import { createMemoryStore } from "../../src/store/memory.js";
import { ContendedError } from "../../src/store/store.js";
import type { AcceptAnswer, AcceptGroup, Store } from "../../src/store/store.js";
import { createRunner, createWatch } from "./builds.js";
import type { Watch } from "./builds.js";
import { createDoors } from "./door.js";
import { createProcess } from "./process.js";
import type { SimulatedProcess } from "./process.js";

export interface SimulatedNode {
  readonly id: string;
  readonly process: SimulatedProcess;
  /** Null until it has started. */
  queue: BuildQueue | null;
  /** Cut off from the database until then, in the world's time. */
  cutUntil: number;
  stopping: boolean;
}

/** How bad the weather is. All chances are per call or hint. */
export interface Weather {
  failThere: number;
  answerLost: number;
  slowCommit: number;
  hintLost: number;
}
export const storm: Weather = { failThere: 0.004, answerLost: 0.004, slowCommit: 0.01, hintLost: 0.5 };
export const calm: Weather = { failThere: 0, answerLost: 0, slowCommit: 0, hintLost: 0 };

export const slots = 3;
export const agingMs = 30_000;
/** What goes to the store with others waits so long for a lane that is held, milliseconds. */
const lockWaitMs = 50;
/** Nodes' wall clocks are wrong by up to this, either way, milliseconds. */
const skewMaxMs = 5000;

export interface World {
  readonly clock: SimulatedClock;
  readonly store: Store;
  readonly nodes: SimulatedNode[];
  readonly watch: Watch;
  weather: Weather;
  /** When nodes came to their clean stop: from then on they have nothing that could be rescued. */
  readonly left: Map<string, number>;
  /** Jobs that were erased with their chats. */
  readonly erased: Set<string>;
  /** Lanes that nodes took ahead of free slots. */
  takenAhead: number;
  /** What was accepted under an idempotency key. */
  readonly acceptedBy: Map<string, string[]>;
  /** The database answers nobody until then. */
  downUntil: number;
  /** Somebody's transaction holds these chats until then: who ends an attempt of theirs, or adds to them, waits. */
  readonly heldUntil: Map<string, number>;
  startNode(): SimulatedNode;
  /** Nodes that may be spoken to. */
  open(): SimulatedNode[];
  onReport(nodeId: string, report: Report): void;
}

export function createWorld({ seed, clusterMax, onReport }: { seed: number; clusterMax: number | undefined; onReport: World["onReport"] }): World {
  const clock = createSimulatedClock({ seed });
  const store = createMemoryStore({ clock });
  const between = (from: number, to: number) => from + (to - from) * clock.random();
  const world: World = { clock, store, nodes: [], watch: createWatch(), left: new Map(), erased: new Set(), acceptedBy: new Map(), weather: calm, downUntil: 0, heldUntil: new Map(), takenAhead: 0, startNode, open, onReport };
  const accepted = new Map<string, string[]>();
  function noted(groups: AcceptGroup[], answers: AcceptAnswer[]): AcceptAnswer[] {
    for (const [index, answer] of answers.entries()) {
      if (answer.kind !== "accepted") continue;
      const key = groups[index]?.idempotency?.key;
      if (key !== undefined) world.acceptedBy.set(key, answer.jobs.map(({ id }) => id));
      for (const { id, chatId } of answer.jobs) accepted.set(chatId, accepted.get(chatId) ?? []).get(chatId)?.push(id);
    }
    return answers;
  }
  const isHeld = (chatId: string): boolean => (world.heldUntil.get(chatId) ?? 0) > clock.now();
  const chatsOf = (groups: AcceptGroup[]): string[] => groups.flatMap(({ jobs }) => jobs.map(({ chatId }) => chatId));
  async function lanesFree(verb: "turn" | "accept", chats: string[], isPatient = false): Promise<void> {
    for (const until = clock.now() + lockWaitMs; chats.some(isHeld); ) {
      if (!isPatient && clock.now() >= until) throw new ContendedError(verb);
      await new Promise<void>((resolve) => void clock.after(5, resolve));
    }
  }
  const noting: Store = {
    ...store,
    async turn(request, now) {
      await lanesFree("turn", request.endings.map(({ chatId }) => chatId), request.patient);
      // A start on record is not worth a wait.
      const answer = await store.turn({ ...request, begun: request.begun?.filter(({ chatId }) => !isHeld(chatId)) ?? [] }, now);
      world.takenAhead += answer.claims.filter(({ startedAt }) => startedAt === null).length;
      return answer;
    },
    leave: (request, now) => (world.left.set(request.nodeId, clock.now()), store.leave(request, now)),
    async accept(groups, limits, now) {
      await lanesFree("accept", chatsOf(groups), limits.patient);
      return noted(groups, await store.accept(groups, limits, now));
    },
    async acceptAndStart(groups, limits, start, now) {
      await lanesFree("accept", chatsOf(groups), limits.patient);
      const { answers, claims } = await store.acceptAndStart(groups, limits, start, now);
      return { answers: noted(groups, answers), claims };
    },
    async erase(scope, chatId, now) {
      const answer = await store.erase(scope, chatId, now);
      if (answer.kind === "erased") for (const id of accepted.get(chatId) ?? []) world.erased.add(id);
      if (answer.kind === "erased") accepted.delete(chatId);
      return answer;
    },
  };
  const doors = createDoors(noting, clock, {
    way(_verb, leg, cut) {
      const { failThere, answerLost, slowCommit } = world.weather;
      if (cut || clock.now() < world.downUntil) return null;
      if (clock.random() < (leg === "there" ? failThere : answerLost)) return null;
      // A commit may wait for its disk or a lock before it happens, or its answer on the way back: longer than a lease at times.
      return clock.random() < slowCommit ? between(50, clock.random() < 0.1 ? 7000 : 1500) : between(0.1, 2);
    },
    hintWay: () => (clock.random() < world.weather.hintLost ? null : between(0.1, 20)),
  });

  function startNode(): SimulatedNode {
    const id = `node${world.nodes.length}`;
    const process = createProcess(clock, between(-skewMaxMs, skewMaxMs));
    const node: SimulatedNode = { id, process, queue: null, cutUntil: 0, stopping: false };
    world.nodes.push(node);
    const settings = queueSettings({ concurrency: slots, agingMs, retryBaseMs: 200, retryMaxMs: 3000, buildTimeoutMs: 5000, drainMs: 2000, maxPendingPerChat: 1000, maxPending: 100_000, clusterConcurrency: clusterMax });
    const parts = {
      nodeId: id, settings, store: doors.doorFor(process, () => clock.now() < node.cutUntil), runner: createRunner(process, id, slots, world.watch, clusterMax),
      clock: process.clock, report: (report: Report) => world.onReport(id, report), counters: {},
    };
    // The database may be away: whoever starts services tries again.
    const start = (): void => void composeQueue(parts).then((queue) => (node.queue = queue), () => process.clock.after(500, start));
    start();
    return node;
  }
  function open(): SimulatedNode[] {
    return world.nodes.filter((node) => node.process.state === "up" && node.queue !== null && !node.stopping);
  }
  return world;
}
