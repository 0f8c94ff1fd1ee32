/** The API's document: valid, whole, true. */
import { readFile } from "node:fs/promises";
import { Validator } from "@seriousme/openapi-schema-validator";
import fc from "fast-check";
import Fastify from "fastify";
import { expect, test } from "vitest";
import { errorShapes } from "../../src/errors.js";
import { buildRoutes } from "../../src/fastify.js";
import type { HistoryEvent } from "../../src/job.js";
import { fuzzApi } from "../fuzz/run.js";
import { play, programs } from "../store/programs.js";
import { openMemory } from "../store/stores.js";
import { controlledQueue, server, withFaults } from "./support.js";

interface Operation {
  operationId: string;
  summary?: string;
  tags?: string[];
  security?: { apiKey?: string[] }[];
  parameters?: { in: string; name: string }[];
  responses: Record<string, { description: string; content?: unknown }>;
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown>; securitySchemes: Record<string, unknown> };
}

async function documentOf(): Promise<Document> {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  return (await app.inject("/openapi.json")).json() as Document;
}
const operations = (document: Document) => Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })));

test("is a valid OpenAPI 3.1 document, and every reference in it leads somewhere", async () => {
  const document = await documentOf();
  const checked = await new Validator().validate(JSON.parse(JSON.stringify(document)) as never);
  expect([checked.errors ?? [], checked.valid]).toEqual([[], true]);
  expect(document.openapi).toMatch(/^3\.1\./);
  const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name as string);
  expect(references.length).toBeGreaterThan(50);
  expect(references.filter((name) => document.components.schemas[name] === undefined)).toEqual([]);
});

test("has every operation named once, in a group, with its parameters, what it needs and how it fails", async () => {
  const document = await documentOf();
  const all = operations(document);
  expect(new Set(all.map(({ operationId }) => operationId)).size).toBe(all.length);
  for (const { operationId, path, summary, tags, security, parameters = [], responses } of all) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
    expect([operationId, parameters.filter((one) => one.in === "path").map(({ name }) => name)]).toEqual([operationId, inPath]);
    expect([operationId, (summary ?? "").length > 4, tags?.length, Object.keys(responses).some((status) => /^2/.test(status)), responses["500"] !== undefined]).toEqual([operationId, true, 1, true, true]);
    // A page that holds nothing, on the machine itself only, since a link carries no key.
    const isPage = operationId === "inspectorPage";
    const open = isPage || !path.startsWith("/api/builds");
    expect([operationId, security?.length === 0, responses["401"] === undefined, responses["403"]?.description.includes("`forbidden`") ?? false]).toEqual([operationId, open, open, isPage || !open]);
    for (const scope of security?.flatMap((one) => one.apiKey ?? []) ?? []) expect(["submit", "read", "operate", "admin"]).toContain(scope);
  }
});

test("tells of every property that an event adds, and so does the page about events", async () => {
  const { properties } = (await documentOf()).components.schemas["EventData"] as { properties: Record<string, { description?: string }> };
  const memory = await openMemory();
  // A run's time is the node's to say, and the rest is added on the way to a stream.
  const added = new Set(["runMs", "failure", "queuePosition", "estimatedWaitTime", "estimatedWaitTimeP90"]);
  // The other stores give the same events (test/store/model.test.ts).
  for (const program of fc.sample(programs, { numRuns: 400, seed: 7 })) {
    const { transcript } = await play(await memory.reset(), program);
    const [, events] = transcript.find((one) => (one as unknown[])[0] === "events") as [string, HistoryEvent[]];
    for (const { data } of events) for (const name of Object.keys(data)) added.add(name);
  }
  await memory.close();
  const always = ["jobId", "chatId", "tenant", "chatSeq", "status", "attempt", "at"];
  const told = Object.entries(properties).filter(([name]) => !always.includes(name));
  expect(told.map(([name]) => name).sort()).toEqual([...added].sort());
  expect(told.filter(([, { description }]) => description === undefined)).toEqual([]);
  const page = await readFile(new URL("../../docs/concepts.md", import.meta.url), "utf8");
  expect([...added].filter((name) => !page.slice(page.indexOf("## Events")).includes(`\`${name}\``))).toEqual([]);
});

