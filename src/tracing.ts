/**
 * OpenTelemetry, for those who have it: each attempt becomes a span below its submitter's trace. The API package is an
 * optional peer, looked for once at the start; without it, or without an SDK behind it, nothing is done. The only file
 * that knows it.
 */
import type { Span, SpanContext } from "@opentelemetry/api";
import type { Runner } from "./job.js";

const shape = /^[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})$/;

/** What is a trace by W3C Trace Context; null for anything else, which is nobody's error. */
export const traceOf = (text: string | undefined): string | null => (text !== undefined && shape.test(text) && !text.startsWith("ff") ? text : null);

function remote(traceparent: string | null | undefined): SpanContext | null {
  const [, traceId, spanId, flags] = shape.exec(traceparent ?? "") ?? [];
  return traceId === undefined || spanId === undefined ? null : { traceId, spanId, traceFlags: Number.parseInt(flags ?? "0", 16), isRemote: true };
}

type Api = typeof import("@opentelemetry/api");
const load = (): Promise<Api | null> => import("@opentelemetry/api").catch(() => null);

/** Does what a span processor of the user's may break, which is no reason for an attempt to fail. */
function quietly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** The runner, with a span around each attempt. */
export async function traced(runner: Runner, api?: Api | null): Promise<Runner> {
  const found = api === undefined ? await load() : api;
  if (!found) return runner;
  const { trace, ROOT_CONTEXT, SpanKind, SpanStatusCode, context } = found;
  return {
    start: () => runner.start(),
    stop: () => runner.stop(),
    async run(job, running) {
      const parent = remote(job.traceparent);
      const from = parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
      const attributes = { "buildlane.job.id": job.id, "buildlane.chat.id": job.chatId, "buildlane.chat.seq": job.chatSeq, "buildlane.attempt": job.attempt, ...(job.tenant === undefined ? {} : { "buildlane.tenant": job.tenant }) };
      const span: Span | undefined = quietly(() => trace.getTracer("buildlane").startSpan("buildlane.attempt", { kind: SpanKind.CONSUMER, attributes }, from));
      if (!span) return runner.run(job, running);
      try {
        const outcome = await context.with(trace.setSpan(from, span), () => runner.run(job, running));
        quietly(() => {
          if (outcome.kind === "failed") span.setStatus({ code: SpanStatusCode.ERROR, message: outcome.failure.code });
          span.setAttribute("buildlane.outcome", outcome.kind === "failed" ? outcome.failure.code : outcome.kind);
        });
        return outcome;
      } catch (error) {
        // Aborted, or a worker out of reach: the name says enough, and the message may hold what is not a span's business.
        quietly(() => span.setStatus({ code: SpanStatusCode.ERROR, message: running.signal.aborted ? "aborted" : "broken" }));
        throw error;
      } finally {
        quietly(() => span.end());
      }
    },
  };
}
