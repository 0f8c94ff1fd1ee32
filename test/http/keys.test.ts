/** Who may come in: keys with scopes, tenants, expiry and rotation; tokens for one chat; what operators did. */
import { expect, test } from "vitest";
import Fastify from "fastify";
import { createClient } from "../../src/client/index.js";
import { systemClock } from "../../src/clock.js";
import { createChatTokens } from "../../src/chat-tokens.js";
import { databaseUnavailable } from "../../src/errors.js";
import { buildRoutes } from "../../src/fastify.js";
import { createKeys, graceMsMax, keyId } from "../../src/keys.js";
import { readSettings } from "../../src/options.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/store/memory.js";
import { controlledQueue, listening, openStream, request, server, withFaults } from "./support.js";

/** A clock that stands still until told; keys are made of the real one's ids. */
const stillClock = () => Object.assign(Object.create(createSimulatedClock({ startMs: 1_800_000_000_000 })) as ReturnType<typeof createSimulatedClock>, { id: systemClock.id });
const url = "/api/builds";
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

async function keyed(options: Parameters<typeof server>[1] = {}) {
  const control = await controlledQueue();
  const admin = await control.queue.keys.create({ scopes: ["admin"], tenant: "*" });
  const app = await server(control.queue, options);
  return {
    ...control, app, admin: admin.key,
    keyFor: async (fields: Parameters<typeof control.queue.keys.create>[0]) => (await control.queue.keys.create(fields)).key,
    [Symbol.asyncDispose]: async () => {
      await app.close();
      await control.queue.stop();
    },
  };
}

test("without keys a loopback service asks for none; from the first key on it asks, and revoking the last does not open it again", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  expect((await app.inject({ method: "POST", url, payload: request() })).statusCode).toBe(202);
  const made = await app.inject({ method: "POST", url: `${url}/keys`, payload: { scopes: ["admin"] } });
  expect([made.statusCode, made.headers["cache-control"]]).toEqual([201, "no-store"]);
  const { key, id } = made.json().data;
  const refused = await app.inject(`${url}/stats`);
  expect([refused.statusCode, refused.json().code, refused.headers["www-authenticate"]]).toEqual([401, "unauthorized", "Bearer"]);
  expect((await app.inject({ url: `${url}/stats`, headers: bearer(key) })).statusCode).toBe(200);
  expect((await app.inject({ method: "POST", url: `${url}/keys/${id}/revoke`, headers: bearer(key) })).statusCode).toBe(200);
  for (const headers of [{}, bearer(key)]) expect((await app.inject({ url: `${url}/stats`, headers })).statusCode).toBe(401);
});

test("the first key is refused unless it may administer the service: from then on nobody could make another", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const make = (payload: object) => app.inject({ method: "POST", url: `${url}/keys`, payload });
  for (const payload of [{}, { scopes: ["submit", "read", "operate"] }, { scopes: ["admin"], tenant: "acme" }]) {
    const refused = await make(payload);
    expect([refused.statusCode, refused.json().code, refused.json().issues[0].path]).toEqual([400, "validation_failed", "/scopes"]);
    expect(refused.json().message).toContain("Make one with admin first");
  }
  expect((await app.inject(`${url}/stats`)).statusCode).toBe(200);
  const { key } = (await make({ scopes: ["admin"] })).json().data;
  const second = await app.inject({ method: "POST", url: `${url}/keys`, headers: bearer(key), payload: {} });
  expect([second.statusCode, second.json().data.scopes]).toEqual([201, ["submit", "read"]]);
});

test("a key of the wrong shape, with a wrong checksum, of nobody, or in another scheme is refused", async () => {
  await using it = await keyed();
  const wrong = it.admin.slice(0, -1) + (it.admin.endsWith("0") ? "1" : "0");
  await using elsewhere = await controlledQueue();
  const nobodys = (await elsewhere.queue.keys.create({})).key;
  for (const authorization of [`Bearer ${wrong}`, `Bearer ${nobodys}`, "Bearer x", "Bearer", `Basic ${it.admin}`, it.admin, `Bearer ${it.admin} ${it.admin}`])
    expect([authorization.slice(0, 10), (await it.app.inject({ url: `${url}/stats`, headers: { authorization } })).statusCode]).toEqual([authorization.slice(0, 10), 401]);
  expect([keyId(it.admin)?.length, keyId(wrong)]).toEqual([12, null]);
  // Never in the URL.
  expect((await it.app.inject(`${url}/stats?token=${it.admin}`)).statusCode).toBe(401);
});

