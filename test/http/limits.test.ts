/** Every limit at its edge and one past it, and what is said of what is left. */
import { expect, test } from "vitest";
import { createStays } from "../../src/http/stays.js";
import { isOverloaded, measureLag } from "../../src/http/pressure.js";
import { createKeyRate, leftOf } from "../../src/http/rate.js";
import { issuesMax } from "../../src/errors.js";
import { limits, readSettings } from "../../src/options.js";
import { systemClock } from "../../src/clock.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { controlledQueue, listening, openStream, request, server } from "./support.js";
import { EventEmitter, once } from "node:events";
import type { ServerResponse } from "node:http";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { Worker } from "node:worker_threads";

const url = "/api/builds";
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const rate = (text: string) => readSettings({ BUILDLANE_KEY_RATE_LIMIT: text }).keyRateLimit;

test("a chat's rate: the last that fits, the first that does not, and what is left of it", async () => {
  await using control = await controlledQueue({ rateLimit: "3/minute" });
  await using app = await server(control.queue);
  const submit = (chatId: string) => app.inject({ method: "POST", url, payload: request({ chatId }) });
  const seen = [];
  for (let count = 0; count < 4; count++) seen.push(await submit("a"));
  expect(seen.map(({ statusCode }) => statusCode)).toEqual([202, 202, 202, 429]);
  expect(seen.map(({ headers }) => headers["ratelimit-policy"])).toEqual(Array(4).fill('"chat";q=3;w=60'));
  const left = seen.map(({ headers }) => /^"chat";r=(\d+);t=(\d+)$/.exec(String(headers.ratelimit))?.slice(1).map(Number));
  expect(left.map((one) => one?.[0])).toEqual([2, 1, 0, 0]);
  expect(left[3]?.[1]).toBeGreaterThan(55);
  // One token comes back every 20 s, and that is when to try again.
  const retryAfter = Number(seen[3]?.headers["retry-after"]);
  expect([retryAfter > 15, retryAfter <= 20, seen[3]?.json().code]).toEqual([true, true, "rate_limited"]);
  expect((await submit("b")).statusCode).toBe(202);
});

test("a key's rate counts jobs over chats and batches, for each key apart", async () => {
  await using control = await controlledQueue();
  const [one, other] = [await control.queue.keys.create({}), await control.queue.keys.create({})];
  await using app = await server(control.queue, { keyRateLimit: rate("3/hour") });
  const batch = (key: string, count: number) => app.inject({ method: "POST", url: `${url}/batch`, headers: bearer(key), payload: { jobs: Array.from({ length: count }, (_, index) => request({ chatId: `c${index}` })) } });
  expect((await batch(one.key, 4)).json()).toMatchObject({ statusCode: 422, code: "batch_too_large" });
  const two = await batch(one.key, 2);
  expect([two.statusCode, two.headers["ratelimit-policy"], two.headers.ratelimit]).toEqual([202, '"key";q=3;w=3600', expect.stringMatching(/^"key";r=1;t=2400$/)]);
  const refused = await batch(one.key, 2);
  expect([refused.statusCode, refused.json().code, refused.headers["retry-after"]]).toEqual([429, "rate_limited", "1200"]);
  expect((await batch(one.key, 1)).statusCode).toBe(202);
  expect((await batch(other.key, 3)).statusCode).toBe(202);
});

