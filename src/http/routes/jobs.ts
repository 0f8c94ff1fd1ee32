/** One job: how it stands, what it built, and what a person may do about it. Also the list of all. */
import { z } from "zod";
import { BuildlaneError } from "../../errors.js";
import type { Output } from "../../store/store.js";
import { documented, sent } from "../compilers.js";
import type { Api, RouteContext } from "../context.js";
import { says, withHeaders } from "../components.js";
import { etagOf, matches } from "../etag.js";
import { refuseBody } from "../json-body.js";
import { jobParams, listQuery, wanted } from "../requests.js";
import { accepted, job, jobSummary, ok, okPage, why } from "../schemas.js";
import { summary } from "../summary.js";
import type { FastifyReply } from "fastify";

const cancelled = z.object({ id: z.string(), status: says(z.enum(["cancelled", "requested", "already"]), "`requested`: it runs and is being stopped; `already`: it had been cancelled before.") });

const notModified = says(z.undefined(), "`If-None-Match` named what is there.");

export function jobRoutes(app: Api, { jobs, watched }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/",
    schema: documented({
      operationId: "listJobs",
      needs: "read",
      summary: "List and filter jobs, newest first",
      tags: ["jobs"],
      querystring: listQuery,
      response: { 200: says(okPage(z.array(jobSummary)), "One page.") },
    }),
    handler: async (request) => {
      const { include, ...query } = request.query;
      const { jobs: found, nextCursor } = await jobs(request).list({ ...query, include: wanted(include) });
      return { ok: true as const, data: found.map((one) => summary(one, wanted(include))), meta: { nextCursor } };
    },
  });

  app.route({
    method: "GET",
    url: "/:id",
    schema: documented({ operationId: "getJob", needs: "read", chatToken: true, summary: "A job", tags: ["jobs"], params: jobParams, response: { 200: says(ok(job), "The job, whole.") }, errors: ["job_not_found"] }),
    handler: async (request) => ({ ok: true as const, data: await watched(request).get(request.params.id) }),
  });

  app.route({
    method: "GET",
    url: "/:id/why",
    schema: documented({
      operationId: "getWhy",
      needs: "read",
      summary: "Why a job is not running",
      description: "One answer: the whole queue or its chat is paused, another job of its chat stands in front, it backs off or is delayed until a time, no slot is free, or the nodes drain.",
      tags: ["jobs"],
      params: jobParams,
      response: { 200: says(ok(why), "The answer, true at the moment of the read.") },
      errors: ["job_not_found"],
    }),
    handler: async (request) => ({ ok: true as const, data: await jobs(request).why(request.params.id) }),
  });

  app.route({
    method: "GET",
    url: "/:id/output",
    schema: documented({
      operationId: "getOutput",
      needs: "read",
      chatToken: true,
      summary: "The built JavaScript itself",
      tags: ["jobs"],
      params: jobParams,
      produces: ["text/javascript"],
      response: { 200: says(z.string(), "The bundle.", withHeaders({ ETag: "Strong, from the content." })), 304: notModified },
      errors: ["job_not_found", "no_output"],
    }),
    handler: async (request, reply) => {
      const { id } = request.params;
      return sendContent(reply, "text/javascript; charset=utf-8", built(id, await watched(request).output(id)), request.headers["if-none-match"]);
    },
  });

  app.route({
    method: "GET",
    url: "/:id/output.map",
    schema: documented({
      operationId: "getSourceMap",
      needs: "read",
      chatToken: true,
      summary: "The source map of the built JavaScript",
      tags: ["jobs"],
      params: jobParams,
      response: { 200: says(z.looseObject({ version: z.number() }), "The source map.", withHeaders({ ETag: "Strong, from the content." })), 304: notModified },
      errors: ["job_not_found", "not_found", "no_output"],
    }),
    handler: async (request, reply) => {
      const { params, headers } = request;
      const output = await watched(request).output(params.id);
      built(params.id, output);
      if (output.sourceMap === null) throw new BuildlaneError("not_found", `Job ${params.id} was built without a source map. Submit it with options.sourcemap.`);
      return sendContent(reply, "application/json; charset=utf-8", output.sourceMap, headers["if-none-match"]);
    },
  });

  app.route({
    method: "POST",
    url: "/:id/cancel",
    preValidation: refuseBody,
    schema: documented({
      operationId: "cancelJob",
      needs: "operate",
      audit: "job.cancelled",
      summary: "Cancel a job",
      description: "A pending job is cancelled at once. A running one is asked to stop (202) and fails as `cancelled` when it has; `GET` the job to see it.",
      tags: ["jobs"],
      params: jobParams,
      response: { 200: says(ok(cancelled), "It is cancelled."), 202: says(ok(cancelled), "It runs and is being stopped.") },
      errors: ["job_not_found", "already_final"],
    }),
    handler: async (request, reply) => {
      const { id } = request.params;
      const status = await jobs(request).cancel(id);
      return reply.code(status === "requested" ? 202 : 200).send({ ok: true, data: { id, status } });
    },
  });

  app.route({
    method: "POST",
    url: "/:id/retry",
    preValidation: refuseBody,
    schema: documented({
      operationId: "retryJob",
      needs: "operate",
      audit: "job.redriven",
      summary: "Put a failed job at the tail of its chat again",
      tags: ["jobs"],
      params: jobParams,
      response: { 202: says(ok(accepted), "It is pending again, with fresh attempts.") },
      errors: ["job_not_found", "not_failed"],
    }),
    handler: async (request, reply) => {
      const { id } = request.params;
      // Only when there is such a job: what a caller made up need not fit into a header.
      const data = await jobs(request).retry(id);
      return reply.code(202).header("location", `${app.prefix}/${id}`).send({ ok: true, data });
    },
  });
}

function built(id: string, { status, result }: Output): string {
  if (result !== null) return result;
  const why = status === "failed" ? "it failed; read the job for why" : "read it again when it is completed";
  throw new BuildlaneError("no_output", `Job ${id} is ${status} and has no output: ${why}.`);
}

/** Sent as bytes, so that no serializer makes JSON of it. Somebody else's code: never to be guessed into a page. */
function sendContent(reply: FastifyReply, type: string, content: string, ifNoneMatch: string | undefined): never {
  const etag = etagOf(content);
  reply.header("etag", etag).header("cache-control", "private, no-cache").header("x-content-type-options", "nosniff").header("cross-origin-resource-policy", "same-origin");
  if (matches(ifNoneMatch, etag)) return sent(reply.code(304).send());
  return sent(reply.type(type).send(Buffer.from(content)));
}