test("only a key's hash is kept, and lists do not show it", async () => {
  await using it = await keyed();
  const answer = await it.app.inject({ url: `${url}/keys`, headers: bearer(it.admin) });
  expect(answer.json().data).toEqual([{ id: keyId(it.admin), name: "", tenant: "*", scopes: ["admin"], createdAt: expect.any(String), expiresAt: null, revokedAt: null }]);
  expect(answer.body).not.toContain(it.admin.slice(15));
});

test("an unauthenticated body is not read", async () => {
  await using it = await keyed({ maxBodyBytes: 2000 });
  const answer = await it.app.inject({ method: "POST", url, payload: request({ code: "x".repeat(5000) }) });
  expect(answer.json().code).toBe("unauthorized");
});

test("a key stops working when it expires", async () => {
  const clock = stillClock();
  const keys = createKeys({ store: createMemoryStore({ clock }).access, clock });
  const { key } = await keys.create({ expiresInMs: 60_000 });
  await clock.advance(59_000);
  expect(await keys.verify(key)).toMatchObject({ scopes: ["submit", "read"] });
  await clock.advance(1000);
  expect(await keys.verify(key)).toBeNull();
});

test("another node refuses a revoked key within two seconds", async () => {
  const clock = stillClock();
  const { access } = createMemoryStore({ clock });
  const [one, other] = [createKeys({ store: access, clock }), createKeys({ store: access, clock })];
  const { key, id } = await one.create({});
  expect(await other.verify(key)).not.toBeNull();
  await one.revoke("everyone", id);
  expect(await one.verify(key)).toBeNull();
  await clock.advance(2000);
  expect(await other.verify(key)).toBeNull();
});

test("rotation makes a key with the same rights, and the old one works on for the grace", async () => {
  const clock = stillClock();
  const keys = createKeys({ store: createMemoryStore({ clock }).access, clock });
  const old = await keys.create({ tenant: "acme", scopes: ["operate"], name: "ci" });
  const fresh = await keys.rotate({ tenant: "acme" }, old.id, 60_000);
  expect(fresh).toMatchObject({ tenant: "acme", scopes: ["operate"], name: "ci" });
  expect([await keys.verify(old.key), await keys.verify(fresh.key)].map((found) => found !== null)).toEqual([true, true]);
  await clock.advance(60_000);
  expect([await keys.verify(old.key), await keys.verify(fresh.key)].map((found) => found !== null)).toEqual([false, true]);
  await expect(keys.rotate("everyone", old.id, 0)).rejects.toMatchObject({ code: "key_not_found" });
  for (const graceMs of [-1, graceMsMax + 1, Number.NaN, Number.POSITIVE_INFINITY]) await expect(keys.rotate("everyone", fresh.id, graceMs)).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/graceMs" }] });
  await expect(keys.revoke({ tenant: "other" }, fresh.id)).rejects.toMatchObject({ code: "key_not_found" });
});

test("a tenant's admin makes and sees that tenant's keys only", async () => {
  await using it = await keyed();
  const headers = bearer(await it.keyFor({ tenant: "acme", scopes: ["admin"] }));
  const made = await it.app.inject({ method: "POST", url: `${url}/keys`, headers, payload: { scopes: ["read"] } });
  expect(made.json().data).toMatchObject({ tenant: "acme" });
  for (const tenant of ["", "*", "other"]) {
    const answer = await it.app.inject({ method: "POST", url: `${url}/keys`, headers, payload: { tenant } });
    expect([answer.statusCode, answer.json().code]).toEqual([403, "forbidden"]);
  }
  expect((await it.app.inject({ url: `${url}/keys`, headers })).json().data.map(({ tenant }: { tenant: string }) => tenant)).toEqual(["acme", "acme"]);
  expect((await it.app.inject({ method: "POST", url: `${url}/keys/${keyId(it.admin)}/revoke`, headers })).json().code).toBe("key_not_found");
  for (const action of ["pause", "resume"]) expect((await it.app.inject({ method: "POST", url: `${url}/${action}`, headers })).statusCode).toBe(403);
});

