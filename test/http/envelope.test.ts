/** Every error leaves in one shape, whoever made it, and none tells what is nobody's business. */
import { connect } from "node:net";
import { createGunzip, gzipSync } from "node:zlib";
import Fastify from "fastify";
import { expect, test } from "vitest";
import { BuildlaneError, databaseUnavailable } from "../../src/errors.js";
import { buildRoutes } from "../../src/fastify.js";
import { controlledQueue, listening, memoryLog, request, server, withFaults } from "./support.js";

const url = "/api/builds";
const envelope = (statusCode: number, code: string) => ({ ok: false, statusCode, code, message: expect.stringMatching(/.{10}/), retryable: expect.any(Boolean), requestId: expect.stringMatching(/^[\w.-]{1,128}$/) });
const tooLarge = Buffer.from(JSON.stringify(request({ code: "x".repeat(70_000) })));
const json = { "content-type": "application/json" };

type Row = ["GET" | "POST", string, Record<string, string>, string | Buffer | undefined, number, string];
const rows: Row[] = [
  ["GET", "/nowhere", {}, undefined, 404, "not_found"],
  ["GET", `${url}/x/y/z`, {}, undefined, 404, "not_found"],
  ["GET", `${url}/nope`, {}, undefined, 404, "job_not_found"],
  ["POST", `${url}/nope/cancel`, {}, undefined, 404, "job_not_found"],
  ["POST", `${url}/nope/retry`, {}, undefined, 404, "job_not_found"],
  ["POST", `${url}/%E2%82%AC/retry`, {}, undefined, 404, "job_not_found"],
  ["GET", `${url}/nope/output`, {}, undefined, 404, "job_not_found"],
  ["POST", `${url}/chat/nope/pause`, {}, undefined, 404, "not_found"],
  ["POST", url, json, "{", 400, "invalid_json"],
  ["POST", url, json, '{"__proto__":1}', 400, "invalid_json"],
  ["POST", url, json, Buffer.from([0x22, 0xff, 0x22]), 400, "invalid_json"],
  ["POST", url, json, "", 400, "validation_failed"],
  ["POST", url, json, "[]", 400, "validation_failed"],
  ["POST", url, { "content-type": "text/plain" }, "{}", 415, "unsupported_media_type"],
  ["POST", url, { "content-type": "application/xml" }, "<a/>", 415, "unsupported_media_type"],
  ["POST", url, { ...json, "content-encoding": "gzip" }, gzipSync(JSON.stringify(request())), 415, "unsupported_media_type"],
  ["POST", `${url}/pause`, { ...json, "content-encoding": "br" }, "{}", 415, "unsupported_media_type"],
  ["POST", url, { "content-type": "application/json; charset=utf-16" }, JSON.stringify(request()), 415, "unsupported_media_type"],
  ["POST", url, json, tooLarge, 413, "payload_too_large"],
  ["GET", `${url}/%zz`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/a%00b`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/${"x".repeat(101)}`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/chat/${"%20".repeat(34)}`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?limit=0`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?cursor=x`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/lanes?cursor=${Buffer.from('[99999999999,"a"]').toString("base64url")}`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/lanes?cursor=${Buffer.from('[1,"a\\u0000"]').toString("base64url")}`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?createdAfter=yesterday`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?createdAfter=0000-01-01T00:00:00Z`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?createdBefore=0000-12-31T23:59:59Z`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?createdBefore=0001-01-01T00:00:00%2B00:01`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?createdAfter=9999-12-31T23:59:59-00:01`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}?state=failed`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/dead-letters?chat=c1`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/dead-letters/groups?failure=timed_out`, {}, undefined, 400, "validation_failed"],
  ["GET", `${url}/chat/c/events`, { accept: "application/json" }, undefined, 406, "not_acceptable"],
];
test.each(rows.map((row) => [`${row[0]} ${row[1].slice(0, 60)}`, row[4], row[5], row] as const))("%s answers %i %s", async (_, status, code, [method, path, headers, payload]) => {
  await using control = await controlledQueue({ maxBodyBytes: 65_536 });
  await using app = await server(control.queue);
  const answer = await app.inject({ method, url: path, headers, ...(payload === undefined ? {} : { payload }) });
  expect(answer.json()).toMatchObject(envelope(status, code));
  expect([answer.statusCode, answer.headers["content-type"]]).toEqual([status, "application/json; charset=utf-8"]);
  const problem = await app.inject({ method, url: path, headers: { ...headers, accept: "application/problem+json" }, ...(payload === undefined ? {} : { payload }) });
  const { code: sameCode, status: sameStatus, type, title, detail, instance, requestId } = problem.json();
  expect([problem.headers["content-type"], sameCode, sameStatus]).toEqual([expect.stringMatching(/^application\/problem\+json/), code, status]);
  expect([type, title.length > 3, detail, instance]).toEqual([`urn:buildlane:error:${code}`, true, answer.json().message, `urn:request:${requestId}`]);
});

test.each([
  ["DELETE", url, "GET, HEAD, POST"],
  ["PUT", `${url}/some-id`, "GET, HEAD"],
  ["GET", `${url}/batch`, "POST"],
  ["GET", `${url}/some-id/cancel`, "POST"],
  ["HEAD", `${url}/some-id/cancel`, "POST"],
  ["POST", `${url}/stats`, "GET, HEAD"],
  ["HEAD", `${url}/some-id/events`, "GET"],
  ["OPTIONS", url, "GET, HEAD, POST"],
  ["DELETE", "/livez", "GET, HEAD"],
] as const)("%s %s answers 405 and what is allowed", async (method, path, allow) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method, url: path, headers: { "content-type": "text/odd" }, ...(method === "DELETE" || method === "PUT" ? { payload: "{" } : {}) });
  expect([answer.statusCode, answer.headers.allow]).toEqual([405, allow]);
  if (method !== "HEAD") expect(answer.json()).toMatchObject(envelope(405, "method_not_allowed"));
});

test.each([
  ["a missing field", { messageId: "m", code: "1" }, ["/chatId"]],
  ["several at once", {}, ["/chatId", "/messageId", "/code"]],
  ["an empty chat", request({ chatId: "" }), ["/chatId"]],
  ["a number for code", request({ code: 5 }), ["/code"]],
  ["an unknown field", request({ nope: 1 }), ["/nope"]],
  ["a name that needs escapes", request({ "a/b~c": 1 }), ["/a~1b~0c"]],
  ["an unknown option", request({ options: { plugins: [] } }), ["/options/plugins"]],
  ["NUL in code", request({ code: "a\0b" }), ["/code"]],
  ["NUL in an id", request({ messageId: "a\0b" }), ["/messageId"]],
  ["a chat of more than 100 bytes in a URL", request({ chatId: "ä".repeat(17) }), ["/chatId"]],
  ["a priority out of range", request({ priority: 11 }), ["/priority"]],
  ["a climbing path", { chatId: "c", messageId: "m", files: { "../a.ts": "1" }, entry: "../a.ts" }, ["/files/..~1a.ts"]],
])("%s is refused with its place", async (_, payload, paths) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, payload });
  expect(answer.json()).toMatchObject({ ...envelope(400, "validation_failed"), issues: paths.map((path) => ({ path })) });
  const batch = await app.inject({ method: "POST", url: `${url}/batch`, payload: { jobs: [request(), payload] } });
  expect(batch.json()).toMatchObject({ code: "validation_failed", issues: paths.map((path) => ({ path: `/jobs/1${path}` })) });
});

test.each([
  ["nothing at all", undefined, "Expected an object with chatId, messageId and code (or files with an entry), got nothing."],
  ["a list", [], "Expected an object with chatId, messageId and code (or files with an entry), got an array."],
  ["no chat", { messageId: "m", code: "1" }, "/chatId: Expected a text of 1 to 100 bytes as it stands in a URL, got nothing."],
  ["a number for a chat", request({ chatId: 7 }), "/chatId: Expected a text of 1 to 100 bytes as it stands in a URL, got a number."],
  ["an empty chat", request({ chatId: "" }), "/chatId: Expected a text of 1 to 100 bytes as it stands in a URL, got one of 0 bytes."],
  ["a chat that is long in a URL only", request({ chatId: "ä".repeat(17) }), "/chatId: Expected a text of 1 to 100 bytes as it stands in a URL, got one of 102 bytes."],
  ["NUL in a message's id", request({ messageId: "a\0" }), "/messageId: Expected a text without NUL and lone surrogates."],
  ["nothing to build", { chatId: "c", messageId: "m" }, "/code: Expected code, or files with an entry, got neither."],
  ["a list for code", request({ code: [] }), "/code: Expected a text, got an array."],
  ["NUL in code", request({ code: "a\0b" }), "/code: Expected a text without NUL and lone surrogates."],
  ["a priority out of range", request({ priority: 11 }), "/priority: Expected an integer from -10 to 10, got 11."],
  ["a text for a number", request({ timeoutMs: "5000" }), "/timeoutMs: Expected an integer from 100 to 3600000, got a text."],
  ["another word", request({ supersede: true }), "/supersede: Expected one of pending, running, got true."],
  ["a language that is not built", request({ options: { loader: "py" } }), "/options/loader: Expected one of tsx, ts, jsx, js, json, css."],
  ["a text for a flag", request({ options: { minify: "yes" } }), "/options/minify: Expected true or false."],
])("%s is refused in words that say what to send", async (_, payload, message) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  expect((await app.inject({ method: "POST", url, headers: json, ...(payload === undefined ? {} : { payload }) })).json().message).toBe(message);
});

test("what is wrong in several places is told in sentences", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const told = async (path: string, payload: object) => (await app.inject({ method: "POST", url: url + path, payload })).json().message;
  expect(await told("", request({ priority: 11, maxAttempts: 0 }))).toBe("/priority: Expected an integer from -10 to 10, got 11. /maxAttempts: Expected an integer from 1 to 25, got 0.");
  expect(await told("/keys", { name: 5, tenant: 5 })).toBe("/name: Invalid input: expected string, received number. /tenant: Invalid input: expected string, received number.");
});

test.each([
  ["{bad", "unexpected character at position 1"],
  ['{"a":1,}', "unexpected character at position 7"],
  ['{"a":', "it ends too early"],
  ["nul", "it ends too early"],
  ["oops", "unexpected character 'o'"],
  ['{"__proto__":1}', "it holds a forbidden key (__proto__ or constructor)"],
])("the body %s is refused with what is wrong in it", async (payload, why) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  expect((await app.inject({ method: "POST", url, headers: json, payload })).json().message).toBe(`The body is not valid JSON: ${why}.`);
});

test("a body in a content coding or another charset is refused in words that say what to send, whatever it holds", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const payload = JSON.stringify(request());
  const post = (headers: Record<string, string>) => app.inject({ method: "POST", url, headers: { ...json, ...headers }, payload });
  for (const coding of ["gzip", "GZIP", "identity, gzip", "x"]) {
    const answer = await post({ "content-encoding": coding });
    expect([answer.statusCode, answer.headers["accept-encoding"], answer.json().message]).toEqual([415, "identity", "Send the body as it is, without a content coding such as gzip."]);
  }
  for (const charset of ["utf-16", '"ISO-8859-1"', "utf-8x"]) {
    const answer = await post({ "content-type": `application/json; charset=${charset}` });
    expect([answer.statusCode, answer.headers["accept-encoding"], answer.json().message]).toEqual([415, undefined, "Send the body in UTF-8."]);
  }
  const plain = [{ "content-encoding": "identity" }, { "content-encoding": "Identity, identity" }, { "content-encoding": "" }, ...["utf-8", '"UTF-8"', "Utf8; x=y"].map((charset) => ({ "content-type": `application/json; Charset=${charset}` }))];
  for (const headers of plain) expect([headers, (await post(headers as Record<string, string>)).statusCode]).toEqual([headers, 202]);
  // Where there is no body, nothing is wrong with its form.
  expect((await app.inject({ method: "POST", url: `${url}/pause`, headers: { "content-encoding": "gzip" } })).statusCode).toBe(200);
  expect((await app.inject({ url: `${url}/stats`, headers: { "content-encoding": "gzip", "content-type": "application/json; charset=utf-16" } })).statusCode).toBe(200);
});

test("a body that the application around has decoded is taken", async () => {
  await using control = await controlledQueue();
  const host = Fastify();
  host.addHook("preParsing", async ({ headers }, _reply, payload) => Object.assign(payload.pipe(createGunzip()), { receivedEncodedLength: Number(headers["content-length"]) }));
  await host.register(buildRoutes, { queue: control.queue, prefix: url });
  const answer = await host.inject({ method: "POST", url, headers: { ...json, "content-encoding": "gzip" }, payload: gzipSync(JSON.stringify(request())) });
  expect(answer.statusCode).toBe(202);
  await host.close();
});

test("what is too large is refused with the limit", async () => {
  await using control = await controlledQueue({ maxBodyBytes: 65_536 });
  await using app = await server(control.queue);
  expect((await app.inject({ method: "POST", url, headers: json, payload: tooLarge })).json().message).toBe("The body is larger than the 65536 bytes that are allowed.");
});

test.each([`${url}?limit=x`, `${url}/chat/c?limit=201`, `${url}/audit?limit=0`])("%s says which numbers may be asked for", async (path) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  expect((await app.inject(path)).json().message).toBe("/limit: Expected an integer from 1 to 200.");
});

test("a time that is none is refused in words that say which may be sent, and the first and the last are taken", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const message = "/createdAfter: Expected an ISO 8601 time with its offset, such as 2026-01-31T12:00:00Z, in the years 0001 to 9999.";
  for (const time of ["yesterday", "2026-01-31T12:00:00", "0000-01-01T00:00:00Z"]) expect((await app.inject(`${url}?createdAfter=${time}`)).json().message).toBe(message);
  expect((await app.inject(`${url}?createdAfter=0001-01-01T00:00:00Z&createdBefore=9999-12-31T23:59:59.999Z`)).statusCode).toBe(200);
});

test("a lone surrogate is refused with its place", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, headers: json, payload: '{"chatId":"c","messageId":"m","code":"\\ud800"}' });
  expect([answer.statusCode, answer.json().issues[0].path]).toEqual([400, "/code"]);
});

test.each([
  [`${url}/batch`, { jobs: [request()], nope: 1 }, "/nope"],
  [`${url}/batch`, { jobs: {} }, "/jobs"],
  [`${url}/batch`, { jobs: [] }, "/jobs"],
  [`${url}/pause`, { now: true }, "/now"],
  [`${url}/some-id/cancel`, { reason: "x" }, "/reason"],
  [`${url}/dead-letters/redrive`, { ids: ["a"], nope: 1 }, "/nope"],
  [`${url}/dead-letters/redrive`, { ids: ["a", 5] }, "/ids/1"],
  [`${url}/dead-letters/discard`, { filter: { failureCode: "nope" } }, "/filter/failureCode"],
])("%s refuses %j", async (path, payload, issue) => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url: path, payload });
  expect([answer.statusCode, answer.json().issues[0].path]).toEqual([400, issue]);
});

test("code over its limit is 413 although the body is not", async () => {
  await using control = await controlledQueue({ maxCodeBytes: 1000 });
  await using app = await server(control.queue);
  const answer = await app.inject({ method: "POST", url, payload: request({ code: "ä".repeat(501) }) });
  expect(answer.json()).toMatchObject(envelope(413, "payload_too_large"));
});

test("a database that is away is 503 with the time to try again", async () => {
  await using control = await controlledQueue();
  const away = async () => Promise.reject(databaseUnavailable(new Error("connect ECONNREFUSED 10.1.2.3:5432"), 1500));
  await using app = await server(withFaults(control.queue, { enqueue: away, stats: away, get: away, ready: async () => ({ ready: false, draining: false, database: false }) }));
  for (const answer of [await app.inject({ method: "POST", url, payload: request() }), await app.inject(`${url}/stats`), await app.inject(`${url}/some-id`), await app.inject("/readyz"), await app.inject("/health")]) {
    expect(answer.json()).toMatchObject({ ...envelope(503, "database_unavailable"), retryable: true });
    expect(answer.body).not.toContain("10.1.2.3");
    expect(Number(answer.headers["retry-after"])).toBeGreaterThanOrEqual(1);
  }
  expect((await app.inject({ method: "POST", url, payload: request() })).headers["retry-after"]).toBe("2");
  expect((await app.inject("/livez")).statusCode).toBe(200);
  expect((await app.inject("/metrics")).body).toContain("buildlane_database_up 0");
});

test("what breaks inside is 500 without its words, and is logged without the code", async () => {
  await using control = await controlledQueue();
  const { logger, lines } = memoryLog();
  const breaks = async () => Promise.reject(new TypeError("cannot read secret of undefined\nparams: canary-code"));
  await using app = await server(withFaults(control.queue, { enqueue: breaks }), { logger });
  const answer = await app.inject({ method: "POST", url, headers: { "x-request-id": "req-1" }, payload: request({ code: "canary-code" }) });
  expect(answer.json()).toMatchObject({ ...envelope(500, "internal_error"), requestId: "req-1" });
  expect(answer.body).not.toMatch(/secret|TypeError|canary/);
  const [line] = lines.map((one) => JSON.parse(one) as Record<string, unknown>);
  expect(line).toMatchObject({ event: "request.failed", requestId: "req-1", method: "POST", error: "cannot read secret of undefined" });
  expect(JSON.stringify(line?.["at"])).toContain("envelope.test.ts");
  expect(lines.join("")).not.toMatch(/canary|\/work|"\(\/|node_modules\//);
});

test("an answer that does not fit its schema is 500", async () => {
  await using control = await controlledQueue();
  await using app = await server(withFaults(control.queue, { get: async () => ({ id: 5 }) as never }));
  expect((await app.inject(`${url}/some-id`)).json()).toMatchObject(envelope(500, "internal_error"));
});

test("an answer holds nothing that its schema does not declare", async () => {
  await using control = await controlledQueue();
  const { id } = await control.queue.enqueue(request() as never);
  const job = await control.queue.waitFor(id);
  await using app = await server(withFaults(control.queue, { get: async () => ({ ...job, secretInternal: 1 }) as never }));
  const { data } = (await app.inject(`${url}/${id}`)).json();
  expect(data).toEqual(JSON.parse(JSON.stringify(job)));
});

test("every refusal of the queue keeps its status and code", async () => {
  await using control = await controlledQueue();
  for (const [code, status] of [["rate_limited", 429], ["queue_full", 503], ["draining", 503], ["batch_too_large", 422]] as const) {
    await using app = await server(withFaults(control.queue, { enqueue: async () => Promise.reject(new BuildlaneError(code, "Some facts about it.", { retryAfterMs: 10 })) }));
    const answer = await app.inject({ method: "POST", url, payload: request() });
    expect(answer.json()).toMatchObject(envelope(status, code));
    expect(answer.headers["retry-after"]).toBe("1");
  }
});

test("a harmless request id is kept and sent back, another is replaced", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const idFor = async (given: string) => (await app.inject({ url: "/livez", headers: { "x-request-id": given } })).headers["x-request-id"];
  expect(await idFor("abc.D-1_2")).toBe("abc.D-1_2");
  for (const bad of ["a b", "x".repeat(129), "<script>"]) expect(await idFor(bad)).toMatch(/^[\w.-]{1,128}$/);
  const [one, two] = [await idFor(""), await idFor("")];
  expect(one).not.toBe(two);
  expect((await app.inject(`${url}/%zz`)).headers["x-request-id"]).toMatch(/^[\w.-]{1,128}$/);
});

test("what is not HTTP gets the envelope, too", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const { port } = new URL(await listening(app));
  const answer = await new Promise<string>((resolve) => {
    let text = "";
    const socket = connect(Number(port), "127.0.0.1", () => socket.write("nonsense\r\n\r\n"));
    socket.setEncoding("utf8").on("data", (part: string) => (text += part)).on("close", () => resolve(text));
  });
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(JSON.parse(answer.split("\r\n\r\n")[1] as string)).toMatchObject({ ok: false, statusCode: 400, code: "validation_failed" });
});
