/** Buildlane's routes for any Fastify application: `await app.register(buildRoutes, { queue, prefix: "/api/builds" })`. */
export { buildRoutes } from "./http/plugin.js";
export type { AccessScope, Authorize, Principal } from "./http/access.js";
export type { RoutesOptions } from "./http/plugin.js";