test("keys of the settings work as they say", async () => {
  const { apiKeys } = readSettings({ BUILDLANE_API_KEYS: "plain-key-0123456789,reader-key-0123456:acme:read" });
  await using control = await controlledQueue();
  await using app = await server(control.queue, { apiKeys });
  const status = async (key: string, method: "GET" | "POST", path: string) => (await app.inject({ method, url: url + path, headers: bearer(key), ...(path === "" ? { payload: request() } : {}) })).statusCode;
  expect((await app.inject(`${url}/stats`)).statusCode).toBe(401);
  expect([await status("plain-key-0123456789", "POST", ""), await status("plain-key-0123456789", "POST", "/pause"), await status("plain-key-0123456789", "GET", "/keys")]).toEqual([202, 200, 200]);
  expect([await status("reader-key-0123456", "GET", "/stats"), await status("reader-key-0123456", "POST", "")]).toEqual([200, 403]);
  expect(() => readSettings({ BUILDLANE_API_KEYS: "short" })).toThrow(/BUILDLANE_API_KEYS.*16/);
  expect(() => readSettings({ BUILDLANE_API_KEYS: "secret-canary-1:acme:fly" })).toThrow(/^(?!.*secret-canary)/);
});

test("a chat's token opens that chat and its jobs, to be read and followed, and nothing else", async () => {
  await using it = await keyed();
  const key = await it.keyFor({ tenant: "acme", scopes: ["submit", "read", "operate"] });
  const acme = it.queue.forTenant("acme");
  const { id } = await acme.enqueue(request() as never);
  const other = await acme.enqueue(request({ chatId: "chat2" }) as never);
  const foreign = await it.queue.forTenant("other").enqueue(request() as never);
  await acme.waitFor(id);
  const made = await it.app.inject({ method: "POST", url: `${url}/chat/chat1/token`, headers: bearer(key) });
  const { token, expiresAt } = made.json().data;
  expect([made.statusCode, Date.parse(expiresAt) > Date.now() + 14 * 60_000]).toEqual([201, true]);

  const get = async (path: string) => (await it.app.inject({ url: url + path, headers: bearer(token) })).statusCode;
  expect(await Promise.all([`/chat/chat1`, `/${id}`, `/${id}/output`].map(get))).toEqual([200, 200, 200]);
  expect((await it.app.inject(`${url}/${id}?token=${token}`)).json().data).toMatchObject({ id, chatId: "chat1", tenant: "acme" });
  expect((await it.app.inject({ url: `${url}/chat/chat1`, headers: bearer(token) })).json().data.completed).toHaveLength(1);
  expect(await Promise.all([`/${other.id}`, `/${foreign.id}`, `/${other.id}/events`, `/${foreign.id}/output`].map(get))).toEqual([404, 404, 404, 404]);
  expect(await Promise.all(["/chat/chat2", "/chat/chat2/events"].map(get))).toEqual([403, 403]);
  expect(await Promise.all(["", "/stats", "/events", "/dead-letters", "/keys", "/audit", `/${id}/why`, "/lanes"].map(get))).toEqual(Array(8).fill(401));
  for (const path of ["", `/${id}/cancel`, `/${id}/retry`, "/chat/chat1/pause", "/chat/chat1/token"]) expect((await it.app.inject({ method: "POST", url: url + path, headers: bearer(token) })).statusCode).toBe(401);
  const tampered = token.slice(0, 10) + (token[10] === "A" ? "B" : "A") + token.slice(11);
  expect((await it.app.inject({ url: `${url}/chat/chat1`, headers: bearer(tampered) })).statusCode).toBe(401);

  const base = await listening(it.app as never);
  await using stream = await openStream(`${base}${url}/chat/chat1/events?after=0&token=${token}`);
  expect((await stream.events(3)).map(({ event }) => event)).toEqual(["job.accepted", "job.started", "job.completed"]);
  await using ofJob = await openStream(`${base}${url}/${id}/events?token=${token}`);
  expect((await ofJob.events()).map(({ event }) => event)).toEqual(["job.accepted", "job.started", "job.completed"]);
});