test("wrong keys of an address: the last that is looked at, the one past it, when to come back; what was right lately passes, and other addresses do", async () => {
  const clock = createSimulatedClock({ startMs: 1_800_000_000_000 });
  await using control = await controlledQueue();
  const [known, fresh] = [await control.queue.keys.create({}), await control.queue.keys.create({})];
  await using app = await server(control.queue, { clock, keyFailureLimit: rate("3/minute") });
  const ask = (key: string, remoteAddress = "10.0.0.1", path = "/stats") => app.inject({ url: `${url}${path}`, headers: bearer(key), remoteAddress });
  const status = async (...args: Parameters<typeof ask>) => (await ask(...args)).statusCode;
  expect(await status(known.key)).toBe(200);
  // A malformed key, a forged token and a key of nobody: all are failures. No key at all, and lacking rights, are not.
  for (const path of ["/stats", "/chat/c"]) expect((await app.inject({ url: `${url}${path}`, remoteAddress: "10.0.0.1" })).statusCode).toBe(401);
  expect((await ask(known.key, "10.0.0.1", "/audit")).json().code).toBe("forbidden");
  expect([await status("nobody"), await status("blc_forged.token", "10.0.0.1", "/chat/c"), await status(`${known.key.slice(0, -1)}_`)]).toEqual([401, 401, 401]);
  const refused = await ask("nobody");
  expect([refused.statusCode, refused.json().code, refused.headers["retry-after"]]).toEqual([429, "rate_limited", "20"]);
  expect([await status(fresh.key), await status(known.key), await status(fresh.key, "10.0.0.2")]).toEqual([429, 200, 200]);
  // Right from another address: it passes from this one now, too.
  expect(await status(fresh.key)).toBe(200);
  expect((await app.inject({ url: `${url}/stats`, remoteAddress: "10.0.0.1" })).statusCode).toBe(401);
  await clock.advance(20_000);
  expect([await status("nobody"), await status("nobody")]).toEqual([401, 429]);
});

test("without limits nothing is said of them", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const { headers } = await app.inject({ method: "POST", url, payload: request() });
  expect([headers.ratelimit, headers["ratelimit-policy"]]).toEqual([undefined, undefined]);
});

test("what is left is right at every edge", async () => {
  const shape = { text: "", burst: 10, intervalMs: 100 };
  expect([0, 1, 100, 101, 999, 1000, 5000, -5].map((aheadMs) => leftOf(shape, aheadMs).remaining)).toEqual([10, 9, 9, 8, 0, 0, 0, 10]);
  const clock = createSimulatedClock({ startMs: 0 });
  const keys = createKeyRate(shape, clock);
  expect([keys.take("a", 10), keys.take("a", 1)]).toEqual([null, 100]);
  await clock.advance(99);
  expect(keys.take("a", 1)).toBe(1);
  await clock.advance(1);
  expect([keys.take("a", 1), keys.take("b", 10)]).toEqual([null, null]);
  // However many callers there are, ten thousand are remembered: the first is forgotten by then.
  for (let caller = 0; caller < 10_000; caller++) keys.take(`c${caller}`, 1);
  expect([keys.waitMs("b"), keys.aheadMs("c9999")]).toEqual([null, 100]);
});

test("a chat's pending jobs: the last that fits, the first that does not, and when to come back", async () => {
  await using control = await controlledQueue({ maxPendingPerChat: 2 });
  await using app = await server(control.queue);
  await control.queue.pause();
  const submit = async () => (await app.inject({ method: "POST", url, payload: request() }));
  expect([(await submit()).statusCode, (await submit()).statusCode]).toEqual([202, 202]);
  const refused = await submit();
  expect([refused.statusCode, refused.json().code, Number(refused.headers["retry-after"]) >= 1]).toEqual([429, "chat_queue_full", true]);
});

test("the queue's pending jobs: the last that fits, the first that does not", async () => {
  await using control = await controlledQueue({ maxPending: 2 });
  await using app = await server(control.queue);
  await control.queue.pause();
  const submit = (chatId: string) => app.inject({ method: "POST", url, payload: request({ chatId }) });
  expect([(await submit("a")).statusCode, (await submit("b")).statusCode]).toEqual([202, 202]);
  const refused = await submit("c");
  expect([refused.statusCode, refused.json().code, Number(refused.headers["retry-after"]) >= 1]).toEqual([503, "queue_full", true]);
});

test("pages: the largest is answered, one more is refused", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  for (const path of ["", "/dead-letters", "/chat/c", "/audit"]) {
    const status = async (limit: number) => (await app.inject(`${url}${path}?limit=${limit}`)).statusCode;
    expect([path, await status(limits.listLimitMax), await status(limits.listLimitMax + 1), await status(0)]).toEqual([path, 200, 400, 400]);
  }
});

