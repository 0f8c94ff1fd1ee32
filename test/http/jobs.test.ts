/** Jobs over HTTP: how one stands, what it built, lists, and what a person may do about it. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { controlledQueue, request, server, withFaults } from "./support.js";

const url = "/api/builds";

async function open(options: Parameters<typeof controlledQueue>[0] = {}) {
  const control = await controlledQueue(options);
  const app = await server(control.queue);
  const submit = async (fields: Record<string, unknown> = {}) => (await app.inject({ method: "POST", url, payload: request(fields) })).json().data as { id: string };
  const get = async (path: string) => (await app.inject(url + path)).json();
  const post = (path: string, payload?: object) => app.inject({ method: "POST", url: url + path, ...(payload ? { payload } : {}) });
  const running = async (id: string) => {
    while ((await control.queue.get(id)).status !== "running") await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    control, app, submit, get, post, running,
    async [Symbol.asyncDispose]() {
      control.release();
      await app.close();
      await control.queue.stop();
    },
  };
}

test("a job is shown whole in every status", async () => {
  await using api = await open();
  const first = await api.submit({ code: "hold", priority: 3 });
  const second = await api.submit({ messageId: "m2" });
  await api.running(first.id);
  const { data: running } = await api.get(`/${first.id}`);
  expect(running).toMatchObject({ status: "running", chatSeq: 1, priority: 3, attempt: 1, code: "hold", startedAt: expect.stringMatching(/Z$/), completedAt: null, result: null, error: null, failure: null, attempts: [{ attempt: 1, outcome: "running" }] });
  expect(running.queuePosition).toBeUndefined();
  expect((await api.get(`/${second.id}`)).data).toMatchObject({ status: "pending", queuePosition: 2, estimatedWaitTime: expect.any(Number), estimatedWaitTimeP90: expect.any(Number), attempt: 0, startedAt: null, nextAttemptAt: null });
  api.control.release();
  await api.control.queue.waitFor(second.id);
  expect((await api.get(`/${first.id}`)).data).toMatchObject({ status: "completed", result: "built hold", completedAt: expect.stringMatching(/Z$/) });
  const bad = await api.submit({ code: "fail it" });
  await api.control.queue.waitFor(bad.id);
  expect((await api.get(`/${bad.id}`)).data).toMatchObject({ status: "failed", result: null, error: "no: fail it", failure: { code: "run_failed", retryable: false, diagnostics: [] }, attempt: 1 });
});

test("the output is the built text itself, with a strong tag, and 304 for who has it", async () => {
  await using api = await open();
  const { id } = await api.submit({ code: "ü" });
  await api.control.queue.waitFor(id);
  const answer = await api.app.inject(`${url}/${id}/output`);
  expect([answer.statusCode, answer.body]).toEqual([200, "built ü"]);
  expect(answer.headers).toMatchObject({ "content-type": "text/javascript; charset=utf-8", "x-content-type-options": "nosniff", etag: expect.stringMatching(/^"[\w-]{20,}"$/) });
  const again = (tag: string) => api.app.inject({ url: `${url}/${id}/output`, headers: { "if-none-match": tag } });
  const etag = String(answer.headers.etag);
  for (const tag of [etag, `"other", W/${etag}`, "*"]) expect([(await again(tag)).statusCode, (await again(tag)).body]).toEqual([304, ""]);
  expect((await again('"other"')).statusCode).toBe(200);
  const head = await api.app.inject({ method: "HEAD", url: `${url}/${id}/output` });
  expect([head.statusCode, head.headers.etag, head.body]).toEqual([200, etag, ""]);
  expect((await api.app.inject(`${url}/${id}/output.map`)).json()).toMatchObject({ code: "not_found", message: expect.stringContaining("options.sourcemap") });
});

test("a source map is there when one was asked for", async () => {
  await using api = await open();
  await using app = await server(withFaults(api.control.queue, { output: async () => ({ status: "completed", result: "x", sourceMap: '{"version":3}' }) }));
  const answer = await app.inject(`${url}/some-id/output.map`);
  expect([answer.statusCode, answer.headers["content-type"], answer.json()]).toEqual([200, "application/json; charset=utf-8", { version: 3 }]);
  expect((await app.inject({ url: `${url}/some-id/output.map`, headers: { "if-none-match": String(answer.headers.etag) } })).statusCode).toBe(304);
});

test("what is not completed has no output, and the answer says why", async () => {
  await using api = await open();
  const held = await api.submit({ code: "hold" });
  const bad = await api.submit({ chatId: "other", code: "fail" });
  await api.control.queue.waitFor(bad.id);
  for (const [id, why] of [[held.id, "when it is completed"], [bad.id, "it failed"]] as const) {
    const answer = await api.app.inject(`${url}/${id}/output`);
    expect([answer.statusCode, answer.json().code, answer.json().message]).toEqual([409, "no_output", expect.stringContaining(why)]);
  }
});

test("a chat is shown by status, summaries without large fields unless they are asked for", async () => {
  await using api = await open();
  const done = await api.submit();
  await api.control.queue.waitFor(done.id);
  const bad = await api.submit({ code: "fail" });
  await api.control.queue.waitFor(bad.id);
  const held = await api.submit({ code: "hold" });
  await api.running(held.id);
  await api.submit({ messageId: "low" });
  await api.submit({ messageId: "high", priority: 5 });
  const { data } = await api.get("/chat/chat1");
  const seen = Object.fromEntries(Object.entries(data).map(([status, jobs]) => [status, Array.isArray(jobs) ? jobs.map((job) => job.chatSeq) : jobs]));
  expect(seen).toMatchObject({ pending: [5, 4], running: [3], completed: [1], failed: [2] });
  expect(data.completed[0]).not.toHaveProperty("code");
  expect(data.completed[0]).not.toHaveProperty("result");
  expect((await api.get("/chat/chat1?include=code,result&limit=1")).data).toMatchObject({ completed: [{ code: 'console.log("test")', result: expect.stringContaining("built") }], pending: [{ chatSeq: 5 }] });
  expect((await api.get("/chat/nobody")).data).toMatchObject({ pending: [], running: [], completed: [], failed: [] });
});

test("the list filters, and goes page by page through every job once", async () => {
  await using api = await open();
  for (let index = 0; index < 5; index++) await api.control.queue.waitFor((await api.submit({ chatId: `c${index % 2}`, messageId: `m${index}`, code: index === 3 ? "fail" : "1" })).id);
  const found: string[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const { data, meta }: { data: { messageId: string }[]; meta: { nextCursor: string | null } } = await api.get(`?limit=2${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    expect(data.length).toBeLessThanOrEqual(2);
    found.push(...data.map(({ messageId }) => messageId));
    cursor = meta.nextCursor;
  }
  expect(found.sort()).toEqual(["m0", "m1", "m2", "m3", "m4"]);
  const messages = async (query: string) => (await api.get(query)).data.map((job: { messageId: string }) => job.messageId).sort();
  expect(await messages("?status=failed")).toEqual(["m3"]);
  expect(await messages("?status=completed,failed&chatId=c1")).toEqual(["m1", "m3"]);
  expect(await messages("?failureCode=run_failed")).toEqual(["m3"]);
  expect(await messages("?createdAfter=2999-01-01T00:00:00Z")).toEqual([]);
  expect((await api.get("?status=gone")).code).toBe("validation_failed");
  expect((await api.get("?include=code&limit=1")).data[0].code).toBeDefined();
});

test("cancel: at once while pending, by request while running, once more is fine, and too late is 409", async () => {
  await using api = await open();
  const running = await api.submit({ code: "hold" });
  const pending = await api.submit();
  const last = await api.submit();
  await api.running(running.id);
  const answers = [await api.post(`/${pending.id}/cancel`), await api.post(`/${running.id}/cancel`)];
  expect(answers.map((answer) => [answer.statusCode, answer.json().data.status])).toEqual([[200, "cancelled"], [202, "requested"]]);
  expect(await api.control.queue.waitFor(running.id)).toMatchObject({ status: "failed", failure: { code: "cancelled" } });
  await api.control.queue.waitFor(last.id);
  for (const { id } of [pending, running]) expect((await api.post(`/${id}/cancel`)).json().data).toEqual({ id, status: "already" });
  const late = await api.post(`/${last.id}/cancel`);
  expect([late.statusCode, late.json().code]).toEqual([409, "already_final"]);
});

test("retry puts a failed job at its chat's tail, and nothing else", async () => {
  await using api = await open();
  const bad = await api.submit({ code: "fail" });
  await api.control.queue.waitFor(bad.id);
  await api.post("/pause");
  const waiting = await api.submit();
  const answer = await api.post(`/${bad.id}/retry`);
  expect([answer.statusCode, answer.headers.location]).toEqual([202, `${url}/${bad.id}`]);
  expect(answer.json().data).toMatchObject({ id: bad.id, chatSeq: 1, status: "pending", queuePosition: 2 });
  for (const { id } of [bad, waiting]) {
    const refused = await api.post(`/${id}/retry`);
    expect([refused.statusCode, refused.json().code]).toEqual([409, "not_failed"]);
  }
  await api.post("/resume");
});

test("dead letters are counted before they are touched, redriven or let go, by ids or filter", async () => {
  await using api = await open();
  const letters = [];
  for (const chatId of ["a", "a", "b"]) letters.push(await api.submit({ chatId, code: "fail" }));
  for (const { id } of letters) await api.control.queue.waitFor(id);
  expect((await api.get("/dead-letters")).data.map((job: { id: string }) => job.id).sort()).toEqual(letters.map(({ id }) => id).sort());
  expect((await api.get("/dead-letters?chatId=b&failureCode=run_failed")).data).toHaveLength(1);
  expect((await api.post("/dead-letters/discard", { filter: { chatId: "a" }, dryRun: true })).json().data).toMatchObject({ count: 2 });
  expect((await api.get("/dead-letters")).data).toHaveLength(3);
  expect((await api.post("/dead-letters/discard", { ids: [letters[0]?.id] })).json().data).toMatchObject({ discarded: 1 });
  expect((await api.get(`/${letters[0]?.id}`)).data.status).toBe("failed");
  expect((await api.post("/dead-letters/redrive", { filter: {}, dryRun: true })).json().data).toMatchObject({ count: 2 });
  await api.post("/pause");
  expect((await api.post("/dead-letters/redrive", { filter: { chatId: "b" } })).json().data).toMatchObject({ redriven: 1 });
  expect((await api.get(`/${letters[2]?.id}`)).data).toMatchObject({ status: "pending", chatSeq: 1 });
  expect((await api.post("/dead-letters/redrive", {})).statusCode).toBe(400);
});

test("pause and resume hold a chat or the whole queue, and jobs are accepted all the while", async () => {
  await using api = await open();
  await api.control.queue.waitFor((await api.submit()).id);
  expect((await api.post("/chat/chat1/pause")).json().data).toMatchObject({ chatId: "chat1", paused: true });
  const held = await api.submit();
  await api.control.queue.waitFor((await api.submit({ chatId: "free" })).id);
  expect((await api.get(`/${held.id}`)).data).toMatchObject({ status: "pending", estimatedWaitTime: null });
  expect((await api.post("/pause")).json().data).toMatchObject({ paused: true });
  expect((await api.post("/chat/chat1/resume")).json().data).toMatchObject({ paused: false });
  expect((await api.get("/stats")).data).toMatchObject({ queuePaused: true, totalQueued: 1, totalCompleted: 2 });
  await api.post("/resume");
  await api.control.queue.waitFor(held.id);
});

test("figures: totals, times and slots in one answer, and for Prometheus without a chat or job as a label", async () => {
  await using api = await open({ concurrency: 2 });
  for (const code of ["1", "2", "fail"]) await api.control.queue.waitFor((await api.submit({ code })).id);
  expect((await api.get("/stats")).data).toMatchObject({ totalQueued: 0, totalRunning: 0, totalCompleted: 2, totalFailed: 1, averageProcessingTime: expect.any(Number), successRate: 2 / 3, deadLetters: 1, slots: 2, draining: false, processing: { p50: expect.any(Number), p95: expect.any(Number), p99: expect.any(Number) }, waiting: { p50: expect.any(Number) }, nodes: [{ slots: 2, alive: true }] });
  const { averageProcessingTime, processing, waiting } = (await api.get("/stats")).data as { averageProcessingTime: number; processing: object; waiting: object };
  for (const ms of [averageProcessingTime, ...Object.values(processing), ...Object.values(waiting)]) expect(String(ms)).toMatch(/^\d+(\.\d)?$/);
  const { body, headers } = await api.app.inject("/metrics");
  expect(headers["content-type"]).toMatch(/^text\/plain/);
  for (const line of ['buildlane_jobs{status="pending"} 0', 'buildlane_jobs_finished_total{status="completed"} 2', 'buildlane_jobs_finished_total{status="failed"} 1', "buildlane_dead_letters 1", "buildlane_slots 2", "buildlane_database_up 1"]) expect(body.split("\n")).toContain(line);
  expect(body).not.toContain("chat1");
  // Labels are of a few values each, and every metric that there is has its line.
  const labels = new Set([...body.matchAll(/[{,](\w+)="/g)].map(([, name]) => name));
  expect([...labels].sort()).toEqual(["event", "failure_code", "kind", "mode", "outcome", "quantile", "state", "status"]);
  const source = await readFile(new URL("../../src/http/metrics.ts", import.meta.url), "utf8");
  const named = [...source.matchAll(/(?:gauge|counter)\("(\w+)"/g)].map(([, name]) => `buildlane_${name}`);
  expect(named.length).toBeGreaterThan(15);
  expect(named.filter((name) => !new RegExp(`^${name}(\\{| )`, "m").test(body))).toEqual([]);
});

test("the counters that alerts watch are there before anything happened, so that the first time is an increase", async () => {
  await using api = await open();
  const { body } = await api.app.inject("/metrics");
  const counters = body.split("\n").filter((line) => /^buildlane_(events|attempts)_total\{/.test(line));
  for (const event of ["lease.lost", "outcome.refused", "webhook.delivered", "webhook.failed", "webhook.gone"]) expect(counters).toContain(`buildlane_events_total{event="${event}"} 0`);
  for (const code of ["worker_crashed", "out_of_memory", "timed_out"])
    for (const outcome of ["retrying", "failed"]) expect(counters).toContain(`buildlane_attempts_total{outcome="${outcome}",failure_code="${code}"} 0`);
  expect(counters.length).toBeLessThan(40);
  const guide = await readFile(new URL("../../docs/operating.md", import.meta.url), "utf8");
  const named = [...guide.matchAll(/event="([^"]+)"|failure_code=~"([^"]+)"/g)].flatMap(([, event, codes]) => (event ? [`event="${event}"`] : (codes ?? "").split("\\|").map((code) => `failure_code="${code}"`)));
  expect(named.length).toBeGreaterThan(3);
  expect(named.filter((label) => !counters.some((line) => line.includes(label) && line.endsWith(" 0")))).toEqual([]);

  await api.control.queue.waitFor((await api.submit({ code: "fail" })).id);
  expect((await api.app.inject("/metrics")).body).toContain('buildlane_attempts_total{outcome="failed",failure_code="run_failed"} 1\n');
});

test("while it drains a node is live and not ready, reads still work, and submissions are turned away", async () => {
  await using api = await open();
  const { id } = await api.submit();
  await api.control.queue.waitFor(id);
  expect([(await api.app.inject("/readyz")).statusCode, (await api.app.inject("/health")).json().data]).toEqual([200, expect.objectContaining({ status: "ok", database: true, draining: false })]);
  await api.control.queue.drain();
  expect((await api.app.inject("/livez")).statusCode).toBe(200);
  for (const path of ["/readyz", "/health"]) {
    const answer = await api.app.inject(path);
    expect([answer.statusCode, answer.json().code, Number(answer.headers["retry-after"]) >= 1]).toEqual([503, "draining", true]);
  }
  expect((await api.get(`/${id}`)).data.status).toBe("completed");
  const refused = await api.post("", request());
  expect([refused.statusCode, refused.json().code]).toEqual([503, "draining"]);
});
