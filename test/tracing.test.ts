/** The submitter's trace reaches every attempt, through the store, and nothing is needed for it to be absent. */
import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import type { Context, Span, SpanOptions, Tracer, TracerProvider } from "@opentelemetry/api";
import { afterEach, expect, test } from "vitest";
import { traceOf, traced } from "../src/tracing.js";
import { controlledQueue, request, server } from "./http/support.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;

interface Seen {
  name: string;
  parent: string | undefined;
  traceId: string | undefined;
  attributes: Record<string, unknown>;
  status: unknown;
  ended: boolean;
}

/** An SDK in miniature: remembers the spans that were made. */
function collectSpans(): Seen[] {
  const seen: Seen[] = [];
  const tracer = {
    startSpan(name: string, options: SpanOptions = {}, context: Context = ROOT_CONTEXT): Span {
      const parent = trace.getSpanContext(context);
      const one: Seen = { name, parent: parent?.spanId, traceId: parent?.traceId, attributes: { ...options.attributes }, status: undefined, ended: false };
      seen.push(one);
      return { setAttribute: (key: string, value: unknown) => void (one.attributes[key] = value), setStatus: (status: unknown) => void (one.status = status), end: () => void (one.ended = true), spanContext: () => ({ traceId, spanId: "1", traceFlags: 1 }) } as unknown as Span;
    },
  } as Tracer;
  trace.setGlobalTracerProvider({ getTracer: () => tracer } as TracerProvider);
  return seen;
}
afterEach(() => trace.disable());

test("every attempt of a job is a span below its submitter's, with its outcome", async () => {
  const spans = collectSpans();
  await using control = await controlledQueue({
    retryBaseMs: 1,
    run: async (_, { attempt }) => {
      if (attempt === 1) throw new Error("flaky: secret");
      return "built";
    },
  });
  await using app = await server(control.queue);
  const { id } = (await app.inject({ method: "POST", url: "/api/builds", headers: { traceparent }, payload: request() })).json().data;
  await control.queue.waitFor(id);
  const other = await control.queue.enqueue(request({ chatId: "c2" }) as never);
  await control.queue.waitFor(other.id);
  expect(spans.filter(({ attributes }) => attributes["buildlane.job.id"] === id)).toEqual([
    { name: "buildlane.attempt", parent: "b7ad6b7169203331", traceId, attributes: expect.objectContaining({ "buildlane.attempt": 1, "buildlane.chat.id": "chat1", "buildlane.outcome": "run_failed" }), status: { code: 2, message: "run_failed" }, ended: true },
    { name: "buildlane.attempt", parent: "b7ad6b7169203331", traceId, attributes: expect.objectContaining({ "buildlane.attempt": 2, "buildlane.outcome": "built" }), status: undefined, ended: true },
  ]);
  expect(spans.filter(({ attributes }) => attributes["buildlane.job.id"] === other.id).map(({ parent }) => parent)).toEqual([undefined, undefined]);
  expect(JSON.stringify(spans)).not.toContain("secret");
});

test.each(["startSpan", "setAttribute", "end"])("a span processor that throws at %s costs no job its outcome", async (fault) => {
  const broken = (name: string) => () => { if (name === fault) throw new Error("a processor's fault"); };
  const span = { setAttribute: broken("setAttribute"), setStatus: () => {}, end: broken("end"), spanContext: () => ({ traceId, spanId: "1", traceFlags: 1 }) } as unknown as Span;
  trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan: () => (broken("startSpan")(), span) }) as unknown as Tracer } as TracerProvider);
  await using control = await controlledQueue({ run: () => "built" });
  const { id } = await control.queue.enqueue(request() as never);
  expect(await control.queue.waitFor(id)).toMatchObject({ status: "completed", attempt: 1, result: "built" });
});

test("what is no trace is left out, and hinders nobody", async () => {
  expect(traceOf(traceparent)).toBe(traceparent);
  for (const bad of [undefined, "", "00-xyz", traceparent.toUpperCase(), `ff${traceparent.slice(2)}`, traceparent.replace(traceId, "0".repeat(32)), `${traceparent}-x`]) expect(traceOf(bad)).toBeNull();
  await using control = await controlledQueue();
  await using app = await server(control.queue);
  expect((await app.inject({ method: "POST", url: "/api/builds", headers: { traceparent: "nonsense" }, payload: request() })).statusCode).toBe(202);
});

test("without the optional package the runner stays as it is", async () => {
  const runner = { start: async () => undefined, stop: async () => undefined, run: async () => ({ kind: "built" as const, result: "", sourceMap: null, warnings: [], externals: [] }) };
  expect(await traced(runner, null)).toBe(runner);
});
