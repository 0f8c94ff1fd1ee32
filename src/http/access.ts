/**
 * Who asks, and what they may do. Every route says what it needs beside its schema; a request gets a principal before its
 * body is read, and reaches jobs only through the principal's own view of the queue.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { looksLikeChatToken } from "../chat-tokens.js";
import { BuildlaneError, forbidden, unauthorized } from "../errors.js";
import type { Failures } from "./failures.js";
import { isAway } from "./late.js";
import { eventStream } from "./sse.js";
import { everyTenant } from "../keys.js";
import type { AccessScope } from "../keys.js";
import type { BuildQueue, QueueView } from "../queue-api.js";
import { defaultTenant, isTenantName } from "../store/scope.js";
import type { Scope } from "../store/scope.js";

export type { AccessScope } from "../keys.js";
/** What a route needs; `nothing`: open to all who reach the service. */
export type Needs = AccessScope | "nothing";

export interface Principal {
  /** Whose jobs: a tenant; `*`: everybody's; unset: those of no tenant, and the service itself. */
  tenant?: string | undefined;
  scopes: readonly AccessScope[];
  /** Who it is, for limits and the audit log; never a secret. */
  name?: string | undefined;
  /** When that is over, ISO 8601: streams that are open end then. */
  expiresAt?: string | undefined;
}

/** Tells who asks. Throws, or answers with nothing, when nobody does who may. */
export type Authorize = (request: FastifyRequest) => Principal | null | undefined | Promise<Principal | null | undefined>;

/** Without keys whoever reaches the service is its operator. */
export const operator: Principal = { tenant: everyTenant, scopes: ["admin"], name: "local" };

export interface Access {
  principal(request: FastifyRequest): Principal;
  /** False for a request for a stream that came in although nobody could say who asks (late.ts). */
  isIdentified(request: FastifyRequest): boolean;
  /** Asks again, unless it is known. Rejects as the request would have been refused. */
  identify(request: FastifyRequest): Promise<void>;
  /** False where nobody is asked who they are, so that nothing can be taken back. */
  isAsked(request: FastifyRequest): boolean;
  /** When the caller's key or token is over, milliseconds since 1970. */
  expiresMs(request: FastifyRequest): number;
  /** Asks again. False when the caller would be refused now, or is another; true also while that cannot be known. */
  mayStay(request: FastifyRequest): Promise<boolean>;
  /** Whom limits count for; undefined where no key is asked for, and while it is not known. */
  caller(request: FastifyRequest): string | undefined;
  /** The caller's jobs. */
  jobs(request: FastifyRequest): QueueView;
  /** Of a route that a chat's token opens, too: the caller's jobs, or that one chat. */
  watched(request: FastifyRequest): ReturnType<BuildQueue["forChat"]>;
  /** The whole queue, for what concerns all; refused to callers of one tenant. */
  whole(request: FastifyRequest): BuildQueue;
  /** Whose keys and actions the caller may see. */
  scope(request: FastifyRequest): Scope;
}

interface Known extends Principal {
  /** Only this chat. */
  chatId?: string;
}
/** In the place of who asks, while the database is away. */
const unidentified = "unidentified";
interface RouteFacts {
  produces?: readonly string[];
  "x-needs"?: Needs;
  "x-chat-token"?: boolean;
}

/** The key or token of a request; in the query only where a browser's EventSource cannot send headers. */
export function credential({ headers, query }: FastifyRequest, inQuery = false): string | undefined {
  const bearer = /^Bearer +(\S{1,2000}) *$/i.exec(headers.authorization ?? "")?.[1];
  if (bearer !== undefined || headers.authorization !== undefined || !inQuery) return bearer;
  const { token } = query as { token?: unknown };
  return typeof token === "string" && token.length <= 2000 ? token : undefined;
}

