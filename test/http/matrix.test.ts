/**
 * The tenant matrix: every operation of the API's own document, asked by nobody, by a key without the scope, and by
 * another tenant's key that has them all. A new route is in it by being documented; nobody has to remember this file.
 */
import Fastify from "fastify";
import type { FastifyInstance } from "fastify";
import { expect, test } from "vitest";
import { buildRoutes } from "../../src/fastify.js";
import { accessScopes } from "../../src/keys.js";
import type { QueueView } from "../../src/queue-api.js";
import { controlledQueue, listening, openStream, request, server } from "./support.js";

interface Operation {
  name: string;
  method: "GET" | "POST" | "PUT" | "DELETE" | "PATCH";
  path: string;
  /** Empty: open to all. */
  needs: string[];
  streams: boolean;
}

/** A harmless body for those that need one; `{}` fits the rest. */
const bodies: Record<string, unknown> = {
  submitJob: request(), submitBatch: { jobs: [request()] }, redriveDeadLetters: { filter: {} }, discardDeadLetters: { filter: {} },
  setPolicy: { whileRetrying: "block" }, setChatPolicy: { whileRetrying: "block" },
};

function operations(app: FastifyInstance): Operation[] {
  const document = app.swagger() as unknown as { paths: Record<string, Record<string, { operationId: string; security: { apiKey?: string[] }[]; responses: Record<string, { content?: Record<string, unknown> }> }>> };
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId, security, responses }]) => ({
      name: operationId, method: method.toUpperCase() as Operation["method"], path, needs: security.flatMap((one) => one.apiKey ?? []), streams: "text/event-stream" in (responses["200"]?.content ?? {}),
    })),
  );
}

/** Tenant a's world, and keys of both tenants: jobs of every end, a paused chat, a dead letter, a key. */
async function world() {
  const control = await controlledQueue();
  const { queue } = control;
  const a = queue.forTenant("a");
  const canary = "canary-of-a";
  const jobs = [
    await a.enqueue(request({ code: `"${canary}"`, options: { sourcemap: true } }) as never, { idempotencyKey: "k" }),
    await a.enqueue(request({ code: `fail ${canary}`, messageId: canary }) as never),
  ];
  for (const { id } of jobs) await a.waitFor(id);
  await a.pauseChat("chat1");
  jobs.push(await a.enqueue(request({ code: canary }) as never));
  const keyOfA = await queue.keys.create({ tenant: "a", name: canary });
  await queue.audit.record({ actor: "someone", tenant: "a", action: "job.cancelled", target: jobs[0]?.id ?? "", reason: canary, data: {} });
  const keyFor = async (scopes: readonly string[], tenant: string) => ({ authorization: `Bearer ${(await queue.keys.create({ tenant, scopes: scopes as never })).key}` });
  const app = await server(queue);
  await app.ready();
  return {
    queue, a, app, canary, ids: jobs.map(({ id }) => id), keyOfA, keyFor,
    /** Everything of tenant a that anybody could change. */
    async state() {
      const view = await a.chat("chat1", { limit: 200, include: { code: true, result: true } });
      const events = [];
      const controller = new AbortController();
      for await (const event of a.events({ chatId: "chat1" }, { after: 0, signal: controller.signal })) {
        events.push(event);
        if (event !== "reset" && event.number >= 8) controller.abort();
      }
      const { nextCursor, jobs: listed } = await a.list({ limit: 200, include: { code: true, result: true } });
      return JSON.parse(JSON.stringify({ view, events, nextCursor, listed, stats: await figures(a), keys: await queue.keys.list({ tenant: "a" }), audit: await queue.audit.list({ tenant: "a" }, { limit: 200 }) }, (name, value: unknown) => (/^estimatedWaitTime/.test(name) ? null : value))) as unknown;
    },
    [Symbol.asyncDispose]: async () => {
      await app.close();
      await queue.stop();
    },
  };
}
const figures = async (view: QueueView) => {
  const { totalQueued, totalRunning, totalCompleted, totalFailed, deadLetters, activeChats } = await view.stats();
  return { totalQueued, totalRunning, totalCompleted, totalFailed, deadLetters, activeChats };
};

