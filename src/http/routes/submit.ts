/** The way in: one job, or many. Answers when what was accepted is durable. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { AcceptedJob, BuildRequest, FinishedJob } from "../../job.js";
import { isFinal } from "../../job.js";
import { acceptedAsIs, documented, submitted } from "../compilers.js";
import type { Api, RouteContext } from "../context.js";
import { says, withHeaders } from "../components.js";
import { finishedWithin, waitSeconds } from "../prefer.js";
import { batchBody, batchHeaders, submitBody, submitHeaders } from "../requests.js";
import { accepted, job, ok } from "../schemas.js";
import { validationFailed } from "../../errors.js";
import { collectIssues } from "../../issues.js";
import { z } from "zod";

const refusals = ["chat_queue_full", "queue_full", "rate_limited", "overloaded", "idempotency_conflict", "job_not_found", "payload_too_large", "unsupported_media_type", "invalid_json", "draining"] as const;
/** When to ask for the job, seconds: most are done by then. */
const askAgainSeconds = 1;

const location = { Location: "The job." };
const rateHeaders = { "RateLimit-Policy": "The limits that apply, where some are set: `\"chat\";q=120;w=60`, quota and window in seconds.", RateLimit: "What is left of each: `\"chat\";r=119;t=1`, and seconds until it is whole." };
const replayedHeader = { "Idempotent-Replayed": "`true` when the key had been used for this request before." };
const applied = { "Preference-Applied": "`wait=N`: how long was waited at most, seconds." };
const acceptedAnswer = says(ok(accepted), "Accepted and durable.", withHeaders({ ...location, ...rateHeaders, "Retry-After": "When to ask for it, seconds.", ...replayedHeader, ...applied }));
const finishedAnswer = says(ok(job), "The finished job: with `Prefer: wait`, or when an idempotency key is replayed after the job's end.", withHeaders({ ...location, ...replayedHeader, ...applied }));
const batchAnswer = says(ok(z.object({ jobs: z.array(accepted) })), "Accepted and durable, in order.", withHeaders(replayedHeader));

/** What a client or the host's own tracing sent along. */
const traceOf = ({ headers }: FastifyRequest): string | undefined => (typeof headers["traceparent"] === "string" ? headers["traceparent"] : undefined);

export function submitRoutes(app: Api, { jobs, caller, rates, clock, stays }: RouteContext): void {
  /** Counts it against the caller's rate, and says what is left whether it was accepted or not. */
  async function limited<T>(request: FastifyRequest, reply: FastifyReply, count: number, wanted: unknown[], submit: () => Promise<T>): Promise<T> {
    if (!rates.apply) return submit();
    const who = caller(request) ?? "anybody";
    const chats = new Set(wanted.map((one) => (one as { chatId?: unknown } | null)?.chatId));
    const [chatId] = chats;
    try {
      rates.take(who, count);
      return await submit();
    } finally {
      await rates.tell(reply, who, jobs(request), chats.size === 1 && typeof chatId === "string" ? chatId : undefined);
    }
  }

  app.route({
    method: "POST",
    url: "/",
    validatorCompiler: submitted,
    serializerCompiler: acceptedAsIs as never,
    schema: documented({
      operationId: "submitJob",
      needs: "submit",
      summary: "Submit code to be built",
      description: "Accepts a job into its chat's lane. Jobs of a chat are built one at a time, in the order of acceptance. A replayed `Idempotency-Key` answers with the same job and `Idempotent-Replayed: true`: 202 while it is unfinished, 200 when it is final.",
      tags: ["submit"],
      headers: submitHeaders,
      body: submitBody,
      response: { 200: finishedAnswer, 202: acceptedAnswer },
      errors: refusals,
    }),
    handler: async (request, reply) => {
      const queue = jobs(request);
      const idempotencyKey = request.headers["idempotency-key"];
      const { replayed, ...taken } = await limited(request, reply, 1, [request.body], () => queue.enqueue(request.body as BuildRequest, { idempotencyKey, traceparent: traceOf(request) }));
      reply.header("location", `${app.prefix}/${taken.id}`);
      if (replayed) reply.header("idempotent-replayed", "true");
      const seconds = waitSeconds(request.headers.prefer);
      let finished: FinishedJob | null = null;
      if (replayed && isFinal(taken.status)) finished = (await queue.get(taken.id)) as FinishedJob;
      else if (seconds !== null) {
        reply.header("preference-applied", `wait=${seconds}`);
        finished = await finishedWithin(taken.id, seconds, { queue, clock, stays, response: reply.raw, caller: caller(request) });
      }
      if (finished) return reply.code(200).send({ ok: true, data: finished });
      return reply.code(202).header("retry-after", askAgainSeconds).send({ ok: true, data: taken as AcceptedJob });
    },
  });

  app.route({
    method: "POST",
    url: "/batch",
    validatorCompiler: submitted,
    serializerCompiler: acceptedAsIs as never,
    schema: documented({
      operationId: "submitBatch",
      needs: "submit",
      summary: "Submit many, all or nothing",
      description: "Up to 1,000 requests, accepted together and in their order. A replayed `Idempotency-Key` answers with the same jobs: 200 when all of them are final, else 202.",
      tags: ["submit"],
      headers: batchHeaders,
      body: batchBody,
      response: { 200: batchAnswer, 202: batchAnswer },
      errors: [...refusals, "batch_too_large"],
    }),
    handler: async (request, reply) => {
      const idempotencyKey = request.headers["idempotency-key"];
      const wanted = jobsOf(request.body);
      const { jobs: taken, replayed } = await limited(request, reply, wanted.length, wanted, () => jobs(request).enqueueMany(wanted, { idempotencyKey, traceparent: traceOf(request) }));
      if (replayed) reply.header("idempotent-replayed", "true");
      const done = replayed && taken.every(({ status }) => isFinal(status));
      if (!done) reply.header("retry-after", askAgainSeconds);
      return reply.code(done ? 200 : 202).send({ ok: true, data: { jobs: taken } });
    },
  });
}

/** The batch's own shape; each job in it is checked by the queue. */
function jobsOf(body: unknown): BuildRequest[] {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw validationFailed([{ path: "", message: "Expected an object with jobs." }]);
  const issues = collectIssues();
  for (const name of Object.keys(body)) if (name !== "jobs") issues.add([name], "Unknown field.");
  issues.refuse();
  const { jobs } = body as { jobs?: unknown };
  if (!Array.isArray(jobs)) throw validationFailed([{ path: "/jobs", message: "Expected an array of jobs." }]);
  return jobs as BuildRequest[];
}
