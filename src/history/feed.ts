/**
 * What happens in all chats, live. One reader of the history for all streams of this process, which runs while somebody
 * listens: it reads what is new at every hint, and at the poll's time when hints are lost. Events are told apart by chat
 * and number, so reading a stretch of time twice doubles nothing, and finds what was committed out of order. What was
 * committed later than any stretch goes back is found by the hint of its chat, or by its chat's next event.
 */
import type { Clock, Timer } from "../clock.js";
import type { HistoryEvent, LiveItem } from "../job.js";
import { keepLatest } from "../keep-latest.js";
import { isWithin, laneOfShown, ofLane } from "../store/scope.js";
import type { Scope } from "../store/scope.js";
import type { Store } from "../store/store.js";

/** The longest that news may take when every hint is lost, and the shortest time between two reads, milliseconds. */
const pollMs = 1000;
const gapMs = 25;
/** How far back a hinted read looks, and a polled one: longer than a transaction takes from its time to its commit. */
const lookBackMs = 250;
const pollBackMs = 3000;
/** More in one read than a live view can use: readers are told to look at the current state instead. */
const readMax = 2000;
/** A reader that lags by so many is dropped. */
const lagMax = 4000;
/** Chats whose latest number is remembered. */
const chatsMax = 20_000;
/** Chats that are looked at by themselves in one read, and events of such a chat, the latest. */
const namedMax = 200;
const lateEventsMax = 50;

export interface Feed {
  /** `reset`, then everything from then on, until the signal aborts or the reader is too slow: then `reset`, and the end. */
  read(scope: Scope, signal: AbortSignal): AsyncGenerator<LiveItem, void, undefined>;
  close(): void;
}

interface Reader {
  scope: Scope;
  items: LiveItem[];
  ended: boolean;
  wake(): void;
}

