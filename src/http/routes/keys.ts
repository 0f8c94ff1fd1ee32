/** Who may come in: API keys, tokens for one chat, and what operators did. */
import { z } from "zod";
import { chatTokenMs } from "../../chat-tokens.js";
import { accessScopes, everyTenant, graceMsMax, refuseLockout } from "../../keys.js";
import type { KeyRequest } from "../../keys.js";
import { forbidden } from "../../errors.js";
import { operator } from "../access.js";
import { documented } from "../compilers.js";
import { integerText, named, says, time, timeOrNull } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { refuseBody } from "../json-body.js";
import { chatParams } from "../requests.js";
import { ok, okPage } from "../schemas.js";

const scopes = says(z.array(z.enum(accessScopes)).min(1).max(accessScopes.length), "`operate` changes what was submitted and holds lanes; `admin` may do everything.");
const keyFields = {
  id: says(z.string(), "The public part of the key's own text."),
  name: z.string(),
  tenant: says(z.string(), "Empty: no tenant's, the service's own; `*`: sees every tenant's jobs."),
  scopes,
  createdAt: time("When it was made."),
  expiresAt: timeOrNull("When it stops working; null: never."),
  revokedAt: timeOrNull("From when on it is refused; null: it is not."),
};
const keyInfo = named("ApiKey", z.object(keyFields), "An API key, without the key itself.");
const newKey = named("NewApiKey", z.object({ ...keyFields, key: says(z.string(), "The key itself. Told this once; only its hash is kept.") }), "A new API key.");
const keyBody = named(
  "ApiKeyRequest",
  z.strictObject({
    name: says(z.string().max(100).optional(), "For people."),
    tenant: says(z.string().max(63).optional(), "Whose jobs it sees; unset: the caller's tenant."),
    scopes: scopes.optional(),
    expiresInMs: says(z.int().min(1000).optional(), "Milliseconds until it stops working; unset: never."),
  }),
  "A key to be made; `submit` and `read` unless scopes are said.",
);
const keyParams = z.object({ keyId: z.string().regex(/^[0-9A-Za-z]{1,40}$/) });
const rotateBody = named("KeyRotation", z.strictObject({ graceMs: says(z.int().min(0).max(graceMsMax).default(0), "How long the old key works on, milliseconds.") }), "How to rotate a key.");
const tokenBody = named("ChatTokenRequest", z.strictObject({ expiresInMs: says(z.int().min(chatTokenMs.min).max(chatTokenMs.max).default(chatTokenMs.default), "How long it works, milliseconds.") }), "A token to be made.");
const chatToken = named("ChatToken", z.object({ token: z.string(), chatId: z.string(), expiresAt: time("When it stops working.") }), "Opens one chat and its jobs to be read and followed: as `Authorization: Bearer`, or as `?token=` where headers cannot be sent.");
const action = named(
  "OperatorAction",
  z.object({
    id: z.number(),
    at: time("When."),
    actor: says(z.string(), "A key's id as `key:…`, `setting:…`, `local` where no key is asked for, or the name that the host gave."),
    tenant: z.string(),
    action: says(z.string(), "Such as `job.cancelled`."),
    target: says(z.string().nullable(), "A job, a chat or a key."),
    reason: says(z.string().nullable(), "As the caller said it, in the body or as `Buildlane-Reason`."),
    data: says(z.record(z.string(), z.unknown()), "What was asked for."),
  }),
  "Something that an operator did.",
);
const actionsQuery = z.object({
  limit: says(integerText(1, 200).default(50), "How many at most."),
  cursor: says(integerText(1, Number.MAX_SAFE_INTEGER).optional(), "`meta.nextCursor` of the page before."),
});

/** An empty body is as good as none. */
const orEmpty = <S extends z.ZodType>(schema: S) => schema.nullish();

