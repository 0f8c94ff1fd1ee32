/**
 * The store in memory, for tests, simulation and demos: the same contract as the SQL stores, without durability. Each
 * verb does its work in one synchronous step, which is its transaction. Several nodes may share one store.
 */
import type { Clock } from "../clock.js";
import { memoryAccess } from "./memory/access.js";
import { accept } from "./memory/accept.js";
import { cancelChat, chatState, erase, setChatPaused, setPolicy } from "./memory/chats.js";
import { lanes, news, places, quarantined, why } from "./memory/live.js";
import { readHistory } from "./memory/history.js";
import { chat, deadLetterGroups, deadLetterIds, eventStart, events, get, hasEnded, list, output } from "./memory/reads.js";
import { stats } from "./memory/stats.js";
import { memoryCode } from "./memory/code.js";
import { createTables } from "./memory/tables.js";
import { acceptAndStart, leave, rescue, turn } from "./memory/turn.js";
import { memoryWebhook } from "./memory/webhook.js";
import { cancel, discard, endLeases, prune, pulse, redrive } from "./memory/verbs.js";
import { laneKey } from "./scope.js";
import type { Hint, Store } from "./store.js";

export function createMemoryStore({ clock }: { clock: Clock }): Store {
  const tables = createTables();
  const listeners = new Set<(hint: Hint) => void>();

  const step = async <T>(work: () => T): Promise<T> => work();
  const tell = (hint: Hint) => listeners.forEach((listener) => listener(hint));

  return {
    kind: "memory",
    access: memoryAccess(),
    webhook: memoryWebhook(tables, () => clock.now()),
    code: memoryCode(tables, () => clock.now()),
    accept: (groups, limits, now) => step(() => accept(tables, groups, limits, now ?? clock.now())),
    acceptAndStart: (groups, limits, start, now) => step(() => acceptAndStart(tables, groups, limits, start, now ?? clock.now())),
    turn: (request, now) => step(() => turn(tables, request, now ?? clock.now())),
    pulse: (request, now) => step(() => pulse(tables, request, now ?? clock.now())),
    rescue: (request, now) => step(() => rescue(tables, request, now ?? clock.now())),
    leave: (request, now) => step(() => leave(tables, request, now ?? clock.now())),
    endLeases: (which, now) => step(() => endLeases(tables, which, now ?? clock.now())),
    cancel: (scope, jobId, now) => step(() => cancel(tables, scope, jobId, now ?? clock.now())),
    redrive: (scope, jobId, limits, now) => step(() => redrive(tables, scope, jobId, limits, now ?? clock.now())),
    deadLetterIds: (scope, filter, limit) => step(() => deadLetterIds(tables, scope, filter, limit)),
    deadLetterGroups: (scope, filter, limit) => step(() => deadLetterGroups(tables, scope, filter, limit)),
    countDeadLetters: (scope, filter) => step(() => deadLetterIds(tables, scope, filter).length),
    discard: (scope, jobIds, now) => step(() => discard(tables, scope, jobIds, now ?? clock.now())),
    weighTenants: (weights) => step(() => void (tables.shares.weights = new Map(Object.entries(weights)))),
    setQueuePaused: (paused, now) => step(() => void (tables.queuePausedAt = paused ? (tables.queuePausedAt ?? now ?? clock.now()) : null)),
    setChatPaused: (scope, chatId, paused, now) => step(() => setChatPaused(tables, laneKey(scope, chatId), paused, now ?? clock.now())),
    setPolicy: (scope, chatId, policy, now) => step(() => setPolicy(tables, laneKey(scope, chatId), policy, now ?? clock.now())),
    chatState: (scope, chatId) => step(() => chatState(tables, laneKey(scope, chatId))),
    cancelChat: (scope, chatId, now) => step(() => cancelChat(tables, laneKey(scope, chatId), now ?? clock.now())),
    erase: (scope, chatId, now) => step(() => erase(tables, laneKey(scope, chatId), now ?? clock.now())),
    rateAheadMs: (scope, chatId, now) => step(() => Math.max(0, (tables.lanes.get(laneKey(scope, chatId))?.rateAt ?? Number.NEGATIVE_INFINITY) - (now ?? clock.now()))),
    get: (scope, jobId) => step(() => get(tables, scope, jobId, clock.now())),
    ended: (jobIds) => step(() => jobIds.filter((id) => hasEnded(tables, id))),
    output: (scope, jobId) => step(() => output(tables, scope, jobId)),
    chat: (scope, chatId, limit, include) => step(() => chat(tables, laneKey(scope, chatId), limit, include, clock.now())),
    list: (scope, query) => step(() => list(tables, scope, query, clock.now())),
    stats: (scope, now) => step(() => stats(tables, scope, now ?? clock.now())),
    events: (scope, chatId, query) => step(() => events(tables, laneKey(scope, chatId), query)),
    eventStart: (scope, chatId) => step(() => eventStart(tables, laneKey(scope, chatId))),
    news: (query, now) => step(() => news(tables, query, now ?? clock.now())),
    places: (scope, chatId, limit, now) => step(() => places(tables, laneKey(scope, chatId), limit, now ?? clock.now())),
    quarantined: (limit) => step(() => quarantined(tables, limit)),
    why: (scope, jobId, now) => step(() => why(tables, scope, jobId, now ?? clock.now())),
    lanes: (scope, query, now) => step(() => lanes(tables, scope, query, now ?? clock.now())),
    readHistory: (read) => read(readHistory(tables)),
    prune: (keep, now) => step(() => prune(tables, keep, now ?? clock.now())),
    // Later, as from a database: whoever sends a hint has finished its own step by then.
    hint: (hint) => queueMicrotask(() => tell(hint)),
    onHint(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ping: () => step(() => true),
    // Nothing to give back, and another node may still be using it.
    close: () => step(() => undefined),
  };
}
