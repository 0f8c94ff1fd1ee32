/** The webhook's cursors in memory; the same rows as in migrations/0014_webhook.sql. */
import type { WebhookStore } from "../webhook.js";
import type { Lane, Tables } from "./tables.js";

interface Cursor {
  chatId: string;
  delivered: number;
  failures: number;
  nextAt: number | null;
  claimId: string | null;
}

const latestMs = 60_000;
const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export function memoryWebhook(tables: Tables, time: () => number): WebhookStore {
  const cursors = new Map<string, Cursor>();
  /** Those with a nextAt. */
  const line = new Set<Cursor>();
  let startedAt = Number.POSITIVE_INFINITY;
  const step = async <T>(work: () => T): Promise<T> => work();

  const start = (lane: Lane): number => {
    const first = lane.events.find((event) => Date.parse(event.at) >= startedAt);
    return first ? first.number - 1 : lane.eventTail;
  };
  function put(cursor: Cursor, nextAt: number | null): void {
    cursor.nextAt = nextAt;
    if (nextAt === null) line.delete(cursor);
    else line.add(cursor);
  }
  function lineUp(chatIds: Iterable<string>, now: number): void {
    for (const chatId of chatIds) {
      const lane = tables.lanes.get(chatId);
      if (!lane) continue;
      const cursor = cursors.get(chatId) ?? { chatId, delivered: start(lane), failures: 0, nextAt: null, claimId: null };
      cursors.set(chatId, cursor);
      if (cursor.nextAt === null && lane.eventTail > cursor.delivered) put(cursor, now);
    }
  }
  const inLine = (): Cursor[] => [...line].sort((a, b) => (a.nextAt as number) - (b.nextAt as number) || byText(a.chatId, b.chatId));
  function dueInMs(now: number): number | null {
    let first = Number.POSITIVE_INFINITY;
    for (const { nextAt } of line) first = Math.min(first, nextAt as number);
    return Number.isFinite(first) ? first - now : null;
  }

  return {
    begin: (now = time()) => step(() => void (startedAt = Math.min(startedAt, now))),
    claim: ({ claimId, chatIds, limit, leaseMs }, now = time()) =>
      step(() => {
        lineUp(chatIds, now);
        const due = inLine().filter(({ nextAt }) => (nextAt as number) <= now).slice(0, limit).sort((a, b) => byText(a.chatId, b.chatId));
        for (const cursor of due) {
          cursor.claimId = claimId;
          put(cursor, now + leaseMs);
        }
        return { claims: due.map(({ chatId, delivered, failures }) => ({ chatId, delivered, failures })), dueInMs: dueInMs(now) };
      }),
    record: ({ claimId, chatId, delivered, failures, retryInMs }, now = time()) =>
      step(() => {
        const cursor = cursors.get(chatId);
        const lane = tables.lanes.get(chatId);
        if (!cursor || !lane || cursor.claimId !== claimId) return false;
        Object.assign(cursor, { claimId: null, failures, delivered: Math.max(cursor.delivered, delivered) });
        put(cursor, lane.eventTail > cursor.delivered ? now + (retryInMs ?? 0) : null);
        return true;
      }),
    sweep: ({ after, limit }, now = time()) =>
      step(() => {
        const page = [...tables.lanes.keys()].filter((chatId) => chatId > after).sort(byText).slice(0, limit);
        const latest = [...tables.lanes.values()].filter(({ events }) => Date.parse(events.at(-1)?.at ?? "") > now - latestMs).map(({ chatId }) => chatId);
        lineUp([...page, ...latest], now);
        return { next: page.length === limit ? (page.at(-1) as string) : "", dueInMs: dueInMs(now) };
      }),
  };
}