test("documents the routes that are registered, and no others", async () => {
  const document = await documentOf();
  await using control = await controlledQueue();
  const host = Fastify();
  const registered = new Set<string>();
  host.addHook("onRoute", ({ url, method, schema }) => {
    // What refuses other methods is hidden; HEAD comes with GET.
    if ((schema as { hide?: boolean } | undefined)?.hide) return;
    for (const one of [method].flat()) if (one !== "HEAD") registered.add(`${one} ${url.replace(/(.)\/$/, "$1").replaceAll(/:(\w+)/g, "{$1}")}`);
  });
  await host.register(buildRoutes, { queue: control.queue, prefix: "/api/builds", documented: true } as never);
  await host.ready();
  await host.close();
  const outside = ["GET /livez", "GET /readyz", "GET /health", "GET /metrics", "GET /openapi.json"];
  expect(operations(document).map(({ method, path }) => `${method} ${path}`).sort()).toEqual([...registered, ...outside].sort());
});

const codesOf = ({ responses }: Operation, status: number) => [...(responses[status]?.description ?? "").matchAll(/`([a-z_]+)`/g)].map(([, code]) => code);

test("says of every operation that it is refused while the node stops", async () => {
  const all = operations(await documentOf());
  expect(all.filter((one) => !codesOf(one, 503).includes("draining")).map(({ operationId }) => operationId)).toEqual([]);
});

test("says of every operation that may get a body, wanted or not, how one is refused that cannot be read", async () => {
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  const all = operations((await app.inject("/openapi.json")).json() as Document).filter(({ method }) => method !== "GET");
  expect(all.length).toBeGreaterThan(15);
  for (const operation of all) {
    const url = operation.path.replaceAll(/\{\w+\}/g, "a");
    for (const [type, status, code] of [["text/plain", 415, "unsupported_media_type"], ["application/json", 400, "invalid_json"]] as const) {
      const answer = await app.inject({ method: operation.method as "POST", url, headers: { "content-type": type }, payload: "{" });
      expect([operation.operationId, answer.statusCode, answer.json().code]).toEqual([operation.operationId, status, code]);
      expect([operation.operationId, codesOf(operation, status)]).toEqual([operation.operationId, expect.arrayContaining([code])]);
    }
    expect([operation.operationId, codesOf(operation, 413)]).toEqual([operation.operationId, expect.arrayContaining(["payload_too_large"])]);
  }
});

test("says that a source map is an object, and it is one", async () => {
  await using control = await controlledQueue();
  const map = { version: 3, sources: ["message.tsx"], mappings: "AAAA" };
  await using app = await server(withFaults(control.queue, { output: async () => ({ status: "completed", result: "1", sourceMap: JSON.stringify(map) }) as never }));
  const document = (await app.inject("/openapi.json")).json() as Document;
  const answer = await app.inject("/api/builds/a/output.map");
  expect([answer.statusCode, answer.json()]).toEqual([200, map]);
  const { content } = document.paths["/api/builds/{id}/output.map"]?.["get"]?.responses["200"] as { content: Record<string, { schema: unknown }> };
  expect(content["application/json"]?.schema).toMatchObject({ type: "object", properties: { version: { type: "number" } }, required: ["version"] });
});

test("names every error code that the service can answer with, and no other", async () => {
  const document = await documentOf();
  const named = new Set([...JSON.stringify(document.paths).matchAll(/`([a-z_]+)`/g)].map(([, code]) => code as string).filter((code) => code in errorShapes));
  // These come before any route is found, or only from the module.
  const elsewhere = ["not_found", "method_not_allowed", "database_busy"];
  expect([...new Set([...named, ...elsewhere])].sort()).toEqual(Object.keys(errorShapes).sort());
  const { properties } = document.components.schemas["Error"] as { properties: { code: { enum: string[] } } };
  expect([...properties.code.enum].sort()).toEqual(Object.keys(errorShapes).sort());
});

test("tells the truth under random requests: no fault, no unknown status, nothing off its schema", async () => {
  const { requests, succeeded, operations: count, wrong } = await fuzzApi({ runs: 1000, seed: 20_261_125 });
  expect(wrong).toEqual([]);
  expect(requests).toBe(1000);
  // Most were answered with success at least once, so the run did not fail at the door.
  expect([...succeeded]).toEqual(expect.arrayContaining(["submitJob", "getJob", "getOutput", "listJobs", "getChat", "getStats", "listDeadLetters", "cancelJob", "createKey", "createChatToken"]));
  expect(succeeded.size).toBeGreaterThan(count / 2);
}, 60_000);