test("a batch: the largest is taken, one more is refused", async () => {
  await using control = await controlledQueue({ maxPendingPerChat: 5000 });
  await using app = await server(control.queue);
  await control.queue.pause();
  const batch = async (count: number) => (await app.inject({ method: "POST", url: `${url}/batch`, payload: { jobs: Array.from({ length: count }, () => request()) } })).statusCode;
  expect([await batch(limits.batchJobsMax), await batch(limits.batchJobsMax + 1)]).toEqual([202, 422]);
});

test("streams: those of one caller and those of all, the last that fits and the first that does not", () => {
  const stays = createStays(3, systemClock, 2);
  const response = () => new EventEmitter() as ServerResponse;
  const mine = [stays.enter(response(), "k"), stays.enter(response(), "k"), stays.enter(response(), "k")];
  expect(mine.map((stay) => stay !== null)).toEqual([true, true, false]);
  expect([stays.enter(response(), "other"), stays.enter(response())].map((stay) => stay !== null)).toEqual([true, false]);
  mine[0]?.leave();
  mine[0]?.leave();
  expect([stays.enter(response(), "k"), stays.enter(response(), "k")].map((stay) => stay !== null)).toEqual([true, false]);
});

test("two hundred streams of one key are open at once, inspection's among them, and one past the limit of either kind is told to come back", async () => {
  await using control = await controlledQueue({ inspect: true });
  const { key } = await control.queue.keys.create({ scopes: ["admin"] });
  await using app = await server(control.queue);
  const base = await listening(app);
  const streams = await Promise.all(Array.from({ length: limits.streamsPerKeyMax }, (_, index) => openStream(`${base}${url}/${index === 0 ? "inspect" : "chat/c/events"}`, bearer(key))));
  expect(new Set(streams.map(({ response }) => response.status))).toEqual(new Set([200]));
  expect(limits.streamsPerKeyMax).toBeGreaterThanOrEqual(200);
  for (const path of ["chat/c/events", "inspect"]) {
    const refused = await fetch(`${base}${url}/${path}`, { headers: bearer(key) });
    expect([refused.status, (await refused.json() as { code: string }).code, refused.headers.get("retry-after")]).toEqual([429, "too_many_streams", "5"]);
  }
  for (const stream of streams) stream.close();
});

test("a lagging event loop turns submissions away and nothing else", async () => {
  expect([isOverloaded(2000, 2000), isOverloaded(2000.1, 2000), isOverloaded(1e9, 0)]).toEqual([false, true, false]);
  await using control = await controlledQueue();
  await using app = await server(control.queue, { maxLoopDelayMs: 2000 });
  // The sampler's own figure, set by hand: blocking the loop here would block every test beside.
  let lagMs = 2000;
  app.loopLagMs = () => lagMs;
  const status = async () => [(await app.inject({ method: "POST", url, payload: request() })).statusCode, (await app.inject(`${url}/stats`)).statusCode, (await app.inject("/livez")).statusCode];
  expect(await status()).toEqual([202, 200, 200]);
  lagMs = 2001;
  expect(await status()).toEqual([503, 200, 200]);
  const refused = await app.inject({ method: "POST", url, payload: request() });
  expect([refused.json().code, refused.headers["retry-after"]]).toEqual(["overloaded", "2"]);
});

test("the lag of the event loop is measured while somebody asks, and for a moment after", async () => {
  let now = 0;
  let rest: (() => void) | null = null;
  const lag = measureLag({ monotonic: () => now, after: (_delayMs, callback) => ((rest = callback), { cancel: () => (rest = null) }) });
  expect(lag.lagMs()).toBe(0);
  await turns();
  for (const from = performance.now(); performance.now() - from < 150; );
  await turns();
  expect(lag.lagMs()).toBe(0);
  now = 1000;
  expect(lag.lagMs()).toBeGreaterThan(10);
  const ending = rest as (() => void) | null;
  now = 6000;
  ending?.();
  // Nobody has asked for long: it rests, and begins anew with the next who does.
  expect(rest).toBeNull();
  expect(lag.lagMs()).toBe(0);
  expect(rest).not.toBeNull();
  lag.stop();
  expect(rest).toBeNull();
});
/** The sampler is the runtime's own and fires by the real clock: a few times. */
const turns = async () => {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setTimeout(resolve, 25));
};

