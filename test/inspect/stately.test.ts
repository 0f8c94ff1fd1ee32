/** What Stately's inspector is told: whole, readable from any moment on, without anything that was submitted, and only to whom it may be. */
import { describe, expect, it } from "vitest";
import { redact } from "../../src/inspect/stately.js";
import type { WireEvent } from "../../src/inspect/stately.js";
import { controlledQueue, listening, openStream, request, server } from "../http/support.js";

type Wire = WireEvent & { sessionId: string; parentId?: string; name?: string; definition?: string; event?: { type: string }; snapshot?: { value: unknown; children: object } };

/** Reads until `done` says so of what was read so far. */
async function readUntil(events: AsyncIterable<WireEvent>, done: (all: Wire[]) => boolean): Promise<Wire[]> {
  const all: Wire[] = [];
  for await (const event of events) {
    all.push(event as Wire);
    if (done(all)) break;
  }
  return all;
}
const completedJob = (all: Wire[]) => all.some(({ type, snapshot }) => type === "@xstate.snapshot" && snapshot?.value === "completed");
const signal = () => AbortSignal.timeout(15_000);

describe("the actors in Stately's wire format", () => {
  it("announces each actor before it tells of it, with its parent and its machine, and every event has the format's fields", async () => {
    await using held = await controlledQueue({ inspect: true });
    const reading = readUntil(held.queue.inspect({ signal: signal() }), completedJob);
    await held.queue.enqueue(request({ chatId: "a" }));
    const all = await reading;
    const known = new Set<string>();
    for (const event of all) {
      if (event.type === "@xstate.actor") {
        if (event.parentId !== undefined) expect(known).toContain(event.parentId);
        known.add(event.sessionId);
        expect(JSON.parse(event.definition as string)).toHaveProperty("states");
      }
      expect(known).toContain(event.sessionId);
      expect(event).toMatchObject({ rootId: expect.any(String), createdAt: expect.stringMatching(/^\d+$/), _version: expect.any(String), id: null });
    }
    expect(all.filter(({ type }) => type === "@xstate.actor").map(({ name }) => name)).toEqual(expect.arrayContaining(["supervisor", "a", "head"]));
  });

  it("tells a newcomer of the actors that live already, and of their state now", async () => {
    await using held = await controlledQueue({ inspect: true });
    await held.queue.enqueue(request({ chatId: "a", code: "hold" }));
    for await (const event of held.queue.events({ chatId: "a" }, { after: 0, signal: signal() })) if (event !== "reset" && event.type === "job.started") break;
    const all = await readUntil(held.queue.inspect({ signal: signal() }), (told) => told.some(({ name }) => name === "head"));
    expect(all.at(-1)).toMatchObject({ type: "@xstate.actor", name: "head", snapshot: { value: { running: "building" } } });
    held.release();
  });

  it("shows no code, no output and no message of a failure, anywhere", async () => {
    await using held = await controlledQueue({ inspect: true });
    const reading = readUntil(held.queue.inspect({ signal: signal() }), (all) => completedJob(all) && all.some(({ snapshot }) => snapshot?.value === "failed"));
    await held.queue.enqueue(request({ chatId: "a", code: "secret-of-a-person" }));
    await held.queue.enqueue(request({ chatId: "b", code: "fail-secret-of-a-person" }));
    const text = JSON.stringify(await reading);
    expect(text).not.toContain("secret-of-a-person");
    expect(text).toContain("(not shown)");
    expect(redact({ code: null, files: { "a.ts": "x" }, chatId: "a" })).toEqual({ code: null, files: "(not shown)", chatId: "a" });
  });

  it("can be narrowed to a chat, to a job, and to a part of the chats", async () => {
    await using held = await controlledQueue({ inspect: true });
    const chat = readUntil(held.queue.inspect({ chatId: "b", signal: signal() }), completedJob);
    const none = new AbortController();
    const sampled: Wire[] = [];
    const sampling = (async () => {
      for await (const event of held.queue.inspect({ sample: 10_000, signal: none.signal })) sampled.push(event as Wire);
    })();
    for (const chatId of ["a", "b"]) await held.queue.waitFor((await held.queue.enqueue(request({ chatId }))).id);
    const names = (await chat).filter(({ type }) => type === "@xstate.actor").map(({ name }) => name);
    expect(names).toContain("b");
    expect(names).not.toContain("a");
    none.abort();
    await sampling;
    expect(sampled.map(({ name }) => name)).toEqual(["supervisor"]);
    const first = await held.queue.enqueue(request({ chatId: "c", code: "hold" }));
    const job = readUntil(held.queue.inspect({ jobId: first.id, signal: signal() }), completedJob);
    await held.queue.enqueue(request({ chatId: "d" }));
    for await (const event of held.queue.events({ chatId: "c" }, { after: 0, signal: signal() })) if (event !== "reset" && event.type === "job.started") break;
    held.release();
    expect((await job).map(({ name }) => name)).not.toContain("d");
  });

  it("leaves nothing behind when the reader goes", async () => {
    await using held = await controlledQueue({ inspect: true });
    const stop = new AbortController();
    const events = held.queue.inspect({ signal: stop.signal })[Symbol.asyncIterator]();
    await events.next();
    stop.abort();
    while (!(await events.next()).done);
    const again = await readUntil(held.queue.inspect({ signal: signal() }), (all) => all.length === 1);
    expect(again[0]?.name).toBe("supervisor");
  });
});

describe("over HTTP", () => {
  it("is not there unless the setting says so", async () => {
    await using held = await controlledQueue();
    await using app = await server(held.queue);
    for (const path of ["inspect", "inspector"]) expect((await app.inject(`/api/builds/${path}`)).statusCode).toBe(404);
    expect(() => held.queue.inspect({ signal: signal() })).toThrow(expect.objectContaining({ code: "not_found" }));
  });

  it("streams to this machine only, and to admins only", async () => {
    await using held = await controlledQueue({ inspect: true });
    await using app = await server(held.queue);
    const url = await listening(app);
    const elsewhere = await app.inject({ url: "/api/builds/inspect", remoteAddress: "192.0.2.7" });
    expect([elsewhere.statusCode, elsewhere.json().code]).toEqual([403, "forbidden"]);
    const response = await fetch(`${url}/api/builds/inspect`, { signal: signal() });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes("data: ")) text += (await reader?.read())?.value ?? "";
    expect(JSON.parse(/data: (.*)/.exec(text)?.[1] as string)).toMatchObject({ type: "@xstate.actor", name: "supervisor" });
    await reader?.cancel();
    const page = await fetch(`${url}/api/builds/inspector`);
    expect(page.headers.get("content-security-policy")).toContain("frame-src https://stately.ai");
    await using other = await openStream(`${url}/api/builds/events`);
    expect((await other.events(1))[0]?.event).toBe("reset");
  });
});
