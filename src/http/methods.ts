/** 405 with `Allow`, by routes of their own: the router itself knows best which path was meant. */
import type { FastifyInstance, HTTPMethods } from "fastify";
import { methodNotAllowed } from "./errors.js";

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const satisfies HTTPMethods[];

/** Watches the routes that are added to this scope; call what it returns after the last of them. */
export function refuseOtherMethods(app: FastifyInstance): () => void {
  const found = new Map<string, Set<string>>();
  let watching = true;
  app.addHook("onRoute", ({ routePath, method }) => {
    if (!watching) return;
    const path = routePath === "" ? "/" : routePath;
    found.set(path, new Set([...(found.get(path) ?? []), ...[method].flat()]));
  });
  return () => {
    watching = false;
    for (const [url, allowed] of found) {
      const allow = [...allowed].sort().join(", ");
      app.route({
        method: methods.filter((method) => !allowed.has(method)),
        url,
        exposeHeadRoute: false,
        schema: { hide: true },
        // Before a body is read: whatever it is, it is not wanted.
        onRequest: (request, reply, done) => {
          reply.header("allow", allow);
          done(methodNotAllowed(request.method, allow));
        },
        handler: () => undefined,
      });
    }
  };
}
