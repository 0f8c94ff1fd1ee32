/** Figures of the whole queue. */
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { ok, stats } from "../schemas.js";

export function statsRoutes(app: Api, { jobs }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/stats",
    schema: documented({ operationId: "getStats", needs: "read", summary: "Totals, times, slots and nodes", tags: ["stats"], response: { 200: says(ok(stats), "The figures, all taken together.") } }),
    handler: async (request) => ({ ok: true as const, data: await jobs(request).stats() }),
  });
}