test("a token expires, and every node knows every token", async () => {
  const clock = stillClock();
  const { access } = createMemoryStore({ clock });
  const [one, other] = [createChatTokens({ store: access, clock }), createChatTokens({ store: access, clock })];
  const { token } = await one.issue({ tenant: "acme", chatId: "c", expiresInMs: 1000 });
  expect(await other.verify(token)).toMatchObject({ tenant: "acme", chatId: "c" });
  await clock.advance(1000);
  expect(await other.verify(token)).toBeNull();
  await expect(one.issue({ chatId: "c", expiresInMs: 25 * 3_600_000 })).rejects.toMatchObject({ code: "validation_failed" });
  const stranger = createChatTokens({ store: createMemoryStore({ clock }).access, clock });
  expect(await stranger.verify((await one.issue({ chatId: "c" })).token)).toBeNull();
});

test("streams end within five seconds of their key's revocation, those without a key of the first key's making, and who comes back hears why", async () => {
  const clock = stillClock();
  await using control = await controlledQueue({ inspect: true });
  await using app = await server(control.queue, { clock });
  const base = (await listening(app)) + url;
  await using keyless = await openStream(`${base}/events`);
  expect((await keyless.events(1))[0]?.event).toBe("reset");
  const { key, id } = await control.queue.keys.create({ scopes: ["admin"], tenant: "*" });
  const other = await control.queue.keys.create({});
  await clock.advance(5000);
  expect(await keyless.events()).toEqual([]);
  expect((await fetch(`${base}/events`)).status).toBe(401);

  const paths = ["/events", "/chat/chat1/events", "/inspect"];
  const streams = await Promise.all(paths.map((path) => openStream(base + path, bearer(key))));
  await using stays = await openStream(`${base}/chat/chat1/events`, bearer(other.key));
  for (const stream of [...streams, stays]) await stream.next();
  const followed = createClient({ url: new URL(base).origin, apiKey: key }).events("all")[Symbol.asyncIterator]();
  expect((await followed.next()).value).toMatchObject({ type: "reset" });
  await control.queue.keys.revoke("everyone", id);
  await clock.advance(5000);
  expect(await Promise.all(streams.map((stream) => stream.events()))).toEqual([[{ event: "reset", data: expect.anything() }], [], []]);
  await expect(followed.next()).rejects.toMatchObject({ code: "unauthorized" });
  for (const path of paths) expect((await fetch(base + path, { headers: bearer(key) })).status).toBe(401);
  await control.queue.forTenant("").enqueue(request() as never);
  expect((await stays.events(1))[0]?.event).toBe("job.accepted");
});

test("streams end when their key, its grace or their token is over", async () => {
  await using it = await keyed();
  const base = (await listening(it.app as never)) + url;
  const [short, rotated] = [await it.keyFor({ expiresInMs: 1000 }), await it.keyFor({})];
  const { token } = await it.queue.chatTokens.issue({ chatId: "chat1", expiresInMs: 1000 });
  await it.queue.keys.rotate("everyone", keyId(rotated) as string, 1000);
  const from = performance.now();
  const asked: [string, Record<string, string>][] = [["/events", bearer(short)], ["/chat/chat1/events", bearer(rotated)], [`/chat/chat1/events?token=${token}`, {}]];
  await Promise.all(
    asked.map(async ([path, headers]) => {
      await using stream = await openStream(base + path, headers);
      expect(stream.response.status).toBe(200);
      await stream.events();
      expect((await fetch(base + path, { headers })).status).toBe(401);
    }),
  );
  expect(performance.now() - from).toBeLessThan(4000);
});

