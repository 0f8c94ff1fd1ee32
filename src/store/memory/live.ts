/** The memory store's reads for whoever watches: the same as src/store/sql/live.ts. */
import type { HistoryEvent } from "../../job.js";
import { isWithin, laneKey, laneOfShown, shownLane } from "../scope.js";
import type { Scope } from "../scope.js";
import { decodeLanePlace, encodeLanePlace } from "../lane-cursor.js";
import { laneFinishedMax, laneLatestMax, lanePendingMax } from "../store.js";
import type { LaneJob, LanesRead, LaneView, News, Place, Quarantined, WhyFacts } from "../store.js";
import { lanesBefore } from "./next-lanes.js";
import { copy, iso, jobWithin, laneOf, lineUpDue, positionOf } from "./tables.js";
import type { JobRow, Lane, Tables } from "./tables.js";

const nextAttemptAt = (row: JobRow, at: number): string | null => (row.status === "pending" && row.runAt > at ? iso(row.runAt) : null);
const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));
const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export function news(tables: Tables, { since, limit }: { since: number; limit: number }, at: number): News {
  const found: HistoryEvent[] = [];
  for (const { events } of tables.lanes.values()) {
    for (let index = events.length - 1; index >= 0; index--) {
      const event = events[index] as HistoryEvent;
      if (Date.parse(event.at) < since) break;
      found.push(event);
    }
  }
  found.sort((a, b) => byText(a.at, b.at) || byText(laneOfShown(a), laneOfShown(b)) || a.number - b.number);
  return { events: found.slice(0, limit).map((event) => ({ ...copy(event), ...shownLane(event.chatId) })), now: at, queuePaused: tables.queuePausedAt !== null };
}

export function places(tables: Tables, chatId: string, limit: number, at: number): { places: Place[]; paused: boolean } {
  const lane = tables.lanes.get(chatId);
  const place = (row: JobRow): Place => ({ id: row.id, chatSeq: row.chatSeq, attempt: row.attempt, queuePosition: positionOf(lane as Lane, row), nextAttemptAt: nextAttemptAt(row, at) });
  return { places: lane?.pending.slice(0, limit).map(place) ?? [], paused: lane ? lane.pausedAt !== null : false };
}

export function why(tables: Tables, scope: Scope, jobId: string, at: number): WhyFacts | null {
  const row = jobWithin(tables, scope, jobId);
  if (!row) return null;
  lineUpDue(tables, at);
  const lane = laneOf(tables, row.chatId);
  const front = row.status === "pending" ? (lane.running ?? lane.pending.first ?? null) : null;
  const alive = [...tables.nodes.values()].filter((node) => node.leaseUntil > at);
  const claiming = alive.filter((node) => !node.draining);
  return {
    id: row.id, ...shownLane(row.chatId), status: row.status, attempt: row.attempt, startedAt: isoOrNull(row.startedAt), completedAt: isoOrNull(row.completedAt),
    failureCode: row.failed?.failure.code ?? null, nodeId: row.held?.nodeId ?? null, queuePosition: positionOf(lane, row),
    front: front && front !== row ? { id: front.id, chatSeq: front.chatSeq, status: front.status as "pending" | "running", attempt: front.attempt, nextAttemptAt: nextAttemptAt(front, at) } : null,
    nextAttemptAt: nextAttemptAt(row, at), chatPaused: lane.pausedAt !== null, heldBy: lane.heldBy, queuePaused: tables.queuePausedAt !== null,
    lanesAhead: lane.state === "ready" || lane.state === "delayed" ? lanesBefore(tables, lane) : 0,
    nodes: { alive: alive.length, claiming: claiming.length, slots: Math.min(claiming.reduce((sum, node) => sum + node.slots, 0), tables.clusterCap), running: tables.totals.running },
  };
}

export const quarantined = (tables: Tables, limit: number): Quarantined[] =>
  [...tables.crashes]
    .flatMap(([codeHash, { cause, count, quarantinedAt }]) => (quarantinedAt === null ? [] : [{ codeHash, cause, crashes: count, quarantinedAt }]))
    .sort((a, b) => b.quarantinedAt - a.quarantinedAt || byText(a.codeHash, b.codeHash))
    .slice(0, limit)
    .map((one) => ({ ...one, quarantinedAt: iso(one.quarantinedAt) }));

const laneJob = (row: JobRow, at: number): LaneJob => ({
  id: row.id, chatSeq: row.chatSeq, messageId: row.messageId, status: row.status, attempt: row.attempt, maxAttempts: row.maxAttempts, priority: row.priority, createdAt: iso(row.createdAt),
  startedAt: isoOrNull(row.startedAt), completedAt: isoOrNull(row.completedAt), nextAttemptAt: nextAttemptAt(row, at), failureCode: row.failed?.failure.code ?? null,
});

const view = (lane: Lane, at: number): LaneView => ({
  ...shownLane(lane.chatId), state: lane.state, paused: lane.pausedAt !== null, heldBy: lane.heldBy, eventNumber: lane.eventTail, pending: lane.pending.size, nodeId: lane.running?.held?.nodeId ?? null,
  jobs: [...lane.finished.slice(Math.max(0, lane.finished.size - laneFinishedMax)), ...(lane.running ? [lane.running] : []), ...lane.pending.slice(0, lanePendingMax)].map((row) => laneJob(row, at)),
});

const groupOf = ({ state }: Lane): number => ({ paused: 0, delayed: 1, ready: 2, running: 2, idle: 3 })[state];

export function lanes(tables: Tables, scope: Scope, { chatIds, limit, cursor }: LanesRead, at: number): { lanes: LaneView[]; nextCursor: string | null } {
  lineUpDue(tables, at);
  if (chatIds) return { lanes: [...new Set(chatIds.map((id) => laneKey(scope, id)))].sort(byText).flatMap((id) => tables.lanes.get(id) ?? []).map((lane) => view(lane, at)), nextCursor: null };
  const latest = latestFinished(tables, scope).map((row) => laneOf(tables, row.chatId));
  const owned = [...tables.owned.values()].flatMap((set) => [...set]);
  const all = [...new Set([...tables.paused, ...tables.delayed, ...tables.ready, ...owned, ...latest.filter((lane) => lane.state === "idle")])].filter((lane) => isWithin(scope, lane.chatId));
  all.sort((a, b) => groupOf(a) - groupOf(b) || byText(a.chatId, b.chatId));
  const from = cursor === undefined ? undefined : decodeLanePlace(cursor);
  const left = from ? all.filter((lane) => groupOf(lane) > from[0] || (groupOf(lane) === from[0] && byText(lane.chatId, from[1]) > 0)) : all;
  const last = left[limit - 1];
  return { lanes: left.slice(0, limit).map((lane) => view(lane, at)), nextCursor: left.length > limit && last ? encodeLanePlace([groupOf(last), last.chatId]) : null };
}

function latestFinished({ finished }: Tables, scope: Scope): JobRow[] {
  const found: JobRow[] = [];
  for (let index = finished.size - 1; index >= 0 && found.length < laneLatestMax; index--) {
    const row = finished.at(index) as JobRow;
    if (isWithin(scope, row.chatId)) found.push(row);
  }
  return found;
}
