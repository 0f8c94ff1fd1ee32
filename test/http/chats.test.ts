/** A chat as a whole, over HTTP: its policy, an end to all its jobs, and to be forgotten. */
import { request as ask } from "node:http";
import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { controlledQueue, request, server } from "./support.js";

async function open() {
  const { queue } = await controlledQueue();
  const app = await server(queue);
  const call = async (method: "GET" | "PUT" | "POST" | "DELETE", url: string, payload?: object) => {
    const answer = await app.inject({ method, url: `/api/builds${url}`, ...(payload ? { payload } : {}) });
    return { status: answer.statusCode, body: answer.json() as Record<string, any> };
  };
  return { queue, app, call, [Symbol.asyncDispose]: async () => (await app.close(), await queue.stop()) };
}

describe("a chat", () => {
  it("takes a policy, shows it, and refuses what it does not know", async () => {
    await using service = await open();
    const { call } = service;
    expect(await call("PUT", "/chat/new/policy", { afterFailure: "hold" })).toMatchObject({ status: 200, body: { ok: true, data: { whileRetrying: "block", afterFailure: "hold" } } });
    expect((await call("PUT", "/chat/new/policy", { whileRetrying: "yield" })).body["data"]).toEqual({ whileRetrying: "yield", afterFailure: "hold" });
    expect((await call("GET", "/chat/new")).body).toMatchObject({ data: { pending: [], running: [], completed: [], failed: [] }, meta: { paused: false, heldBy: null, policy: { whileRetrying: "yield", afterFailure: "hold" } } });
    expect(await call("PUT", "/chat/new/policy", { afterFailure: "explode" })).toMatchObject({ status: 400, body: { code: "validation_failed", issues: [{ path: "/afterFailure" }] } });
    expect(await call("PUT", "/chat/new/policy", { other: 1 })).toMatchObject({ status: 400 });
  });

  it("is never called as a step of a path: pausing .. would pause the queue", async () => {
    await using service = await open();
    const { app, call, queue } = service;
    for (const chatId of [".", ".."]) expect(await call("POST", "", request({ chatId }))).toMatchObject({ status: 400, body: { issues: [{ path: "/chatId" }] } });
    await app.listen({ port: 0, host: "127.0.0.1" });
    // Whoever sends the path as it is, which neither a browser nor fetch does.
    const raw = await new Promise<IncomingMessage>((resolve) => ask({ port: (app.server.address() as AddressInfo).port, method: "POST", path: "/api/builds/chat/%2e%2e/pause", headers: { connection: "close" } }, resolve).end());
    raw.resume();
    expect([raw.statusCode, (await queue.stats()).queuePaused]).toEqual([400, false]);
  });

  it("is held by a failure, says so, and goes on when resumed", async () => {
    await using service = await open();
    const { call, queue } = service;
    await call("PUT", "/chat/chat1/policy", { afterFailure: "hold" });
    const { body } = await call("POST", "", request({ code: "fail" }));
    await queue.waitFor(body["data"].id);
    expect((await call("GET", "/chat/chat1")).body["meta"]).toMatchObject({ paused: true, heldBy: body["data"].id });
    const next = (await call("POST", "", request())).body["data"];
    expect((await call("GET", `/${next.id}/why`)).body["data"]).toMatchObject({ reason: "chat_held" });
    await call("POST", "/chat/chat1/resume");
    expect((await queue.waitFor(next.id)).status).toBe("completed");
  });

  it("is cancelled whole, 202 while one is being stopped", async () => {
    await using service = await open();
    const { call, queue } = service;
    const held = (await call("POST", "", request({ code: "hold" }))).body["data"];
    await call("POST", "", request());
    while ((await queue.get(held.id)).status !== "running");
    expect(await call("POST", "/chat/chat1/cancel")).toMatchObject({ status: 202, body: { data: { chatId: "chat1", cancelled: 1, stopping: held.id } } });
    expect((await queue.waitFor(held.id)).failure?.code).toBe("cancelled");
    expect(await call("POST", "/chat/chat1/cancel")).toMatchObject({ status: 200, body: { data: { cancelled: 0, stopping: null } } });
    expect(await call("POST", "/chat/nobody/cancel")).toMatchObject({ status: 404, body: { code: "not_found" } });
  });

  it("is forgotten, the running job included, and keeps its numbers", async () => {
    await using service = await open();
    const { call, queue } = service;
    const first = (await call("POST", "", request({ code: "hold" }))).body["data"];
    while ((await queue.get(first.id)).status !== "running");
    expect(await call("DELETE", "/chat/chat1")).toMatchObject({ status: 200, body: { data: { chatId: "chat1", erased: 1 } } });
    expect((await call("GET", `/${first.id}`)).status).toBe(404);
    expect((await call("GET", `/${first.id}/output`)).status).toBe(404);
    expect((await call("POST", "", request())).body["data"].chatSeq).toBe(2);
    expect((await call("DELETE", "/chat/nobody")).status).toBe(404);
  });

  it("may be superseded into, and refuses another word for it", async () => {
    await using service = await open();
    const { call, queue } = service;
    await queue.pause();
    const old = (await call("POST", "", request())).body["data"];
    const newer = (await call("POST", "", request({ supersede: "pending" }))).body["data"];
    expect((await call("GET", `/${old.id}`)).body["data"]).toMatchObject({ status: "failed", supersededBy: newer.id, failure: { code: "superseded" } });
    expect(await call("POST", "", request({ supersede: "all" }))).toMatchObject({ status: 400, body: { issues: [{ path: "/supersede" }] } });
    await queue.resume();
    await queue.waitFor(newer.id);
  });
});