const filled = (path: string, id: string, keyId: string): string => path.replace("{id}", id).replace("{chatId}", "chat1").replace("{keyId}", keyId).replace("{hash}", "a".repeat(64));

function ask(app: FastifyInstance, { method, name }: Operation, url: string, headers: Record<string, string> = {}) {
  return app.inject({ method, url, headers, ...(method === "GET" ? {} : { payload: (bodies[name] ?? {}) as object }) });
}

test("nobody gets past any route that needs a key, with whatever method or body", async () => {
  await using it = await world();
  const all = operations(it.app);
  expect(all.filter(({ needs }) => needs.length > 0).length).toBeGreaterThan(20);
  expect(all.filter(({ needs }) => needs.length === 0).map(({ name }) => name).sort()).toEqual(["health", "inspectorPage", "livez", "metrics", "openapi", "readyz"]);
  for (const one of all.filter(({ needs }) => needs.length > 0)) {
    const answer = await ask(it.app, one, filled(one.path, it.ids[0] as string, it.keyOfA.id));
    expect([one.name, answer.statusCode, answer.json().code]).toEqual([one.name, 401, "unauthorized"]);
  }
});

test("a key with every scope but the one that is needed gets 403 everywhere", async () => {
  await using it = await world();
  const before = await it.state();
  for (const one of operations(it.app).filter(({ needs }) => needs.length > 0)) {
    const headers = await it.keyFor(accessScopes.filter((scope) => scope !== "admin" && !one.needs.includes(scope)), "a");
    const answer = await ask(it.app, one, filled(one.path, it.ids[0] as string, it.keyOfA.id), headers);
    expect([one.name, answer.statusCode, answer.json().code]).toEqual([one.name, 403, "forbidden"]);
  }
  expect(before).toMatchObject({ stats: { totalFailed: 1 } });
});

/** The other tests take the scopes from the document: this one says what they must be. */
test("whatever is recorded as an operator's action needs operate or admin, and what else is no GET only submits or makes a chat's token", async () => {
  await using control = await controlledQueue();
  const host = Fastify();
  const changing: { name: string; needs: string; recorded: boolean }[] = [];
  host.addHook("onRoute", ({ method, schema }) => {
    const { operationId, "x-needs": needs, "x-audit": action } = (schema ?? {}) as { operationId?: string; "x-needs"?: string; "x-audit"?: string };
    if (operationId !== undefined && needs !== undefined && method !== "GET" && method !== "HEAD") changing.push({ name: operationId, needs, recorded: action !== undefined });
  });
  await host.register(buildRoutes, { queue: control.queue });
  await host.close();
  const recorded = changing.filter((one) => one.recorded);
  expect(recorded.length).toBeGreaterThan(12);
  expect(recorded.filter(({ needs }) => needs !== "operate" && needs !== "admin")).toEqual([]);
  expect(changing.filter((one) => !one.recorded).map(({ name, needs }) => [name, needs])).toEqual([["submitJob", "submit"], ["submitBatch", "submit"], ["createChatToken", "read"]]);
});

test("an operator cancels a whole chat, and who may only submit does not", async () => {
  await using it = await world();
  const cancel = async (scopes: string[]) => (await it.app.inject({ method: "POST", url: "/api/builds/chat/chat1/cancel", headers: await it.keyFor(scopes, "a") })).statusCode;
  expect([await cancel(["submit", "read"]), await cancel(["operate"])]).toEqual([403, 200]);
});

