/** Figures of the whole queue. */
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { ok, stats } from "../schemas.js";

export function statsRoutes(app: Api, { queue }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/stats",
    schema: documented({ operationId: "getStats", summary: "Totals, times, slots and nodes", tags: ["stats"], response: { 200: says(ok(stats), "The figures, all taken together.") } }),
    handler: async () => ({ ok: true as const, data: await queue.stats() }),
  });
}