export function keyRoutes(app: Api, { principal, scope, keys, chatTokens, audit }: RouteContext): void {
  app.route({
    method: "POST",
    url: "/keys",
    schema: documented({ operationId: "createKey", needs: "admin", audit: "key.created", summary: "Make an API key", description: "A tenant's own admin makes keys of that tenant only. From the first key on, every request needs one; so the first must have `admin`, and no tenant or `*`.", tags: ["keys"], body: keyBody, response: { 201: says(ok(newKey), "The key; keep it.") } }),
    handler: async (request, reply) => {
      const mine = scope(request);
      const { tenant = mine === "everyone" ? "" : mine.tenant, ...rest } = request.body;
      if (mine !== "everyone" && tenant !== mine.tenant) throw forbidden("admin", `yours is the key of tenant ${mine.tenant}`);
      const wanted = { ...rest, tenant } as KeyRequest;
      // Whoever showed a key, or was let in by the host, has a way in already.
      if (principal(request) === operator) await refuseLockout(keys, wanted);
      return reply.code(201).header("cache-control", "no-store").send({ ok: true, data: await keys.create(wanted) });
    },
  });

  app.route({
    method: "GET",
    url: "/keys",
    schema: documented({ operationId: "listKeys", needs: "admin", summary: "The API keys, newest first", tags: ["keys"], response: { 200: says(ok(z.array(keyInfo)), "At most 1,000; revoked ones too.") } }),
    handler: async (request) => ({ ok: true as const, data: await keys.list(scope(request)) }),
  });

  app.route({
    method: "POST",
    url: "/keys/:keyId/revoke",
    preValidation: refuseBody,
    schema: documented({ operationId: "revokeKey", needs: "admin", audit: "key.revoked", summary: "Refuse a key from now on", description: "On every node within 2 seconds.", tags: ["keys"], params: keyParams, response: { 200: says(ok(keyInfo), "It is revoked.") }, errors: ["key_not_found"] }),
    handler: async (request) => ({ ok: true as const, data: await keys.revoke(scope(request), request.params.keyId) }),
  });

  app.route({
    method: "POST",
    url: "/keys/:keyId/rotate",
    schema: documented({ operationId: "rotateKey", needs: "admin", audit: "key.rotated", summary: "Replace a key by a new one with the same rights", tags: ["keys"], params: keyParams, body: orEmpty(rotateBody), response: { 201: says(ok(newKey), "The new key; keep it.") }, errors: ["key_not_found"] }),
    handler: async (request, reply) => reply.code(201).header("cache-control", "no-store").send({ ok: true, data: await keys.rotate(scope(request), request.params.keyId, request.body?.graceMs ?? 0) }),
  });

  app.route({
    method: "POST",
    url: "/chat/:chatId/token",
    schema: documented({ operationId: "createChatToken", needs: "read", summary: "A short-lived token with which a browser watches this chat", tags: ["keys"], params: chatParams, body: orEmpty(tokenBody), response: { 201: says(ok(chatToken), "The token.") } }),
    handler: async (request, reply) => {
      const { tenant = "" } = principal(request);
      const { token, chatId, expiresAt } = await chatTokens.issue({ tenant: tenant === everyTenant ? "" : tenant, chatId: request.params.chatId, expiresInMs: request.body?.expiresInMs });
      return reply.code(201).header("cache-control", "no-store").send({ ok: true, data: { token, chatId, expiresAt } });
    },
  });

  app.route({
    method: "GET",
    url: "/audit",
    schema: documented({ operationId: "listActions", needs: "admin", summary: "What operators did, newest first", tags: ["keys"], querystring: actionsQuery, response: { 200: says(okPage(z.array(action)), "One page.") } }),
    handler: async (request) => {
      const { limit, cursor } = request.query;
      const found = await audit.list(scope(request), { limit: limit + 1, before: cursor });
      const page = found.slice(0, limit);
      return { ok: true as const, data: page, meta: { nextCursor: found.length > limit ? String(page.at(-1)?.id) : null } };
    },
  });
}