export function createFeed(store: Store, clock: Clock): Feed {
  const readers = new Set<Reader>();
  const told = new Map<string, number>();
  /** Chats that were hinted at since the last read. */
  const named = new Set<string>();
  let since: number | null = null;
  let begin = 0;
  let paused = false;
  let news = false;
  let reading: Promise<void> | null = null;
  let timer: Timer | null = null;
  let closed = false;
  const deaf = store.onHint((hint) => {
    if (hint.kind !== "chat" && hint.kind !== "paused") return;
    news = true;
    if (readers.size > 0 && hint.kind === "chat" && named.size < namedMax) named.add(hint.chatId);
    if (readers.size > 0 && !reading) schedule(gapMs);
  });
  let dueAt = Number.POSITIVE_INFINITY;

  function schedule(delayMs: number): void {
    const at = clock.monotonic() + delayMs;
    if (closed || readers.size === 0 || at >= dueAt) return;
    timer?.cancel();
    dueAt = at;
    timer = clock.after(delayMs, () => {
      dueAt = Number.POSITIVE_INFINITY;
      void readOn();
    });
  }

  function tell(item: LiveItem): void {
    for (const reader of readers) {
      if (reader.ended || !isFor(reader.scope, item)) continue;
      if (reader.items.length >= lagMax) {
        reader.items = ["reset"];
        reader.ended = true;
      } else reader.items.push(item);
      reader.wake();
    }
  }

  const keep = (lane: string, number: number): void => {
    told.delete(lane);
    told.set(lane, number);
    keepLatest(told, chatsMax);
  };

  /** Tells the event, and before it those of its chat that no read has found: their transaction took long. */
  async function tellInOrder(event: HistoryEvent): Promise<void> {
    const lane = laneOfShown(event);
    const last = told.get(lane);
    if (last === undefined ? Date.parse(event.at) < begin : event.number <= last) return;
    if (last !== undefined && event.number > last + 1) await tellLate(lane, event.number);
    keep(lane, event.number);
    tell(event);
  }

  /** Tells what is not told yet of a chat, up to a number; of one that is new here, its latest that happened since the reset. */
  async function tellLate(lane: string, before = Number.POSITIVE_INFINITY): Promise<void> {
    const last = told.get(lane);
    const { tenant, chatId } = ofLane(lane);
    const latest = async () => (await store.lanes("everyone", { chatIds: [lane], limit: 1 })).lanes[0]?.eventNumber ?? 0;
    const after = last ?? Math.max(0, Math.min(before - 1, before === Number.POSITIVE_INFINITY ? await latest() : before) - lateEventsMax);
    const { events } = await store.events({ tenant }, chatId, { after, limit: last === undefined ? lateEventsMax : readMax });
    for (const event of events) {
      if (event.number >= before || event.number <= (told.get(lane) ?? 0) || (last === undefined && Date.parse(event.at) < begin)) continue;
      keep(lane, event.number);
      tell(event);
    }
  }

  /** Chats that begin here in the middle, and those that were hinted at and of which nothing was found. */
  async function tellAllLate(events: HistoryEvent[], hinted: string[]): Promise<void> {
    const firsts = new Map<string, number>();
    for (const event of events) {
      const lane = laneOfShown(event);
      if (!firsts.has(lane) && (told.has(lane) || Date.parse(event.at) >= begin)) firsts.set(lane, event.number);
    }
    const middle = [...firsts].filter(([lane, number]) => number > 1 && !told.has(lane)).slice(0, namedMax);
    await Promise.all([...middle.map(([lane, number]) => tellLate(lane, number)), ...hinted.filter((lane) => !firsts.has(lane)).map((lane) => tellLate(lane))]);
  }

  async function read(): Promise<void> {
    const polled = !news;
    news = false;
    const hinted = since === null ? [] : [...named];
    named.clear();
    const from = since === null ? Number.POSITIVE_INFINITY : Math.max(begin, since - (polled ? pollBackMs : lookBackMs));
    const found = await store.news({ since: Number.isFinite(from) ? from : 8.64e15, limit: readMax });
    if (since === null) {
      begin = found.now;
      paused = found.queuePaused;
    }
    since = found.now;
    if (found.events.length >= readMax) {
      // Nobody reads so fast: from now on again, and whoever watches reads the current state.
      begin = found.now;
      told.clear();
      tell("reset");
      return;
    }
    await tellAllLate(found.events, hinted);
    for (const event of found.events) await tellInOrder(event);
    if (found.queuePaused !== paused) {
      paused = found.queuePaused;
      tell({ chatId: null, number: null, type: paused ? "queue.paused" : "queue.resumed", jobId: null, chatSeq: null, status: null, attempt: null, at: new Date(found.now).toISOString(), data: {} });
    }
  }

  /** One read at a time. A database that is away is asked again at the poll's time; nothing is lost by that. */
  function readOn(): Promise<void> {
    reading ??= read()
      .catch(() => undefined)
      .finally(() => {
        reading = null;
        // Whoever listened left meanwhile: the next reader begins anew.
        if (readers.size === 0) forget();
        schedule(news ? gapMs : pollMs);
      });
    return reading;
  }

  function leave(reader: Reader): void {
    readers.delete(reader);
    if (readers.size > 0) return;
    timer?.cancel();
    dueAt = Number.POSITIVE_INFINITY;
    forget();
  }
  function forget(): void {
    since = null;
    told.clear();
    named.clear();
  }

  return {
    async *read(scope, signal) {
      let resume: (() => void) | null = null;
      const wake = () => resume?.();
      const reader: Reader = { scope, items: [], ended: closed, wake };
      signal.addEventListener("abort", wake, { once: true });
      try {
        readers.add(reader);
        // What is committed after this read is told: only then may a page read the state that it goes on from.
        for (reading && (await reading); since === null && !signal.aborted && !closed; ) {
          await readOn();
          if (since === null) await new Promise<void>((resolve) => void clock.after(pollMs, resolve));
        }
        yield "reset";
        for (;;) {
          const item = reader.items.shift();
          if (signal.aborted) return;
          if (item !== undefined) yield item;
          else if (reader.ended) return;
          else {
            await new Promise<void>((resolve) => {
              resume = resolve;
            });
            resume = null;
          }
        }
      } finally {
        signal.removeEventListener("abort", wake);
        leave(reader);
      }
    },
    close() {
      closed = true;
      deaf();
      timer?.cancel();
      for (const reader of readers) {
        reader.ended = true;
        reader.wake();
      }
    },
  };
}

/** Whose it is: what concerns the whole queue is everybody's. */
const isFor = (scope: Scope, item: LiveItem): boolean => scope === "everyone" || item === "reset" || item.chatId === null || isWithin(scope, laneOfShown({ chatId: item.chatId, tenant: item.tenant }));
