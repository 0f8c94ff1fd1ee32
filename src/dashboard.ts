/** The dashboard for any Fastify application: `await app.register(dashboard, { prefix: "/queue", api: "/api/builds" })`. */
export { dashboard } from "./http/dashboard.js";
export type { DashboardOptions } from "./http/dashboard.js";
