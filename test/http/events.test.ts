/** Server-sent events of a job and of a chat: numbered, live, resumable, and cut off for who does not read. */
import type { ServerResponse } from "node:http";
import { connect } from "node:net";
import Fastify from "fastify";
import { expect, test } from "vitest";
import { createClient } from "../../src/client/index.js";
import { systemClock } from "../../src/clock.js";
import { createKeys } from "../../src/keys.js";
import { buildRoutes } from "../../src/fastify.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/testing.js";
import { controlledQueue, listening, openStream, request, server, storeWithOutages } from "./support.js";

const base = "/api/builds";
async function open(options: Parameters<typeof controlledQueue>[0] = {}, serverOptions: Parameters<typeof server>[1] = {}) {
  const control = await controlledQueue(options);
  const app = await server(control.queue, serverOptions);
  const url = (await listening(app)) + base;
  return {
    control, app, url,
    submit: async (fields: Record<string, unknown> = {}) => (await control.queue.enqueue(request(fields) as never)).id,
    async [Symbol.asyncDispose]() {
      control.release();
      await app.close();
      await control.queue.stop();
    },
  };
}
const types = (events: { event?: string }[]) => events.map(({ event }) => event);
const numbers = (events: { id?: string }[]) => events.map(({ id }) => Number(id));