/** Checks every request to the routes of this scope that are added from now on. */
export function checkAccess(app: FastifyInstance, queue: BuildQueue, authorize: Authorize | undefined, failures?: Failures): Access {
  const known = Symbol("principal");
  app.decorateRequest(known, null);
  type Asking = FastifyRequest & { [known]: Known | typeof unidentified | null };
  const factsOf = (request: FastifyRequest): RouteFacts => (request.routeOptions.schema ?? {}) as RouteFacts;

  function allowed(principal: Known | null | undefined, needs: AccessScope): Known {
    if (!principal) throw unauthorized();
    const { tenant = defaultTenant } = principal;
    if (tenant !== defaultTenant && tenant !== everyTenant && !isTenantName(tenant)) throw new Error("authorize answered with a tenant whose name is not valid");
    if (!principal.scopes.includes(needs) && !principal.scopes.includes("admin")) throw forbidden(needs);
    return principal;
  }

  /** A token says for which chat it is; for any other it is none. */
  async function byToken(request: FastifyRequest, token: string): Promise<Known | null> {
    const grant = await queue.chatTokens.verify(token);
    if (!grant) return null;
    const { chatId } = request.params as { chatId?: string };
    if (chatId !== undefined && chatId !== grant.chatId) throw forbidden("read", "your token is for another chat");
    return { tenant: grant.tenant, chatId: grant.chatId, scopes: ["read"], name: "chat token", expiresAt: grant.expiresAt };
  }

  async function authenticate(request: FastifyRequest, needs: AccessScope, opensByToken: boolean): Promise<void> {
    const given = credential(request, opensByToken);
    if (given !== undefined) failures?.check(request, given);
    try {
      (request as Asking)[known] = await lookUp(request, needs, opensByToken);
      if (given !== undefined) failures?.succeeded(given);
    } catch (error) {
      const refusal = asRefusal(error);
      if (given !== undefined && refusal instanceof BuildlaneError && refusal.code === "unauthorized") failures?.failed(request);
      throw refusal;
    }
  }
  async function lookUp(request: FastifyRequest, needs: AccessScope, opensByToken: boolean): Promise<Known> {
    const given = credential(request, opensByToken);
    if (given !== undefined && looksLikeChatToken(given)) {
      if (!opensByToken) throw unauthorized();
      return allowed(await byToken(request, given), needs);
    }
    return allowed(authorize ? await authorize(request) : operator, needs);
  }

  app.addHook("onRequest", (request: FastifyRequest, reply: FastifyReply, done) => {
    const { "x-needs": needs = "nothing", "x-chat-token": opensByToken = false, produces } = factsOf(request);
    if (needs === "nothing") return done();
    // The common case of a service without keys, without a promise.
    if (!authorize && request.headers.authorization === undefined && !opensByToken) {
      (request as Asking)[known] = operator;
      return done();
    }
    authenticate(request, needs, opensByToken).then(
      () => done(),
      (error: unknown) => {
        const refusal = asRefusal(error);
        // Only who sends no key may wait: whoever sends one can come back by itself, and unknown keys shall not hold streams.
        if (isAway(refusal) && produces?.includes(eventStream) && credential(request, opensByToken) === undefined) {
          (request as Asking)[known] = unidentified;
          return done();
        }
        if (refusal instanceof BuildlaneError && refusal.code === "unauthorized") reply.header("www-authenticate", "Bearer");
        done(refusal);
      },
    );
  });

  const isIdentified = (request: FastifyRequest): boolean => (request as Asking)[known] !== unidentified;
  const principal = (request: FastifyRequest): Known => {
    const found = (request as Asking)[known];
    if (!found || found === unidentified) throw new Error(`route ${request.routeOptions.url} needs nothing, or does not yet know who asks, and so may see no jobs`);
    return found;
  };
  const jobs = (request: FastifyRequest): QueueView => {
    const { tenant = defaultTenant, chatId } = principal(request);
    if (chatId !== undefined) throw new Error(`route ${request.routeOptions.url} is open to chat tokens, and must look through watched()`);
    return tenant === everyTenant ? queue : queue.forTenant(tenant);
  };
  const ofOneTenant = ({ tenant = defaultTenant }: Principal): boolean => tenant !== defaultTenant && tenant !== everyTenant;
  return {
    principal,
    isIdentified,
    async identify(request) {
      const { "x-needs": needs = "nothing", "x-chat-token": opensByToken = false } = factsOf(request);
      if (isIdentified(request) || needs === "nothing") return;
      await authenticate(request, needs, opensByToken).catch((error: unknown) => Promise.reject(asRefusal(error)));
    },
    isAsked: (request) => authorize !== undefined || principal(request).chatId !== undefined,
    expiresMs(request) {
      const { expiresAt } = isIdentified(request) ? principal(request) : {};
      return expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt);
    },
    async mayStay(request) {
      const { "x-needs": needs = "nothing", "x-chat-token": opensByToken = false } = factsOf(request);
      // Who is not identified yet is asked by what begins the stream.
      if (!isIdentified(request) || needs === "nothing") return true;
      const was = principal(request);
      try {
        // Not counted as a failure: who sends it was let in with it.
        const is = await lookUp(request, needs, opensByToken);
        (request as Asking)[known] = is;
        return is.tenant === was.tenant && is.chatId === was.chatId;
      } catch (error) {
        return asRefusal(error).statusCode >= 500;
      }
    },
    caller(request) {
      if (!isIdentified(request)) return undefined;
      const { name, tenant = "", chatId } = principal(request);
      return chatId !== undefined ? `token:${tenant}/${chatId}` : name === operator.name ? undefined : name;
    },
    jobs,
    watched(request) {
      const { tenant = defaultTenant, chatId } = principal(request);
      return chatId === undefined ? jobs(request) : queue.forChat(tenant, chatId);
    },
    whole(request) {
      if (ofOneTenant(principal(request))) throw forbidden("operate", "it concerns the whole queue, and yours is the key of one tenant");
      return queue;
    },
    scope(request) {
      const caller = principal(request);
      return ofOneTenant(caller) ? { tenant: caller.tenant as string } : "everyone";
    },
  };
}

/** An embedder's `authorize` that just throws means no; one that says a status keeps it. */
const asRefusal = (error: unknown): Error & { statusCode: number } =>
  error instanceof Error && typeof (error as { statusCode?: unknown }).statusCode === "number" ? (error as Error & { statusCode: number }) : unauthorized(error);
