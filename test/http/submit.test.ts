/** The way in over HTTP: one job, many, idempotency keys, and waiting for the result. */
import { expect, test } from "vitest";
import { databaseUnavailable } from "../../src/errors.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import { createMemoryStore } from "../../src/testing.js";
import { controlledQueue, request, server } from "./support.js";

const url = "/api/builds";

test("a submission is answered with 202, its place and where it is", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  await app.inject({ method: "POST", url, payload: request({ code: "hold" }) });
  const answer = await app.inject({ method: "POST", url, payload: request({ messageId: "msg2" }) });
  const { ok, data } = answer.json();
  expect(answer.statusCode).toBe(202);
  expect(ok).toBe(true);
  expect(data).toEqual({ id: expect.any(String), chatId: "chat1", messageId: "msg2", chatSeq: 2, status: "pending", queuePosition: 2, estimatedWaitTime: expect.any(Number), estimatedWaitTimeP90: expect.any(Number), createdAt: expect.stringMatching(/Z$/) });
  expect(answer.headers).toMatchObject({ location: `${url}/${data.id}`, "retry-after": "1" });
  expect((await app.inject(String(answer.headers.location))).json().data).toMatchObject({ id: data.id, status: "pending", queuePosition: 2, result: null, error: null });
  control.release();
});

test("the same with and without a slash at the end", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  for (const path of [url, `${url}/`]) expect((await app.inject({ method: "POST", url: path, payload: request() })).statusCode).toBe(202);
});

test("the same key and request answer with the same job: 202 while it is unfinished, 200 with the job when it is final", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const submit = (fields = {}) => app.inject({ method: "POST", url, headers: { "idempotency-key": "k1" }, payload: request({ code: "hold", ...fields }) });
  const first = await submit();
  expect(first.headers["idempotent-replayed"]).toBeUndefined();
  const second = await submit();
  expect([second.statusCode, second.headers["idempotent-replayed"], second.json().data.id]).toEqual([202, "true", first.json().data.id]);
  const other = await submit({ code: "other" });
  expect([other.statusCode, other.json().code]).toEqual([422, "idempotency_conflict"]);
  // A batch of one is another body, whose answer has another form.
  const batch = await app.inject({ method: "POST", url: `${url}/batch`, headers: { "idempotency-key": "k1" }, payload: { jobs: [request({ code: "hold" })] } });
  expect([batch.statusCode, batch.json().code]).toEqual([422, "idempotency_conflict"]);
  const finished = control.queue.waitFor(first.json().data.id);
  control.release();
  await finished;
  const third = await submit();
  expect([third.statusCode, third.headers["idempotent-replayed"], third.json().data]).toEqual([200, "true", expect.objectContaining({ id: first.json().data.id, status: "completed", result: "built hold" })]);
});

test("a key that is too long is named", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, headers: { "idempotency-key": "k".repeat(201) }, payload: request() });
  expect([answer.statusCode, answer.json().issues[0].path]).toEqual([400, "/idempotency-key"]);
});

test("Prefer: wait answers 200 with the finished job when it is done in time", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, headers: { prefer: "respond-async, wait=10" }, payload: request() });
  expect([answer.statusCode, answer.headers["preference-applied"], answer.headers["retry-after"]]).toEqual([200, "wait=10", undefined]);
  expect(answer.json().data).toMatchObject({ status: "completed", result: 'built console.log("test")', attempts: [{ attempt: 1, outcome: "completed" }] });
});

test("Prefer: wait answers 202 when the time is over, which is at most 30 s", async () => {
  await using control = await controlledQueue();
  const clock = createSimulatedClock();
  await using app = await server(control.queue, { clock });
  const answer = app.inject({ method: "POST", url, headers: { prefer: "wait=999" }, payload: request({ code: "hold" }) });
  while (clock.pendingTimers === 0) await clock.advance(0);
  await clock.advance(29_999);
  expect(clock.pendingTimers).toBe(1);
  await clock.advance(1);
  expect([(await answer).statusCode, (await answer).headers["preference-applied"], (await answer).json().data.status]).toEqual([202, "wait=30", "pending"]);
  control.release();
});

test.each([
  ["is refused", () => Promise.reject(databaseUnavailable(new Error("away")))],
  ["does not answer", () => new Promise<never>(() => {})],
])("Prefer: wait answers 202 when the time is over, also when the read of the job %s", async (_, get) => {
  await using control = await controlledQueue({ store: { ...createMemoryStore(), get } });
  const clock = createSimulatedClock();
  await using app = await server(control.queue, { clock });
  const answer = app.inject({ method: "POST", url, headers: { prefer: "wait=2" }, payload: request() });
  while (clock.pendingTimers === 0) await clock.advance(0);
  await clock.advance(2000);
  expect([(await answer).statusCode, (await answer).headers["preference-applied"], (await answer).json().data.status]).toEqual([202, "wait=2", "pending"]);
});

test.each(["wait=-1", "wait=soon", "respond-async", "waiting=3"])("a preference that says nothing of waiting is left out: %s", async (prefer) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, headers: { prefer }, payload: request() });
  expect([answer.statusCode, answer.headers["preference-applied"]]).toEqual([202, undefined]);
});

test("a batch is accepted in order", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const payload = { jobs: ["a", "b", "a"].map((chatId, index) => request({ chatId, messageId: `m${index}` })) };
  const answer = await app.inject({ method: "POST", url: `${url}/batch`, payload });
  expect(answer.statusCode).toBe(202);
  expect(answer.json().data.jobs.map((job: Record<string, unknown>) => [job.chatId, job.chatSeq, job.messageId])).toEqual([["a", 1, "m0"], ["b", 1, "m1"], ["a", 2, "m2"]]);
});

test("a replayed batch answers with the same jobs, 200 when all are final", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const submit = () => app.inject({ method: "POST", url: `${url}/batch`, headers: { "idempotency-key": "b1" }, payload: { jobs: [request(), request({ messageId: "m2" })] } });
  const ids = (answer: Awaited<ReturnType<typeof submit>>) => answer.json().data.jobs.map(({ id }: { id: string }) => id);
  const first = await submit();
  for (const id of ids(first)) await control.queue.waitFor(id);
  const second = await submit();
  expect([second.statusCode, second.headers["idempotent-replayed"], ids(second)]).toEqual([200, "true", ids(first)]);
});

test("a batch of more than 1,000 is refused as a whole", async () => {
  await using control = await controlledQueue({ maxPendingPerChat: 5000 });
  await using app = await server(control.queue);
  const batch = (count: number) => app.inject({ method: "POST", url: `${url}/batch`, payload: { jobs: Array.from({ length: count }, () => request()) } });
  const tooMany = await batch(1001);
  expect([tooMany.statusCode, tooMany.json().code]).toEqual([422, "batch_too_large"]);
  expect((await app.inject(`${url}/chat/chat1`)).json().data.pending).toEqual([]);
  expect((await batch(1000)).statusCode).toBe(202);
});

test("a full chat gets 429 and the time to try again", async () => {
  await using control = await controlledQueue({ maxPendingPerChat: 1 });
  await using app = await server(control.queue);
  await control.queue.pause();
  const answers = [];
  for (let i = 0; i < 3; i++) answers.push(await app.inject({ method: "POST", url, payload: request() }));
  expect(answers.map((answer) => answer.statusCode)).toEqual([202, 429, 429]);
  expect(answers[1]?.json()).toMatchObject({ ok: false, code: "chat_queue_full", retryable: true });
  expect(Number(answers[1]?.headers["retry-after"])).toBeGreaterThanOrEqual(1);
});