test("every answer carries helmet's headers and no cookie, errors too; the docs keep a policy of their own", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  for (const path of [`${url}/stats`, `${url}/nope`, "/nowhere", "/livez", "/metrics", "/openapi.json"]) {
    const { headers } = await app.inject(path);
    expect(headers).toMatchObject({
      "content-security-policy": expect.stringContaining("default-src 'none'"), "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
      "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    });
    expect([headers["set-cookie"], headers["access-control-allow-origin"], headers["x-powered-by"]]).toEqual([undefined, undefined, undefined]);
  }
  expect((await app.inject("/docs/")).headers["content-security-policy"]).toContain("default-src 'self'");
});

test("no other origin is let in unless it is named; then it reads, submits and sees the headers that matter", async () => {
  await using control = await controlledQueue();
  const origin = "https://app.example";
  const preflight = { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" };
  await using closed = await server(control.queue);
  expect((await closed.inject({ method: "OPTIONS", url, headers: preflight })).headers["access-control-allow-origin"]).toBeUndefined();
  expect((await closed.inject({ method: "POST", url, headers: { origin, "sec-fetch-site": "cross-site" }, payload: request() })).statusCode).toBe(403);

  await using open = await server(control.queue, { corsOrigins: readSettings({ BUILDLANE_CORS_ORIGINS: origin }).corsOrigins });
  const asked = await open.inject({ method: "OPTIONS", url, headers: preflight });
  expect([asked.statusCode, asked.headers["access-control-allow-origin"], asked.headers["access-control-allow-credentials"]]).toEqual([204, origin, undefined]);
  const answered = await open.inject({ method: "POST", url, headers: { origin, "sec-fetch-site": "cross-site" }, payload: request() });
  expect([answered.statusCode, answered.headers["access-control-allow-origin"], String(answered.headers["access-control-expose-headers"])]).toEqual([202, origin, expect.stringContaining("ratelimit")]);
  const other = await open.inject({ method: "POST", url, headers: { origin: "https://evil.example", "sec-fetch-site": "cross-site" }, payload: request() });
  expect([other.statusCode, other.headers["access-control-allow-origin"]]).toEqual([403, undefined]);
  for (const bad of ["*", "https://a.example/path", "a.example", ""]) if (bad) expect(() => readSettings({ BUILDLANE_CORS_ORIGINS: bad })).toThrow(/BUILDLANE_CORS_ORIGINS/);
});

const unknown = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 1]));
const overflowing = [
  ["POST", "", (count: number) => request(unknown(count)), ""],
  ["POST", "", (count: number) => request({ options: unknown(count) }), "/options"],
  ["POST", "/batch", (count: number) => ({ jobs: [request()], ...unknown(count) }), ""],
  ["POST", "/batch", (count: number) => ({ jobs: [request(unknown(count))] }), "/jobs/0"],
  ["POST", "/pause", unknown, ""],
  ["PUT", "/chat/c/policy", unknown, ""],
  ["POST", "/dead-letters/redrive", (count: number) => ({ filter: unknown(count) }), "/filter"],
] as const;
test.each(overflowing)("%s %s tells what is wrong in as many places as are told, and in one more says how many there are", async (method, path, body, at) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const issuesFor = async (count: number) => (await app.inject({ method, url: url + path, payload: body(count) })).json().issues as { path: string; message: string }[];
  expect((await issuesFor(issuesMax)).map((issue) => issue.path)).toEqual(Array.from({ length: issuesMax }, (_, index) => `${at}/k${index}`));
  const [over, many] = [await issuesFor(issuesMax + 1), await issuesFor(20_000)];
  expect([over.length, over.at(-1)]).toEqual([issuesMax + 1, { path: "", message: "And 1 more." }]);
  expect([many.length, many.at(-1)]).toEqual([issuesMax + 1, { path: "", message: `And ${20_000 - issuesMax} more.` }]);
});

