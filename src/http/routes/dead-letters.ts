/** Jobs that failed for good and wait for a person: to see them, to run them again, or to let them go. */
import { z } from "zod";
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { bulkBody, deadLettersQuery, wanted } from "../requests.js";
import { jobSummary, ok, okPage } from "../schemas.js";
import { summary } from "../summary.js";

const counted = z.object({ count: says(z.number(), "How many match.") });

export function deadLetterRoutes(app: Api, { queue }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/dead-letters",
    schema: documented({
      operationId: "listDeadLetters",
      summary: "Dead letters, newest first",
      tags: ["dead letters"],
      querystring: deadLettersQuery,
      response: { 200: says(okPage(z.array(jobSummary)), "One page.") },
    }),
    handler: async ({ query: { include, ...query } }) => {
      const { jobs, nextCursor } = await queue.list({ ...query, deadLetters: true, include: wanted(include) });
      return { ok: true as const, data: jobs.map((job) => summary(job, wanted(include))), meta: { nextCursor } };
    },
  });

  app.route({
    method: "POST",
    url: "/dead-letters/redrive",
    schema: documented({
      operationId: "redriveDeadLetters",
      summary: "Put dead letters at the tails of their chats again",
      tags: ["dead letters"],
      body: bulkBody,
      response: { 200: says(ok(z.union([z.object({ redriven: says(z.number(), "How many are pending again.") }), counted])), "How many were, or with `dryRun` would be, redriven.") },
    }),
    handler: async ({ body: { ids, filter, limit, dryRun } }) => {
      const which = { ids, ...filter };
      return { ok: true as const, data: dryRun ? { count: await queue.deadLetters.count(which) } : { redriven: await queue.deadLetters.redrive(which, limit) } };
    },
  });

  app.route({
    method: "POST",
    url: "/dead-letters/discard",
    schema: documented({
      operationId: "discardDeadLetters",
      summary: "Let dead letters go",
      description: "They stay readable as failed jobs, and are listed as dead letters no more.",
      tags: ["dead letters"],
      body: bulkBody,
      response: { 200: says(ok(z.union([z.object({ discarded: says(z.number(), "How many were let go.") }), counted])), "How many were, or with `dryRun` would be, discarded.") },
    }),
    handler: async ({ body: { ids, filter, limit, dryRun } }) => {
      const which = { ids, ...filter };
      return { ok: true as const, data: dryRun ? { count: await queue.deadLetters.count(which) } : { discarded: await queue.deadLetters.discard(which, limit) } };
    },
  });
}
