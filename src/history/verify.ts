/**
 * Proves or refutes every promise that a history can tell of, in one pass by chat and one by time over a snapshot.
 * `buildlane verify` prints what this says; simulation, chaos and interleaving tests ask it too.
 */
import { checkChat, missing } from "./check.js";
import type { ChatCheck, CheckedEvent, CheckedJob, CheckedLane, CheckOptions, Violation, ViolationKind } from "./check.js";
import { createSweep } from "./sweep.js";
import type { SweepFigures, SweepOptions } from "./sweep.js";

/** What `verify` reads: the whole history as it was at one moment; pages, so that a reader's memory is bounded. */
export interface History {
  /** By chat id, as bytes. */
  lanes(): AsyncIterable<CheckedLane[]>;
  /** By chat, then number; or by time, then chat and number. */
  events(order: "chat" | "time"): AsyncIterable<CheckedEvent[]>;
  /** By chat, then chatSeq. */
  jobs(): AsyncIterable<CheckedJob[]>;
  /** Slots of the nodes that are known now. */
  slots: ReadonlyMap<string, number>;
  /** The cap of running attempts over all nodes, when all known nodes were given the same; null: none, or not the same. */
  clusterMax: number | null;
  /** The aging that the jobs with a priority were accepted with; null when it changed meanwhile or none has one. */
  agingMs: number | null;
}

export interface VerifyOptions extends CheckOptions, Pick<SweepOptions, "clusterMax" | "startsMax" | "slackMs" | "inHandMs" | "sureMsMax"> {
  /** Ids of jobs that were answered with success and that no retention may have removed. */
  promised?: Iterable<string> | undefined;
  /** Violations that are kept in full; the others are only counted. */
  violationsMax?: number | undefined;
}

export interface Verdict extends SweepFigures {
  ok: boolean;
  chats: number;
  jobs: number;
  events: number;
  /** Milliseconds; null: unknown, so priorities are judged only where any aging gives the same order. */
  agingMs: number | null;
  /** How often each promise was broken. */
  counts: Partial<Record<ViolationKind, number>>;
  violations: Violation[];
}

export async function verify(history: History, { promised, violationsMax = 1000, ...options }: VerifyOptions = {}): Promise<Verdict> {
  const counts: Verdict["counts"] = {};
  const violations: Violation[] = [];
  const found = (violation: Violation): void => {
    counts[violation.kind] = (counts[violation.kind] ?? 0) + 1;
    if (violations.length < violationsMax) violations.push(violation);
  };
  const agingMs = options.agingMs ?? history.agingMs ?? undefined;
  const open = new Set(promised);
  const byChat = await checkChats(history, { ...options, agingMs, found, seen: (jobId) => void open.delete(jobId) });
  for (const jobId of open) found(missing(jobId));

  const sweep = createSweep({ ...options, clusterMax: options.clusterMax ?? history.clusterMax ?? undefined, agingMs, slots: history.slots, found });
  for await (const page of history.events("time")) for (const event of page) sweep.event(event);
  const figures = sweep.end();
  return { ok: Object.keys(counts).length === 0, ...byChat, ...figures, agingMs: agingMs ?? null, counts, violations };
}

type Seen = { found(violation: Violation): void; seen(jobId: string): void };

/** Walks lanes, events and rows side by side; all three come in the order of chats. */
async function checkChats(history: History, { found, seen, ...options }: CheckOptions & Seen): Promise<{ chats: number; jobs: number; events: number }> {
  const lanes = walk(history.lanes());
  const events = walk(history.events("chat"));
  const jobs = walk(history.jobs());
  const figures = { chats: 0, jobs: 0, events: 0 };
  try {
    for (;;) {
      const heads = [await lanes.peek(), await events.peek(), await jobs.peek()].flatMap((row) => (row ? [row.chatId] : []));
      const chatId = heads.reduce<string | null>((first, one) => (first === null || byBytes(one, first) < 0 ? one : first), null);
      if (chatId === null) return figures;
      figures.chats++;
      const isOurs = (row: { chatId: string } | undefined): boolean => row?.chatId === chatId;
      const lane = isOurs(await lanes.peek()) ? await lanes.take() : undefined;
      const check: ChatCheck = checkChat(chatId, { ...options, floor: lane?.eventFloor ?? 0, found });
      for (; isOurs(await events.peek()); figures.events++) check.event((await events.take()) as CheckedEvent);
      for (; isOurs(await jobs.peek()); figures.jobs++) {
        const row = (await jobs.take()) as CheckedJob;
        seen(row.id);
        check.row(row);
      }
      check.end(lane);
      if (!lane) found({ kind: "lost", chatId, jobId: null, events: [], message: `Chat ${chatId} has a history and no lane.` });
    }
  } finally {
    await Promise.all([lanes.close(), events.close(), jobs.close()]);
  }
}

/** As the database compares: UTF-8 bytes. */
const byBytes = (a: string, b: string): number => (a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b)));

/** Rows one at a time out of pages, with a look at the next. */
function walk<T>(pages: AsyncIterable<T[]>) {
  const iterator = pages[Symbol.asyncIterator]();
  let page: T[] = [];
  let at = 0;
  let done = false;
  async function fill(): Promise<void> {
    while (at >= page.length && !done) {
      const next = await iterator.next();
      done = next.done ?? false;
      page = done ? [] : (next.value as T[]);
      at = 0;
    }
  }
  return {
    /** A promise only when a page must be read: rows are many. */
    peek(): T | undefined | Promise<T | undefined> {
      return at < page.length || done ? page[at] : fill().then(() => page[at]);
    },
    take(): T | undefined | Promise<T | undefined> {
      return at < page.length || done ? page[at++] : fill().then(() => page[at++]);
    },
    close: async () => void (await iterator.return?.()),
  };
}