test("a stream stays open while nobody can say whether its key still works, and ends at the key's own end nevertheless", async () => {
  const clock = stillClock();
  await using control = await controlledQueue();
  let away = false;
  const until = new Date(clock.now() + 60_000).toISOString();
  const keys = { ...control.queue.keys, verify: async (text: string) => (away ? Promise.reject(databaseUnavailable(new Error("away"))) : control.queue.keys.verify(text).then((found) => found && { ...found, expiresAt: until })) };
  await using app = await server(withFaults(control.queue, { keys }), { clock });
  const { key } = await control.queue.keys.create({});
  await using stream = await openStream(`${await listening(app)}${url}/chat/chat1/events`, bearer(key));
  await stream.next();
  away = true;
  await clock.advance(14_000);
  await control.queue.enqueue(request() as never);
  expect((await stream.events(1))[0]?.event).toBe("job.accepted");
  await clock.advance(46_000);
  await stream.events();
});

test("an embedder's answer is asked for again, too: a stream ends when that refuses, or names another tenant", async () => {
  const clock = stillClock();
  await using control = await controlledQueue();
  const tenants: Record<string, string | null> = { one: "acme", two: "acme", three: "acme" };
  const app = Fastify();
  await app.register(buildRoutes, { queue: control.queue, prefix: url, clock, authorize: ({ headers }) => {
    const tenant = tenants[String(headers["x-session"])];
    return tenant ? { tenant, scopes: ["read"] } : null;
  } });
  const base = (await listening(app)) + url;
  const [one, two, three] = await Promise.all(Object.keys(tenants).map((session) => openStream(`${base}/chat/chat1/events`, { "x-session": session })));
  for (const stream of [one, two, three]) await stream?.next();
  Object.assign(tenants, { one: null, two: "globex" });
  await clock.advance(5000);
  expect([await one?.events(), await two?.events()]).toEqual([[], []]);
  await control.queue.forTenant("acme").enqueue(request() as never);
  expect((await three?.events(1))?.[0]?.event).toBe("job.accepted");
  await app.close();
});

test("what operators do is recorded with who, what, when and why; dry runs, refusals and reads are not", async () => {
  await using it = await keyed();
  const operate = await it.keyFor({ tenant: "acme", scopes: ["submit", "read", "operate"], name: "ops" });
  const headers = { ...bearer(operate), "buildlane-reason": "user asked" };
  const { id } = await it.queue.forTenant("acme").enqueue(request({ code: "fail" }) as never);
  await it.queue.waitFor(id);
  await it.app.inject({ method: "POST", url: `${url}/chat/chat1/pause`, headers });
  await it.app.inject({ method: "POST", url: `${url}/dead-letters/redrive`, headers, payload: { filter: {}, dryRun: true } });
  await it.app.inject({ method: "POST", url: `${url}/${id}/retry`, headers });
  await it.app.inject({ method: "POST", url: `${url}/nope/cancel`, headers });
  await it.app.inject({ method: "POST", url: `${url}/pause`, headers: bearer(it.admin) });
  const read = async (key: string, query = "") => (await it.app.inject({ url: `${url}/audit${query}`, headers: bearer(key) })).json();
  const { data } = await read(it.admin);
  expect(data.map(({ action, target, tenant, reason, actor }: Record<string, unknown>) => [action, target, tenant, reason, actor])).toEqual([
    ["queue.paused", null, "*", null, `key:${keyId(it.admin)}`],
    ["job.redriven", id, "acme", "user asked", `key:${keyId(operate)}`],
    ["chat.paused", "chat1", "acme", "user asked", `key:${keyId(operate)}`],
  ]);
  const page = await read(it.admin, "?limit=2");
  expect([page.data.length, (await read(it.admin, `?limit=2&cursor=${page.meta.nextCursor}`)).data.length]).toEqual([2, 1]);
  expect((await read(await it.keyFor({ tenant: "other", scopes: ["admin"] }))).data).toEqual([]);
  expect((await read(operate)).code).toBe("forbidden");
});
