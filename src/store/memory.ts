/**
 * The store in memory, for tests, simulation and demos: the same contract as the SQL stores, without durability. Each
 * verb does its work in one synchronous step, which is its transaction. Several nodes may share one store.
 */
import type { Clock } from "../clock.js";
import { accept } from "./memory/accept.js";
import { chat, deadLetterIds, eventStart, events, get, list, output } from "./memory/reads.js";
import { stats } from "./memory/stats.js";
import { createTables } from "./memory/tables.js";
import { rescue, turn } from "./memory/turn.js";
import { cancel, discard, endLeases, prune, pulse, redrive, setChatPaused } from "./memory/verbs.js";
import type { Hint, Store } from "./store.js";

/**
 * Stands for the way to a database: waited for before a verb does its work ("there") and before its answer is given
 * ("back"). Rejecting on the way there means that nothing happened; on the way back, that it did and nobody was told.
 */
export type Latency = (verb: keyof Store, leg: "there" | "back") => Promise<void> | undefined;

export function createMemoryStore({ clock, latency }: { clock: Clock; latency?: Latency | undefined }): Store {
  const tables = createTables();
  const listeners = new Set<(hint: Hint) => void>();

  async function step<T>(verb: keyof Store, work: () => T): Promise<T> {
    if (!latency) return work();
    await latency(verb, "there");
    const answer = work();
    await latency(verb, "back");
    return answer;
  }
  const tell = (hint: Hint) => listeners.forEach((listener) => listener(hint));

  return {
    kind: "memory",
    accept: (groups, limits, now) => step("accept", () => accept(tables, groups, limits, now ?? clock.now())),
    turn: (request, now) => step("turn", () => turn(tables, request, now ?? clock.now())),
    pulse: (request, now) => step("pulse", () => pulse(tables, request, now ?? clock.now())),
    rescue: (request, now) => step("rescue", () => rescue(tables, request, now ?? clock.now())),
    endLeases: (which, now) => step("endLeases", () => endLeases(tables, which, now ?? clock.now())),
    cancel: (jobId, now) => step("cancel", () => cancel(tables, jobId, now ?? clock.now())),
    redrive: (jobId, limits, now) => step("redrive", () => redrive(tables, jobId, limits, now ?? clock.now())),
    deadLetterIds: (filter, limit) => step("deadLetterIds", () => deadLetterIds(tables, filter, limit)),
    countDeadLetters: (filter) => step("countDeadLetters", () => deadLetterIds(tables, filter).length),
    discard: (jobIds, now) => step("discard", () => discard(tables, jobIds, now ?? clock.now())),
    setQueuePaused: (paused) => step("setQueuePaused", () => void (tables.queuePaused = paused)),
    setChatPaused: (chatId, paused, now) => step("setChatPaused", () => setChatPaused(tables, chatId, paused, now ?? clock.now())),
    get: (jobId) => step("get", () => get(tables, jobId, clock.now())),
    output: (jobId) => step("output", () => output(tables, jobId)),
    chat: (chatId, limit, include) => step("chat", () => chat(tables, chatId, limit, include, clock.now())),
    list: (query) => step("list", () => list(tables, query, clock.now())),
    stats: (now) => step("stats", () => stats(tables, now ?? clock.now())),
    events: (chatId, query) => step("events", () => events(tables, chatId, query)),
    eventStart: (chatId) => step("eventStart", () => eventStart(tables, chatId)),
    prune: (keep, now) => step("prune", () => prune(tables, keep, now ?? clock.now())),
    hint(hint) {
      // Later, as from a database: whoever sends a hint has finished its own step by then. A hint may be lost.
      const way = latency?.("hint", "there");
      if (way) way.then(() => tell(hint), () => undefined);
      else queueMicrotask(() => tell(hint));
    },
    onHint(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ping: () => step("ping", () => true),
    // Nothing to give back, and another node may still be using it.
    close: () => step("close", () => undefined),
  };
}
