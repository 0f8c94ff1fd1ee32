/** Code that is refused everywhere because it killed workers or nodes: to see it, and to let it run again. */
import { z } from "zod";
import { documented } from "../compilers.js";
import { integerText, says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { failureCodes } from "../../job.js";
import { refuseBody } from "../json-body.js";
import { ok } from "../schemas.js";

const hash = z.string().regex(/^[0-9a-f]{64}$/, "Expected 64 hexadecimal digits.");
const quarantined = z.object({
  codeHash: says(z.string(), "SHA-256 of code, files, entry and options."),
  cause: says(z.enum(failureCodes), "What it did last."),
  crashes: says(z.number(), "Workers that it killed."),
  quarantinedAt: says(z.string(), "ISO 8601."),
});

export function quarantineRoutes(app: Api, { whole }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/quarantine",
    schema: documented({
      operationId: "listQuarantine",
      needs: "read",
      summary: "Quarantined code, newest first",
      description: "Code that crashed two workers, or that the loss of several nodes is laid to. Its jobs fail without a run, on every node.",
      tags: ["dead letters"],
      querystring: z.object({ limit: integerText(1, 1000).default(200) }),
      response: { 200: says(ok(z.array(quarantined)), "The newest.") },
    }),
    handler: async (request) => ({ ok: true as const, data: await whole(request).quarantine.list(request.query.limit) }),
  });

  app.route({
    method: "POST",
    url: "/quarantine/:hash/lift",
    preValidation: refuseBody,
    schema: documented({
      operationId: "liftQuarantine",
      needs: "operate",
      audit: "quarantine.lifted",
      summary: "Let quarantined code run again",
      description: "On all nodes. Jobs that failed for it stay failed; redrive them.",
      errors: ["not_quarantined"],
      tags: ["dead letters"],
      params: z.object({ hash }),
      response: { 200: says(ok(z.object({ lifted: z.literal(true) })), "It runs again.") },
    }),
    handler: async (request) => {
      await whole(request).quarantine.lift(request.params.hash);
      return { ok: true as const, data: { lifted: true as const } };
    },
  });
}