test("a name that is long is cut where it is told", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, payload: request({ ["k".repeat(1_000_000)]: 1 }) });
  expect([answer.json().issues[0].path, answer.body.length < 2000]).toEqual([`/${"k".repeat(200)}…`, true]);
});

test("whoever sends a body that is refused before it is read hears why, also while still sending", async () => {
  await using control = await controlledQueue();
  const { key } = await control.queue.keys.create({});
  // However slow this machine is: by this clock the two seconds never pass.
  await using app = await server(control.queue, { clock: createSimulatedClock() });
  const address = (await listening(app)) + url;
  // Of a thread of its own: one that shares ours sends nothing while we answer.
  const sender = new Worker(
    `const { parentPort, workerData: { address, keys } } = require("node:worker_threads");
    const body = Buffer.alloc(12e6, "x");
    const send = (key) => fetch(address, { method: "POST", headers: { authorization: "Bearer " + key, "content-type": "application/json" }, body });
    (async () => {
      const heard = [];
      for (const key of keys) heard.push(await send(key).then((answer) => answer.json()).then(({ code }) => code, (error) => error.cause?.code ?? error.message));
      parentPort.postMessage(heard);
    })();`,
    { eval: true, workerData: { address, keys: [...Array<string>(4).fill(key), "wrong"] } },
  );
  const [heard] = (await once(sender, "message")) as [string[]];
  await sender.terminate();
  expect(heard).toEqual([...Array<string>(4).fill("payload_too_large"), "unauthorized"]);
});

test("what is refused before its body was read is read on for twice the largest body or two seconds, then cut; what is whole by then may be followed by more", async () => {
  const clock = createSimulatedClock();
  await using control = await controlledQueue({ maxBodyBytes: 100_000 });
  const { key } = await control.queue.keys.create({});
  await using app = await server(control.queue, { clock });
  const { hostname: host, port } = new URL(await listening(app));
  const open = async () => {
    const accepted = once(app.server, "connection") as Promise<[Socket]>;
    const socket = connect(Number(port), host).on("error", () => {});
    const [theirs] = await accepted;
    let text = "";
    socket.on("data", (chunk) => void (text += String(chunk)));
    return {
      socket, theirs,
      heard: async (what: string) => {
        while (!text.includes(what)) await once(socket, "data");
      },
      closed: new Promise((resolve) => theirs.once("close", resolve)),
    };
  };
  const head = (length: string, authorization = `Bearer ${key}`) => `POST ${url} HTTP/1.1\r\nhost: localhost\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\n${length}\r\n\r\n`;

  for (const authorization of [`Bearer ${key}`, "Bearer wrong"]) {
    const endless = await open();
    endless.socket.write(head("transfer-encoding: chunked", authorization));
    const chunk = `${(10_000).toString(16)}\r\n${"x".repeat(10_000)}\r\n`;
    const send = (): void => void (endless.socket.destroyed || endless.socket.write(chunk, () => setImmediate(send)));
    send();
    await endless.closed;
    // What was read until it was too large, that again twice, and what came with the last of it.
    expect([authorization, endless.theirs.bytesRead > 200_000, endless.theirs.bytesRead < 600_000]).toEqual([authorization, true, true]);
    endless.socket.destroy();
  }

  const silent = await open();
  silent.socket.write(`${head("content-length: 150000")}x`);
  await silent.heard("payload_too_large");
  await clock.advance(1999);
  expect(silent.theirs.destroyed).toBe(false);
  await clock.advance(1);
  await silent.closed;

  const polite = await open();
  polite.socket.write(`${head("content-length: 1000", "Bearer wrong")}x`);
  await polite.heard("unauthorized");
  polite.socket.write(`${"x".repeat(999)}GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  await polite.heard("HTTP/1.1 200");
  polite.socket.destroy();
});
