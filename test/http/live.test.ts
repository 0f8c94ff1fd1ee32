/** Live streams over HTTP: of everything, of a chat with its moves, cut anywhere, many at once; and the answer to why. */
import { describe, expect, it } from "vitest";
import type { HistoryEvent, LiveItem } from "../../src/job.js";
import { createFeed } from "../../src/history/feed.js";
import { systemClock } from "../../src/clock.js";
import { createBuildQueue } from "../../src/queue.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { controlledQueue, listening, openStream, request, server } from "./support.js";
import type { Received } from "./support.js";
import { limits, newJob } from "../store/programs.js";

const life = (events: Received[]) => events.map(({ event, data }) => `${event} ${data?.["chatId"]} ${data?.["chatSeq"]}`);
const until = async (stream: { next(): Promise<Received | undefined> }, name: string): Promise<Received[]> => {
  const found: Received[] = [];
  for (let item = await stream.next(); item; item = await stream.next()) {
    if (item.event) found.push(item);
    if (item.event === name) return found;
  }
  throw new Error(`the stream ended before ${name}: ${JSON.stringify(found)}`);
};

describe("the stream of everything", () => {
  it("says reset, then every chat's events from then on, each chat's in order and without a gap", async () => {
    await using held = await controlledQueue();
    await using app = await server(held.queue);
    const url = await listening(app);
    await held.queue.waitFor((await held.queue.enqueue(request({ chatId: "before" }))).id);
    await using stream = await openStream(`${url}/api/builds/events`);
    expect((await stream.events(1))[0]?.event).toBe("reset");
    for (let index = 0; index < 5; index++) for (const chatId of ["a", "b"]) await held.queue.enqueue(request({ chatId, messageId: `m${index}` }));
    const events = await stream.events(30);
    expect(events.every(({ id }) => id !== undefined)).toBe(true);
    for (const chatId of ["a", "b"]) expect(events.filter(({ data }) => data?.["chatId"] === chatId).map(({ id }) => Number(id))).toEqual(Array.from({ length: 15 }, (_, index) => index + 1));
    expect(life(events)).not.toContain("job.completed before 1");
  });

  it("tells each event once, although it reads the same stretch of time again and again", async () => {
    await using held = await controlledQueue();
    const stop = new AbortController();
    const items = held.queue.stream("all", { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await items.next()).value).toBe("reset");
    const told: string[] = [];
    const next = async () => {
      const item = (await items.next()).value as Exclude<LiveItem, "reset">;
      told.push(`${item.chatId} ${item.number ?? item.type}`);
      return item;
    };
    for (let index = 0; index < 4; index++) {
      await held.queue.enqueue(request({ chatId: "a" }));
      while ((await next()).type !== "job.completed");
    }
    await held.queue.pause();
    while ((await next()).type !== "queue.paused");
    expect(told).toEqual([...Array.from({ length: 12 }, (_, index) => `a ${index + 1}`), "null queue.paused"]);
    stop.abort();
  });

  it("tells when the queue is paused and resumed", async () => {
    await using held = await controlledQueue();
    await using app = await server(held.queue);
    await using stream = await openStream(`${await listening(app)}/api/builds/events`);
    await stream.events(1);
    await held.queue.pause();
    expect((await stream.events(1))[0]).toMatchObject({ event: "queue.paused", data: { chatId: null } });
    await held.queue.resume();
    const [resumed] = await stream.events(1);
    expect(resumed?.event).toBe("queue.resumed");
    expect(resumed?.id).toBeUndefined();
  });

  it("hears of another node's work although no hint comes", async () => {
    const store = createMemoryStore({ clock: systemClock });
    const deaf: Store = { ...store, onHint: () => () => {}, close: async () => {} };
    await using reader = await createBuildQueue({ store: deaf, run: () => "ok" });
    await reader.drain();
    await using writer = await createBuildQueue({ store, run: () => "ok" });
    const stop = new AbortController();
    const items = reader.stream("all", { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await items.next()).value).toBe("reset");
    await writer.enqueue(request({ chatId: "far" }));
    const types = [];
    for (let index = 0; index < 3; index++) types.push(((await items.next()).value as HistoryEvent).type);
    expect(types).toEqual(["job.accepted", "job.started", "job.completed"]);
    stop.abort();
  });

  it("tells in order what was committed long after its time", async () => {
    const store = createMemoryStore({ clock: systemClock });
    const event = (number: number, atMs: number): HistoryEvent => ({ chatId: "c", number, type: "job.accepted", jobId: `j${number}`, chatSeq: number, status: "pending", attempt: 0, at: new Date(atMs).toISOString(), data: {} });
    const start = systemClock.now();
    const all = [event(1, start + 1), event(2, start + 2), event(3, start + 100_000)];
    const reads = [[], [all[0]], [all[2]]] as HistoryEvent[][];
    const feed = createFeed({ ...store, news: async () => ({ events: reads.length > 1 ? (reads.shift() as HistoryEvent[]) : (reads[0] as HistoryEvent[]), now: start, queuePaused: false }), events: async (_scope, _chatId, { after }) => ({ events: all.filter((one) => one.number > after), floor: 0, tail: 3 }) }, systemClock);
    const numbers: (number | null | string)[] = [];
    for await (const item of feed.read("everyone", AbortSignal.timeout(20_000))) {
      numbers.push(item === "reset" ? item : item.number);
      store.hint({ kind: "chat", chatId: "c" });
      if (numbers.length === 4) break;
    }
    expect(numbers).toEqual(["reset", 1, 2, 3]);
    feed.close();
  });

  it("tells a chat's first events however late their transaction commits: at the chat's hint, or before its next event when the hint is lost", async () => {
    const store = createMemoryStore({ clock: systemClock });
    const start = systemClock.now();
    const event = (chatId: string, number: number, atMs: number): HistoryEvent => ({ chatId, number, type: "job.accepted", jobId: `${chatId}${number}`, chatSeq: number, status: "pending", attempt: 0, at: new Date(start + atMs).toISOString(), data: {} });
    // What is committed by now; the reads themselves look back less than that took.
    const committed = [event("old", 1, -5000)];
    let found: HistoryEvent[] = [];
    const feed = createFeed({
      ...store,
      news: async () => ({ events: found.splice(0), now: start, queuePaused: false }),
      events: async (_scope, chatId, { after }) => ({ events: committed.filter((one) => one.chatId === chatId && one.number > after), floor: 0, tail: committed.length }),
      lanes: async (_scope, { chatIds }) => ({ lanes: [{ eventNumber: committed.filter(({ chatId }) => chatId === chatIds?.[0]).length } as never], nextCursor: null }),
    }, systemClock);
    const items = feed.read("everyone", AbortSignal.timeout(20_000));
    expect((await items.next()).value).toBe("reset");
    const next = async () => {
      const item = (await items.next()).value as HistoryEvent;
      return `${item.chatId} ${item.number}`;
    };
    committed.push(event("hinted", 1, 10), event("hinted", 2, 20));
    store.hint({ kind: "chat", chatId: "hinted" });
    expect([await next(), await next()]).toEqual(["hinted 1", "hinted 2"]);
    // Of a chat that had all its events before the stream began, a hint tells nothing.
    store.hint({ kind: "chat", chatId: "old" });
    committed.push(event("lost", 1, 30), event("lost", 2, 40), event("lost", 3, 50));
    found = [event("lost", 3, 50)];
    store.hint({ kind: "paused" });
    expect([await next(), await next(), await next()]).toEqual(["lost 1", "lost 2", "lost 3"]);
    committed.push(event("hinted", 3, 60));
    store.hint({ kind: "chat", chatId: "hinted" });
    expect(await next()).toBe("hinted 3");
    feed.close();
  });

  it("is read for whoever comes next, also when the last reader left in the middle of a read", async () => {
    const store = createMemoryStore({ clock: systemClock });
    const reads: (() => void)[] = [];
    let isHeld = false;
    let begun = () => {};
    const feed = createFeed({
      ...store,
      news: async (query) => {
        const found = await store.news(query);
        begun();
        if (isHeld) await new Promise<void>((resolve) => reads.push(resolve));
        return found;
      },
    }, systemClock);
    const leaving = new AbortController();
    const first = feed.read("everyone", leaving.signal);
    await first.next();
    const inRead = new Promise<void>((resolve) => (begun = resolve));
    isHeld = true;
    const left = first.next();
    store.hint({ kind: "paused" });
    await inRead;
    leaving.abort();
    await left;
    isHeld = false;
    reads.forEach((go) => go());
    const items = feed.read("everyone", AbortSignal.timeout(20_000));
    expect((await items.next()).value).toBe("reset");
    // Of another process, say: no hint tells of it.
    await store.accept([{ jobs: [newJob("j1", "a")], idempotency: null }], limits);
    expect((await items.next()).value).toMatchObject({ chatId: "a", type: "job.accepted" });
    feed.close();
  });

  it("drops a reader that lags with a reset, and the others hear everything", async () => {
    const store = createMemoryStore({ clock: systemClock });
    let number = 0;
    const feed = createFeed({
      ...store,
      news: async () => ({ now: systemClock.now(), queuePaused: false, events: Array.from({ length: 1500 }, (): HistoryEvent => ({ chatId: "c", number: ++number, type: "job.started", jobId: "j", chatSeq: 1, status: "running", attempt: 1, at: new Date(systemClock.now() + 60_000).toISOString(), data: {} })) }),
    }, systemClock);
    const slow = feed.read("everyone", AbortSignal.timeout(30_000));
    expect((await slow.next()).value).toBe("reset");
    let heard = 0;
    for await (const item of feed.read("everyone", AbortSignal.timeout(30_000))) {
      if (item !== "reset") heard++;
      store.hint({ kind: "chat", chatId: "c" });
      if (heard === 7500) break;
    }
    const left: LiveItem[] = [];
    for await (const item of slow) left.push(item);
    expect(left).toEqual(["reset"]);
    feed.close();
  });

  it("ends a hundred open streams within a second when the server closes", async () => {
    await using held = await controlledQueue();
    const app = await server(held.queue);
    const url = await listening(app);
    const streams = await Promise.all(Array.from({ length: 100 }, () => openStream(`${url}/api/builds/events`)));
    await Promise.all(streams.map((stream) => stream.events(1)));
    const from = performance.now();
    await app.close();
    expect(performance.now() - from).toBeLessThan(1000);
    for (const stream of streams) stream.close();
  });
});

