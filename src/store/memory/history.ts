/** The memory store's whole history for its checkers: one synchronous look at everything, handed out in pages. */
import type { History } from "../../history/verify.js";
import type { Tables } from "./tables.js";

const pageMax = 1000;

async function* pages<T>(rows: readonly T[]): AsyncGenerator<T[], void, undefined> {
  for (let from = 0; from < rows.length; from += pageMax) yield rows.slice(from, from + pageMax);
}

export function readHistory(tables: Tables): History {
  const lanes = [...tables.lanes.values()].sort((a, b) => Buffer.compare(Buffer.from(a.chatId), Buffer.from(b.chatId)));
  const events = lanes.flatMap((lane) => lane.events.map((event) => ({ ...event, atMs: Date.parse(event.at) })));
  // Stable, so that a chat's events of one moment stay in the order of their numbers.
  const byTime = [...events].sort((a, b) => a.atMs - b.atMs);
  const jobs = lanes.flatMap(({ running, pending, finished }) =>
    [...(running ? [running] : []), ...pending, ...finished]
      .sort((a, b) => a.chatSeq - b.chatSeq)
      .map(({ id, chatId, chatSeq, status, attempt, maxAttempts }) => ({ id, chatId, chatSeq, status, attempt, maxAttempts })),
  );
  const agings = new Set<number>();
  for (const { priority, rank, createdAt, events: own } of tables.jobs.values())
    // A redrive gives another rank, and so may a retry, where those yield.
    if (priority !== 0 && !own.some(({ type }) => type === "job.redriven" || type === "job.retrying")) agings.add(Math.round((createdAt - rank) / priority));
  const [agingMs] = agings;
  const caps = new Set([...tables.nodes.values()].map(({ clusterCap }) => clusterCap));
  return {
    lanes: () => pages(lanes.map(({ chatId, tail, eventTail, eventFloor, pending }) => ({ chatId, tail, eventTail, eventFloor, pending: pending.size }))),
    events: (order) => pages(order === "chat" ? events : byTime),
    jobs: () => pages(jobs),
    clusterMax: caps.size === 1 ? ([...caps][0] as number | null) : null,
    slots: new Map([...tables.nodes.values()].map(({ id, slots }) => [id, slots])),
    agingMs: agings.size === 1 && agingMs !== undefined ? agingMs : null,
  };
}
