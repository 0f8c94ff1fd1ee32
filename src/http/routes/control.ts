/** Holding the whole queue. */
import { Readable } from "node:stream";
import { z } from "zod";
import { documented, sent } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { refuseBody } from "../json-body.js";
import { ok } from "../schemas.js";

export function controlRoutes(app: Api, { whole }: RouteContext): void {
  for (const [verb, paused, done] of [["pause", true, "Nothing new starts on any node; what runs goes on, and jobs are still accepted."], ["resume", false, "Jobs start again."]] as const) {
    app.route({
      method: "POST",
      url: `/${verb}`,
      preValidation: refuseBody,
      schema: documented({ operationId: `${verb}Queue`, needs: "operate", audit: `queue.${verb}d`, summary: `${paused ? "Hold" : "Release"} the whole queue`, tags: ["control"], response: { 200: says(ok(z.object({ paused: z.boolean() })), done) } }),
      handler: async (request) => {
        const queue = whole(request);
        await (paused ? queue.pause() : queue.resume());
        return { ok: true as const, data: { paused } };
      },
    });
  }

  app.route({
    method: "POST",
    url: "/backup",
    preValidation: refuseBody,
    schema: documented({
      operationId: "backUp",
      needs: "admin",
      audit: "database.backedUp",
      summary: "The embedded database as a file",
      description: "A gzipped tar, taken while the service runs; `buildlane restore` makes a database of it. A PostgreSQL is backed up by its own tools.",
      tags: ["control"],
      produces: ["application/gzip"],
      response: { 200: says(z.string(), "The file.") },
      errors: ["no_backup"],
    }),
    handler: async (request, reply) => {
      const file = await whole(request).backUp();
      return sent(reply.type("application/gzip").header("cache-control", "no-store").header("content-disposition", 'attachment; filename="buildlane.tar.gz"').send(Readable.fromWeb(file as never) as never));
    },
  });
}
