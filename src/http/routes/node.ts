/** The node that answers: its actors, what its slots do, what is quarantined, and its settings. */
import { z } from "zod";
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { nodeView, ok } from "../schemas.js";

export function nodeRoutes(app: Api, { whole }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/node",
    schema: documented({
      operationId: "getNode",
      needs: "read",
      summary: "The node that answers, as its actors stand",
      description: "States are named as the machines name them, from the outermost to the innermost. Settings that name a place or hold a secret are left out.",
      tags: ["stats"],
      response: { 200: says(ok(nodeView as z.ZodType<z.output<typeof nodeView>>), "As it stands now.") },
    }),
    handler: async (request) => ({ ok: true as const, data: await whole(request).node() }),
  });
}