describe("moves", () => {
  it("are pushed to a chat's and a job's readers when a job comes forward, without an id", async () => {
    await using held = await controlledQueue();
    await using app = await server(held.queue);
    const url = await listening(app);
    const jobs = [];
    for (const code of ["hold", "hold", "x"]) jobs.push(await held.queue.enqueue(request({ chatId: "a", code })));
    await using chat = await openStream(`${url}/api/builds/chat/a/events`);
    await using job = await openStream(`${url}/api/builds/${jobs[2]?.id}/events`);
    await until(chat, "job.started");
    await job.events(1);
    held.release();
    const [moved] = (await until(job, "job.moved")).slice(-1);
    expect(moved?.id).toBeUndefined();
    expect(moved?.data).toMatchObject({ jobId: jobs[2]?.id, chatId: "a", chatSeq: 3, status: "pending", queuePosition: 2 });
    expect(moved?.data).toHaveProperty("estimatedWaitTimeP90");
    held.release();
    expect((await until(job, "job.completed")).at(-1)?.data).toMatchObject({ jobId: jobs[2]?.id });
  });
});

describe("a chat's stream that is cut", () => {
  it("ends with the same list wherever it was cut", async () => {
    await using held = await controlledQueue({ retryBaseMs: 1, retryMaxMs: 1 });
    await using app = await server(held.queue);
    const url = `${await listening(app)}/api/builds/chat/a/events`;
    const ids = [];
    for (const code of ["x", "fail", "x", "hold", "x"]) ids.push((await held.queue.enqueue(request({ chatId: "a", code }))).id);
    await held.queue.cancel(ids[3] as string);
    await Promise.all(ids.map((id) => held.queue.waitFor(id)));
    await held.queue.retry(ids[1] as string);
    await held.queue.waitFor(ids[1] as string);
    await held.queue.pauseChat("a");
    const numbered = async (count: number, headers: Record<string, string>) => {
      await using stream = await openStream(url, headers);
      const found: Received[] = [];
      while (found.length < count) found.push(...(await stream.events(1)).filter(({ id }) => id !== undefined));
      return found;
    };
    const tail = (await held.queue.lanes({ limit: 1, chatIds: ["a"] })).lanes[0]?.eventNumber as number;
    expect(tail).toBeGreaterThan(15);
    const whole = await numbered(tail, { "last-event-id": "0" });
    for (let cut = 1; cut < whole.length; cut++) {
      const rest = await numbered(whole.length - cut, { "last-event-id": whole[cut - 1]?.id as string });
      expect([...whole.slice(0, cut), ...rest]).toEqual(whole);
    }
  });
});