test("another tenant's key with all scopes finds nothing of it on any route, and changes nothing", async () => {
  await using it = await world();
  const headers = await it.keyFor(["admin"], "b");
  const before = await it.state();
  expect(before).toMatchObject({ stats: { totalQueued: 1, totalCompleted: 1, totalFailed: 1, deadLetters: 1 } });
  const seen: Record<string, number> = {};
  for (const one of operations(it.app).filter(({ needs, streams, path }) => needs.length > 0 && (!streams || path.includes("{id}")))) {
    for (const id of one.path.includes("{id}") ? it.ids : [it.ids[0] as string]) {
      const answer = await ask(it.app, one, filled(one.path, id, it.keyOfA.id), headers);
      seen[one.name] = answer.statusCode;
      // The path's own id may be repeated in "there is no …"; nothing else of a's may appear.
      const body = one.path.includes("{id}") ? answer.body.replaceAll(id, "") : answer.body.replaceAll(one.path.includes("{keyId}") ? it.keyOfA.id : "\0", "");
      for (const secret of [it.canary, it.keyOfA.id, ...it.ids]) expect([one.name, body.includes(secret)]).toEqual([one.name, false]);
      if (/\{(id|keyId)\}/.test(one.path)) expect([one.name, answer.statusCode]).toEqual([one.name, 404]);
      else expect([one.name, [200, 201, 202, 403, 404].includes(answer.statusCode)]).toEqual([one.name, true]);
    }
  }
  expect(seen).toMatchObject({ submitJob: 202, getChat: 200, listJobs: 200, getStats: 200, pauseQueue: 403, resumeQueue: 403, listKeys: 200 });
  expect(await it.state()).toEqual(before);
});

test("another tenant's streams, of a chat of the same name and of everything, tell of its own jobs only", async () => {
  await using it = await world();
  const headers = await it.keyFor(["admin"], "b");
  const base = await listening(it.app);
  for (const one of operations(it.app).filter(({ streams, path }) => streams && !path.includes("{id}"))) {
    await using stream = await openStream(`${base}${filled(one.path, "", "")}?after=0`, headers);
    if (one.path.endsWith("/inspect")) {
      // The actors are those of the whole service: no tenant's key opens them.
      expect([403, 404]).toContain(stream.response.status);
      continue;
    }
    const first = await it.a.enqueue(request({ messageId: it.canary }) as never);
    const own = await it.queue.forTenant("b").enqueue(request({ chatId: "chat1" }) as never);
    const events = (await stream.events(one.path.includes("{chatId}") ? 3 : 4)).filter(({ event }) => event !== "reset");
    expect([one.path, events.length > 0]).toEqual([one.path, true]);
    expect(events.map(({ data }) => [data?.["chatId"], data?.["tenant"]])).toEqual(events.map(() => ["chat1", "b"]));
    expect(JSON.stringify(events)).not.toContain(first.id);
    await it.queue.waitFor(own.id);
  }
});

test("an idempotency key of another tenant is unknown", async () => {
  await using it = await world();
  const headers = { ...(await it.keyFor(["submit"], "b")), "idempotency-key": "k" };
  const answer = await it.app.inject({ method: "POST", url: "/api/builds", headers, payload: request({ code: "other" }) });
  expect([answer.statusCode, answer.headers["idempotent-replayed"], it.ids.includes(answer.json().data.id)]).toEqual([202, undefined, false]);
});

test("an embedder's authorize decides: its tenant, its scopes, its refusals and its own errors", async () => {
  await using control = await controlledQueue();
  const host = Fastify();
  host.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => reply.status(error.statusCode ?? 500).send({ host: true }));
  await host.register(buildRoutes, {
    queue: control.queue, prefix: "/b",
    authorize: async ({ headers }) => {
      const user = headers["x-user"];
      if (user === "throws") throw new Error("no");
      if (user === "teapot") throw Object.assign(new Error("x"), { statusCode: 418 });
      return typeof user === "string" ? { tenant: user, scopes: user === "reader" ? ["read"] : ["submit", "read"], name: user } : null;
    },
  });
  const submit = (user?: string) => host.inject({ method: "POST", url: "/b", headers: user === undefined ? {} : { "x-user": user }, payload: request() });
  const accepted = await submit("ann");
  expect([accepted.statusCode, (await submit()).json().code, (await submit("throws")).json().code, (await submit("reader")).json().code]).toEqual([202, "unauthorized", "unauthorized", "forbidden"]);
  const teapot = await submit("teapot");
  expect([teapot.statusCode, teapot.json()]).toEqual([418, { host: true }]);
  const { id } = accepted.json().data;
  expect((await host.inject({ url: `/b/${id}`, headers: { "x-user": "ann" } })).json().data.tenant).toBe("ann");
  expect((await host.inject({ url: `/b/${id}`, headers: { "x-user": "bob" } })).json().code).toBe("job_not_found");
  await host.close();
});