test("a job's stream tells everything from its first event to its last, and ends", async () => {
  await using api = await open();
  const id = await api.submit({ code: "hold" });
  await using stream = await openStream(`${api.url}/${id}/events`);
  expect(stream.response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const first = await stream.events(2);
  expect(types(first)).toEqual(["job.accepted", "job.started"]);
  expect(first[0]?.data).toMatchObject({ jobId: id, chatId: "chat1", chatSeq: 1, status: "pending", attempt: 0, at: expect.stringMatching(/Z$/) });
  api.control.release();
  expect(types(await stream.events())).toEqual(["job.completed"]);
  // A browser comes back by itself: nothing is left, and 204 tells it to stop.
  expect((await fetch(`${api.url}/${id}/events`, { headers: { "last-event-id": "3" } })).status).toBe(204);
  await using again = await openStream(`${api.url}/${id}/events`, { "last-event-id": "1" });
  expect(numbers(await again.events())).toEqual([2, 3]);
});

test("the end of a job that failed says why as the job does: failure.code tells a cancelled one from a superseded one", async () => {
  await using api = await open();
  await api.control.queue.pause();
  const cancelled = await api.submit({ messageId: "m1" });
  await api.control.queue.cancel(cancelled);
  const superseded = await api.submit({ messageId: "m2" });
  await api.submit({ messageId: "m3", supersede: "pending" });
  for (const [id, code, message] of [[cancelled, "cancelled", "Cancelled before it ran."], [superseded, "superseded", "Superseded by a newer job of its chat."]] as const) {
    await using stream = await openStream(`${api.url}/${id}/events`);
    expect((await stream.events()).at(-1)).toMatchObject({ event: "job.failed", data: { failureCode: code, failure: { code, message } } });
    expect((await api.control.queue.get(id)).failure).toMatchObject({ code, message });
  }
});

test("a chat's stream goes on without a gap wherever it was cut, by header or by query", async () => {
  await using api = await open();
  for (const messageId of ["m1", "m2"]) await api.control.queue.waitFor(await api.submit({ messageId }));
  for (let cut = 0; cut < 6; cut++) {
    await using byHeader = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": String(cut) });
    await using byQuery = await openStream(`${api.url}/chat/chat1/events?after=${cut}`);
    const rest = Array.from({ length: 6 - cut }, (_, index) => cut + index + 1);
    expect([numbers(await byHeader.events(6 - cut)), numbers(await byQuery.events(6 - cut))]).toEqual([rest, rest]);
  }
});

test("without a number a chat's stream starts at its oldest unfinished job, else now", async () => {
  await using api = await open();
  await api.control.queue.waitFor(await api.submit());
  await using quiet = await openStream(`${api.url}/chat/chat1/events`);
  // Its head has been read when this comes.
  expect((await quiet.next())?.retry).toBe("2000");
  await api.submit({ code: "hold" });
  expect((await quiet.events(1))[0]).toMatchObject({ id: "4", event: "job.accepted" });
  await using late = await openStream(`${api.url}/chat/chat1/events`);
  expect((await late.events(1))[0]).toMatchObject({ id: "4", event: "job.accepted" });
});

test("who asks for events that were removed, or for none that ever was, is told to start over", async () => {
  const store = createMemoryStore();
  await using api = await open({ store });
  for (const messageId of ["m1", "m2", "m3"]) {
    await api.control.queue.waitFor(await api.submit({ messageId }));
    // What ended in one millisecond is pruned in no order.
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await store.prune({ ageMs: 1e9, count: 1, idempotencyMs: 1e9, batch: 100 });
  await using old = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": "2" });
  const [reset, next] = await old.events(2);
  expect([reset?.event, reset?.id, next?.id]).toEqual(["reset", undefined, "7"]);
  await using strange = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": "yesterday" });
  expect(types(await strange.events(1))).toEqual(["reset"]);
});

test("who asks for what follows a number that no event has yet, as after a restore, is told to start over, and hears what comes", async () => {
  await using api = await open();
  await api.control.queue.waitFor(await api.submit());
  await using ahead = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": "999999" });
  await using newborn = await openStream(`${api.url}/chat/chat2/events?after=7`);
  await using level = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": "3" });
  for (const stream of [ahead, newborn]) expect(await stream.events(1)).toEqual([{ event: "reset", data: expect.anything() }]);
  for (const chatId of ["chat1", "chat2"]) await api.submit({ chatId, code: "hold" });
  expect([numbers(await ahead.events(2)), numbers(await level.events(2)), numbers(await newborn.events(2))]).toEqual([[4, 5], [4, 5], [1, 2]]);
});

test("a silent stream has a heartbeat every 15 s", async () => {
  const clock = createSimulatedClock();
  await using api = await open({}, { clock });
  await using stream = await openStream(`${api.url}/chat/quiet/events`);
  expect((await stream.next())?.retry).toBe("2000");
  for (let beat = 0; beat < 2; beat++) {
    const next = stream.next();
    // Its own, and that of who may read it.
    while (clock.pendingTimers < 2) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(15_000);
    expect((await next)?.comment).toBe("heartbeat");
  }
});

test("a reader that takes nothing is dropped, and others hear on", async () => {
  const clock = createSimulatedClock();
  const store = createMemoryStore();
  await using api = await open({ store, maxPendingPerChat: 100_000, maxPending: 100_000 }, { clock });
  await api.control.queue.pause();
  // More than the kernel's buffers take of one connection.
  for (let batch = 0; batch < 40; batch++) await api.control.queue.enqueueMany(Array.from({ length: 1000 }, (_, index) => ({ chatId: "big", messageId: `m${index}`.padEnd(100, "x"), code: "1" })));
  let stalled: ServerResponse | undefined;
  api.app.server.on("request", ({ url }, response) => void (url?.includes("/chat/big/") && (stalled = response)));
  const { hostname, port } = new URL(api.url);
  const socket = connect(Number(port), hostname);
  socket.write(`GET ${base}/chat/big/events?after=0 HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
  socket.pause();
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => {}));
  await using reader = await openStream(`${api.url}/chat/other/events`);
  await reader.next();
  // The connection takes no more: the answer waits for its reader.
  while (!stalled?.writableNeedDrain) await new Promise((resolve) => setImmediate(resolve));
  await clock.advance(10_001);
  socket.resume();
  await closed;
  await api.submit({ chatId: "other" });
  expect((await reader.events(1))[0]).toMatchObject({ event: "job.accepted" });
});

test("a stream opened while the database is away is open and silent, and begins when it is back: a browser gives up for good at any answer but 200", async () => {
  const { store, isAway } = storeWithOutages();
  isAway(true);
  await using api = await open({ store });
  const [held, built] = [await api.submit({ code: "hold" }), await api.submit({ chatId: "other" })];
  await using ofHeld = await openStream(`${api.url}/${held}/events`);
  await using ofBuilt = await openStream(`${api.url}/${built}/events`, { "last-event-id": "1" });
  await using ofSeen = await openStream(`${api.url}/${built}/events`, { "last-event-id": "3" });
  await using ofChat = await openStream(`${api.url}/chat/chat1/events`, { "last-event-id": "yesterday" });
  await using ofAll = await openStream(`${api.url}/events`);
  await using ofNobody = await openStream(`${api.url}/none/events`);
  for (const stream of [ofHeld, ofBuilt, ofSeen, ofChat, ofAll, ofNobody]) {
    expect([stream.response.status, stream.response.headers.get("content-type")]).toEqual([200, "text/event-stream; charset=utf-8"]);
    expect((await stream.next())?.retry).toBe("2000");
  }
  const client = createClient({ url: new URL(api.url).origin });
  const waiting = Promise.all([client.waitFor(built), expect(client.waitFor("none")).rejects.toMatchObject({ code: "job_not_found" })]);
  isAway(false);
  expect(types(await ofHeld.events(2))).toEqual(["job.accepted", "job.started"]);
  expect(numbers(await ofBuilt.events())).toEqual([2, 3]);
  expect(types(await ofChat.events(2))).toEqual(["reset", "job.accepted"]);
  expect(types(await ofAll.events(1))).toEqual(["reset"]);
  api.control.release();
  expect(types(await ofHeld.events())).toEqual(["job.completed"]);
  // Nothing is left to tell, or nobody to tell of: the stream ends, and who comes back hears which it was.
  expect([await ofSeen.events(), await ofNobody.events()]).toEqual([[], []]);
  expect((await fetch(`${api.url}/${built}/events`, { headers: { "last-event-id": "3" } })).status).toBe(204);
  expect((await waiting)[0]).toMatchObject({ id: built, status: "completed" });
  expect(await (await fetch(`${api.url}/none/events`)).json()).toMatchObject({ statusCode: 404, code: "job_not_found" });
});

test("while the database is away a stream still is refused for what needs no database, and for a key that cannot be looked up", async () => {
  const { store, isAway } = storeWithOutages();
  isAway(true);
  await using api = await open({ store });
  const status = async (path: string, headers: Record<string, string> = {}) => {
    await using stream = await openStream(api.url + path, headers);
    return [stream.response.status, stream.response.headers.get("retry-after")];
  };
  expect(await status("/chat/chat1/events?after=-1")).toEqual([400, null]);
  expect(await status("/chat/chat1/events", { accept: "application/json" })).toEqual([406, null]);
  const { key } = await createKeys({ store: createMemoryStore().access, clock: systemClock }).create({});
  expect(await status("/chat/chat1/events", { authorization: `Bearer ${key}` })).toEqual([503, "1"]);
});

test("a stream that was opened before anybody could say whether it needs a key tells nothing when it does", async () => {
  const { store, isAway } = storeWithOutages();
  isAway(true);
  await using api = await open({ store });
  const id = await api.submit();
  await using stream = await openStream(`${api.url}/${id}/events`);
  expect([stream.response.status, (await stream.next())?.retry]).toEqual([200, "2000"]);
  await createKeys({ store: store.access, clock: systemClock }).create({});
  isAway(false);
  expect(await stream.events()).toEqual([]);
  expect((await fetch(`${api.url}/${id}/events`)).status).toBe(401);
});

test("streams that wait for the database count, have their heartbeats, and end with the server at once, or when the queue goes away", async () => {
  const { store, isAway } = storeWithOutages();
  isAway(true);
  const clock = createSimulatedClock();
  await using control = await controlledQueue({ store });
  const app = Fastify();
  await app.register(buildRoutes, { queue: control.queue, prefix: base, streamsMax: 2, clock });
  const url = `${await listening(app)}${base}/none/events`;
  const asleep = async (streams: number) => {
    // Each waits for its heartbeat, and for its next try.
    while (clock.pendingTimers < 2 * streams) await new Promise((resolve) => setImmediate(resolve));
  };
  const opened = async () => {
    const stream = await openStream(url);
    expect([stream.response.status, (await stream.next())?.retry]).toEqual([200, "2000"]);
    return stream;
  };
  const [one, two] = [await opened(), await opened()];
  expect((await fetch(url)).status).toBe(429);
  const beats = [one.next(), two.next()];
  for (let second = 0; second < 15; second++) {
    await asleep(2);
    await clock.advance(1000);
  }
  expect((await Promise.all(beats)).map((beat) => beat?.comment)).toEqual(["heartbeat", "heartbeat"]);
  const ended = one.events();
  two.close();
  await asleep(1);
  await app.close();
  expect(await ended).toEqual([]);
  expect(clock.pendingTimers).toBe(0);

  const again = Fastify();
  await again.register(buildRoutes, { queue: control.queue, prefix: base, clock });
  await using stream = await openStream(`${await listening(again)}${base}/none/events`);
  const end = stream.events();
  await asleep(1);
  await control.queue.drain();
  await clock.advance(1000);
  expect(await end).toEqual([]);
  await again.close();
});

test("a client that waits rides out refusals of the service and of what stands before it, and is told at once that nobody is there", async () => {
  const { store, isAway } = storeWithOutages();
  await using api = await open({ store });
  const id = await api.submit();
  // Whoever sends a key that cannot be looked up is refused, and may come back.
  const { key: apiKey } = await createKeys({ store: store.access, clock: systemClock }).create({});
  const calls = ["away", "there", "gateway", "there", "away", "gateway", "there"];
  const client = createClient({
    url: new URL(api.url).origin, apiKey,
    fetch: async (address, init) => {
      const how = calls.shift();
      isAway(how === "away");
      return how === "gateway" ? new Response("<h1>Bad gateway</h1>", { status: 502 }) : fetch(address, init);
    },
  });
  const told: string[] = [];
  expect(await client.waitFor(id, { onEvent: ({ type }) => told.push(type) })).toMatchObject({ id, status: "completed" });
  expect([calls, told]).toEqual([[], ["job.accepted", "job.started", "job.completed"]]);
  await expect(client.waitFor("none")).rejects.toMatchObject({ code: "job_not_found" });
  await expect(createClient({ url: "http://127.0.0.1:1" }).waitFor(id)).rejects.toMatchObject({ code: "unreachable" });
  calls.push("gateway");
  await expect(client.waitFor(id)).rejects.toMatchObject({ code: "not_buildlane" });
});
