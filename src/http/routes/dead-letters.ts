/** Jobs that failed for good and wait for a person: to see them, to run them again, or to let them go. */
import { z } from "zod";
import { documented } from "../compilers.js";
import { failureCodes } from "../../job.js";
import { groupedMax } from "../../store/store.js";
import { named, says, time } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { bulkBody, deadLettersQuery, groupsQuery, redriveBody, wanted } from "../requests.js";
import { jobSummary, ok, okPage } from "../schemas.js";
import { summary } from "../summary.js";

const group = named(
  "DeadLetterGroup",
  z.object({
    fingerprint: says(z.string(), "Names the group: `filter.fingerprint` means all of it."),
    failureCode: z.enum(failureCodes),
    message: says(z.string(), "Of the latest of them."),
    count: z.number(),
    chats: says(z.number(), "How many chats they are of."),
    firstAt: time("When the first of them failed."),
    latestAt: time("When the latest failed."),
    examples: says(z.array(z.string()), "Ids of the latest, a few."),
  }),
  "Dead letters that failed alike: the same code, and the same message but for quoted texts and numbers.",
);
const counted = z.object({ count: says(z.number(), "How many match.") });

export function deadLetterRoutes(app: Api, { jobs }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/dead-letters",
    schema: documented({
      operationId: "listDeadLetters",
      needs: "read",
      summary: "Dead letters, newest first",
      tags: ["dead letters"],
      querystring: deadLettersQuery,
      response: { 200: says(okPage(z.array(jobSummary)), "One page.") },
    }),
    handler: async (request) => {
      const { include, ...query } = request.query;
      const { jobs: found, nextCursor } = await jobs(request).list({ ...query, deadLetters: true, include: wanted(include) });
      return { ok: true as const, data: found.map((job) => summary(job, wanted(include))), meta: { nextCursor } };
    },
  });

  app.route({
    method: "GET",
    url: "/dead-letters/groups",
    schema: documented({
      operationId: "groupDeadLetters",
      needs: "read",
      summary: "Dead letters that failed alike, the largest group first",
      description: `Of the latest ${groupedMax} dead letters.`,
      tags: ["dead letters"],
      querystring: groupsQuery,
      response: { 200: says(ok(z.array(group)), "The groups.") },
    }),
    handler: async (request) => {
      const { limit, ...filter } = request.query;
      return { ok: true as const, data: await jobs(request).deadLetters.groups(filter, limit) };
    },
  });

  app.route({
    method: "POST",
    url: "/dead-letters/redrive",
    schema: documented({
      operationId: "redriveDeadLetters",
      needs: "operate",
      audit: "deadLetters.redriven",
      summary: "Put dead letters at the tails of their chats again",
      tags: ["dead letters"],
      body: redriveBody,
      response: { 200: says(ok(z.union([z.object({ redriven: says(z.number(), "How many are pending again.") }), counted])), "How many were, or with `dryRun` would be, redriven.") },
    }),
    handler: async (request) => {
      const { ids, filter, limit, dryRun, ratePerSecond } = request.body;
      const { deadLetters } = jobs(request);
      const which = { ids, ...filter };
      return { ok: true as const, data: dryRun ? { count: await deadLetters.count(which) } : { redriven: await deadLetters.redrive(which, limit, { ratePerSecond }) } };
    },
  });

  app.route({
    method: "POST",
    url: "/dead-letters/discard",
    schema: documented({
      operationId: "discardDeadLetters",
      needs: "operate",
      audit: "deadLetters.discarded",
      summary: "Let dead letters go",
      description: "They stay readable as failed jobs, and are listed as dead letters no more.",
      tags: ["dead letters"],
      body: bulkBody,
      response: { 200: says(ok(z.union([z.object({ discarded: says(z.number(), "How many were let go.") }), counted])), "How many were, or with `dryRun` would be, discarded.") },
    }),
    handler: async (request) => {
      const { ids, filter, limit, dryRun } = request.body;
      const { deadLetters } = jobs(request);
      const which = { ids, ...filter };
      return { ok: true as const, data: dryRun ? { count: await deadLetters.count(which) } : { discarded: await deadLetters.discard(which, limit) } };
    },
  });
}