describe("why", () => {
  const why = async (app: Awaited<ReturnType<typeof server>>, id: string) => (await app.inject(`/api/builds/${id}/why`)).json() as { data: Record<string, unknown> };

  it("names the job in front, the full slots, the pause, the delay and the end", async () => {
    await using held = await controlledQueue({ concurrency: 1 });
    await using app = await server(held.queue);
    const running = await held.queue.enqueue(request({ chatId: "a", code: "hold" }));
    const behind = await held.queue.enqueue(request({ chatId: "a" }));
    const crowded = await held.queue.enqueue(request({ chatId: "b" }));
    const delayed = await held.queue.enqueue(request({ chatId: "c", delayMs: 60_000 }));
    for await (const event of held.queue.events({ chatId: "a" }, { after: 0, signal: AbortSignal.timeout(10_000) })) if (event !== "reset" && event.type === "job.started") break;
    expect((await why(app, running.id)).data).toMatchObject({ reason: "running", unblocks: null });
    expect((await why(app, behind.id)).data).toMatchObject({ reason: "behind", behind: { id: running.id, status: "running" }, queuePosition: 2 });
    expect((await why(app, crowded.id)).data).toMatchObject({ reason: "no_slot", slots: { running: 1, total: 1 }, lanesAhead: 0 });
    expect((await why(app, delayed.id)).data).toMatchObject({ reason: "delayed", reasons: ["delayed", "no_slot"] });
    expect(Date.parse(String((await why(app, delayed.id)).data["until"]))).toBeGreaterThan(Date.now());
    await held.queue.pauseChat("b");
    expect((await why(app, crowded.id)).data).toMatchObject({ reason: "chat_paused", reasons: ["chat_paused", "no_slot"] });
    await held.queue.pause();
    expect((await why(app, crowded.id)).data).toMatchObject({ reason: "queue_paused" });
    expect((await app.inject("/api/builds/nope/why")).statusCode).toBe(404);
    held.release();
    await held.queue.waitFor(running.id);
    expect((await why(app, running.id)).data).toMatchObject({ reason: "final", message: "It is completed." });
  });

  it("says that a retry backs off, and that a draining node starts nothing", async () => {
    await using queue = await createBuildQueue({ store: "memory", retryBaseMs: 60_000, retryMaxMs: 60_000, clock: { ...systemClock, random: () => 0.9 }, run: () => Promise.reject(new Error("flaky")) });
    const job = await queue.enqueue(request({ chatId: "a" }));
    for await (const event of queue.events({ chatId: "a" }, { after: 0, signal: AbortSignal.timeout(10_000) })) if (event !== "reset" && event.type === "job.retrying") break;
    expect(await queue.why(job.id)).toMatchObject({ reason: "backing_off", status: "pending" });
    await queue.drain();
    expect((await queue.why(job.id)).reasons).toEqual(["backing_off", "no_node"]);
  });
});
