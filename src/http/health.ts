/** Whether the process lives, whether it takes work, and how it is. Outside the base, without keys. */
import { z } from "zod";
import type { Clock } from "../clock.js";
import { databaseUnavailable, draining } from "../errors.js";
import type { BuildQueue } from "../queue-api.js";
import { documented } from "./compilers.js";
import { says } from "./components.js";
import type { Api } from "./context.js";
import { ok } from "./schemas.js";

export function healthRoutes(app: Api, { queue, clock, version }: { queue: BuildQueue; clock: Clock; version: string }): void {
  const startedAt = clock.monotonic();

  app.route({
    method: "GET",
    url: "/livez",
    schema: documented({ operationId: "livez", needs: "nothing", summary: "Whether the process lives", description: "Asks nothing of anybody else; a database that is away is no reason to restart.", tags: ["health"], response: { 200: says(ok(z.object({ status: z.literal("live") })), "It lives.") } }),
    handler: async () => ({ ok: true as const, data: { status: "live" as const } }),
  });

  const checkReady = async () => {
    // Before the database is asked: while draining, not ready is the answer whatever else is wrong.
    if (queue.draining) throw draining();
    const state = await queue.ready();
    if (state.draining) throw draining();
    if (!state.database) throw databaseUnavailable(undefined);
    return state;
  };

  app.route({
    method: "GET",
    url: "/readyz",
    schema: documented({ operationId: "readyz", needs: "nothing", summary: "Whether this node accepts work", description: "503 first while draining; the database is asked.", tags: ["health"], response: { 200: says(ok(z.object({ status: z.literal("ready") })), "It accepts work.") }, errors: ["draining", "database_unavailable"] }),
    handler: async () => {
      await checkReady();
      return { ok: true as const, data: { status: "ready" as const } };
    },
  });

  const health = z.object({
    status: z.literal("ok"),
    version: z.string(),
    uptimeMs: z.number(),
    database: z.boolean(),
    draining: z.boolean(),
    queue: z.object({ totalQueued: z.number(), totalRunning: z.number(), slots: z.number(), queuePaused: z.boolean(), nodes: z.number() }),
  });
  app.route({
    method: "GET",
    url: "/health",
    schema: documented({ operationId: "health", needs: "nothing", summary: "Readiness with details", tags: ["health"], response: { 200: says(ok(health), "All is well.") }, errors: ["draining", "database_unavailable"] }),
    handler: async () => {
      const { database } = await checkReady();
      const { totalQueued, totalRunning, slots, queuePaused, nodes } = await queue.stats();
      const figures = { totalQueued, totalRunning, slots, queuePaused, nodes: nodes.filter((node) => node.alive).length };
      return { ok: true as const, data: { status: "ok" as const, version, uptimeMs: Math.round(clock.monotonic() - startedAt), database, draining: false, queue: figures } };
    },
  });
}
