/**
 * Who asks, and what they may do. Every route says what it needs beside its schema; a request gets a principal before its
 * body is read, and reaches jobs only through the principal's own view of the queue.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { BuildlaneError, forbidden, unauthorized } from "../errors.js";
import type { BuildQueue, QueueView } from "../queue-api.js";
import { defaultTenant, isTenantName } from "../store/scope.js";

/** What a key may be allowed to do. `admin` is allowed everything. */
export const accessScopes = ["submit", "read", "operate", "admin"] as const;
export type AccessScope = (typeof accessScopes)[number];
/** What a route needs; `nothing`: open to all who reach the service. */
export type Needs = AccessScope | "nothing";

export const everyTenant = "*";

export interface Principal {
  /** Whose jobs: a tenant; `*`: everybody's; unset: those of no tenant, and the service itself. */
  tenant?: string | undefined;
  scopes: readonly AccessScope[];
  /** Who it is, for rate limits and the audit log; never a secret. */
  name?: string | undefined;
}

/** Tells who asks. Throws, or answers with nothing, when nobody does who may. */
export type Authorize = (request: FastifyRequest) => Principal | null | undefined | Promise<Principal | null | undefined>;

/** Without keys whoever reaches the service is its operator. */
export const operator: Principal = { tenant: everyTenant, scopes: ["admin"], name: "local" };

export interface Access {
  principal(request: FastifyRequest): Principal;
  /** The caller's jobs. */
  jobs(request: FastifyRequest): QueueView;
  /** The whole queue, for what concerns all; refused to callers of one tenant. */
  whole(request: FastifyRequest): BuildQueue;
}

const mayAlso = (principal: Principal, needs: AccessScope): boolean => principal.scopes.includes(needs) || principal.scopes.includes("admin");

/** Checks every request to the routes of this scope that are added from now on. */
export function checkAccess(app: FastifyInstance, queue: BuildQueue, authorize: Authorize | undefined): Access {
  const known = new WeakMap<FastifyRequest, Principal>();

  function admit(request: FastifyRequest, principal: Principal | null | undefined, needs: AccessScope): void {
    if (!principal) throw unauthorized();
    const { tenant = defaultTenant } = principal;
    if (tenant !== defaultTenant && tenant !== everyTenant && !isTenantName(tenant)) throw new Error("authorize answered with a tenant whose name is not valid");
    if (!mayAlso(principal, needs)) throw forbidden(needs);
    known.set(request, principal);
  }

  app.addHook("onRequest", (request: FastifyRequest, _reply: FastifyReply, done) => {
    const needs = (request.routeOptions.schema as { "x-needs"?: Needs } | undefined)?.["x-needs"] ?? "nothing";
    if (needs === "nothing") return done();
    if (!authorize) {
      known.set(request, operator);
      return done();
    }
    void (async () => admit(request, await authorize(request), needs))().then(() => done(), (error: unknown) => done(asRefusal(error)));
  });

  const principal = (request: FastifyRequest): Principal => {
    const found = known.get(request);
    if (!found) throw new Error(`route ${request.routeOptions.url} needs nothing, and so may see no jobs`);
    return found;
  };
  return {
    principal,
    jobs(request) {
      const { tenant = defaultTenant } = principal(request);
      return tenant === everyTenant ? queue : queue.forTenant(tenant);
    },
    whole(request) {
      const { tenant = defaultTenant } = principal(request);
      if (tenant !== defaultTenant && tenant !== everyTenant) throw forbidden("operate", "it concerns the whole queue, and yours is the key of one tenant");
      return queue;
    },
  };
}

/** An embedder's `authorize` that just throws means no; one that says a status keeps it. */
const asRefusal = (error: unknown): Error =>
  error instanceof BuildlaneError || (error instanceof Error && typeof (error as { statusCode?: unknown }).statusCode === "number") ? error : unauthorized(error);
