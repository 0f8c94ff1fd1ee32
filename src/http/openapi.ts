/** The API's own document, made from the routes' schemas, and a page to read it. */
import helmet from "@fastify/helmet";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from "@fastify/type-provider-zod";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { errorShapes, issuesMax } from "../errors.js";
import type { ErrorCode } from "../errors.js";
import { documented } from "./compilers.js";
import type { Needs } from "./access.js";
import { components, says } from "./components.js";
import { errorCodes, problemType } from "./errors.js";

/** What any route may answer. */
const everywhere: ErrorCode[] = ["validation_failed", "forbidden_host", "cross_site_refused", "database_unavailable", "database_busy", "chat_busy", "draining", "internal_error"];
const withKey: ErrorCode[] = ["unauthorized", "forbidden", "rate_limited"];
/** Also where none is wanted: what was sent is read first. */
const withBody: ErrorCode[] = ["invalid_json", "payload_too_large", "unsupported_media_type"];

type Operation = { responses: Record<string, unknown>; requestBody?: unknown; security?: unknown; "x-errors"?: ErrorCode[]; "x-needs"?: Needs; "x-chat-token"?: boolean; "x-audit"?: string };
type Document = { components?: { schemas?: Record<string, unknown> }; paths?: Record<string, Record<string, Operation>> };

const errorProperties = {
  ok: { const: false },
  statusCode: { type: "integer" },
  code: { type: "string", enum: errorCodes, description: "The contract: clients switch on it." },
  message: { type: "string", description: "For a person; may change." },
  retryable: { type: "boolean", description: "Whether the same request may succeed later." },
  requestId: { type: "string" },
  issues: { type: "array", maxItems: issuesMax + 1, items: { $ref: "#/components/schemas/Issue" }, description: `At most ${issuesMax}, and one that says how many more there are; its path is empty.` },
};
const required = ["ok", "statusCode", "code", "message", "retryable", "requestId"];
const errorSchemas = {
  Issue: { type: "object", description: "One thing that is wrong with a request.", properties: { path: { type: "string", description: "JSON pointer into what was sent, such as `/chatId`." }, message: { type: "string" } }, required: ["path", "message"] },
  Error: { type: "object", description: "What every failure looks like.", properties: errorProperties, required },
  Problem: {
    type: "object",
    description: "The same facts as RFC 9457, with `Accept: application/problem+json`.",
    properties: { type: { type: "string" }, title: { type: "string" }, status: { type: "integer" }, detail: { type: "string" }, instance: { type: "string" }, ...errorProperties },
    required: ["type", "title", "status", "detail", "instance", ...required],
  },
};

/** An error's responses, by status, each naming its codes. */
function errorResponses(codes: ErrorCode[]): Record<string, unknown> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(codes)) byStatus.set(errorShapes[code].status, [...(byStatus.get(errorShapes[code].status) ?? []), code]);
  const narrowed = (of: ErrorCode[]) => ({ allOf: [{ $ref: "#/components/schemas/Error" }, { type: "object", properties: { code: { enum: of } } }] });
  return Object.fromEntries(
    [...byStatus].map(([status, of]) => [
      status,
      { description: of.map((code) => `\`${code}\``).join(", "), content: { "application/json": { schema: narrowed(of) }, [problemType]: { schema: { $ref: "#/components/schemas/Problem" } } } },
    ]),
  );
}

/** Adds every operation's errors, names the base as it is written, and keeps the components that are used. */
function complete(document: Document): Document {
  const paths = Object.fromEntries(Object.entries(document.paths ?? {}).map(([path, operations]) => [path.replace(/(.)\/$/, "$1"), operations]));
  for (const [method, operation] of Object.values(paths).flatMap((path) => Object.entries(path))) {
    const { "x-needs": needs = "nothing", "x-chat-token": byToken = false } = operation;
    const codes = [...everywhere, ...(needs === "nothing" ? [] : withKey), ...(method === "get" ? [] : (["read_only", ...withBody] as const)), ...(operation["x-errors"] ?? [])];
    for (const name of ["x-errors", "x-needs", "x-chat-token", "x-audit"] as const) delete operation[name];
    // A body that may be missing: its schema allows null.
    const body = operation.requestBody as { required?: boolean; content?: Record<string, { schema?: { anyOf?: { type?: string }[] } }> } | undefined;
    if (body && Object.values(body.content ?? {}).some(({ schema }) => schema?.anyOf?.some(({ type }) => type === "null"))) body.required = false;
    operation.security = needs === "nothing" ? [] : [{ apiKey: [needs] }, ...(byToken ? [{ chatToken: [] }, { chatTokenInQuery: [] }] : [])];
    operation.responses = { ...operation.responses, ...errorResponses(codes) };
  }
  const all: Record<string, unknown> = { ...document.components?.schemas, ...errorSchemas };
  const used = reachable(JSON.stringify(paths), all);
  const schemas = Object.fromEntries(Object.entries(all).filter(([name]) => used.has(name) || name === "EventData").map(([name, schema]) => [name.replace(/Input$/, ""), schema]));
  return withoutTwins({ ...document, paths, components: { ...document.components, schemas } });
}

/** zod makes a schema for each direction; here both are the same, so one name is enough. */
const withoutTwins = (document: Document): Document => JSON.parse(JSON.stringify(document).replaceAll(/("#\/components\/schemas\/\w+)Input"/g, '$1"')) as Document;

/** The components that are referred to, directly or by others. */
function reachable(text: string, all: Record<string, unknown>): Set<string> {
  const found = new Set<string>();
  const visit = (within: string) => {
    for (const [, name] of within.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (name === undefined || found.has(name)) continue;
      found.add(name);
      visit(JSON.stringify(all[name] ?? {}));
    }
  };
  visit(text);
  return found;
}

/** Answers may get more fields one day, and clients must not mind; only what refuses unknown fields says so. */
const openObjects = ({ zodSchema, jsonSchema }: { zodSchema: unknown; jsonSchema: { additionalProperties?: unknown } }): void => {
  const { catchall } = (zodSchema as { _zod: { def: { catchall?: unknown } } })._zod.def;
  if (catchall === undefined && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
};

/** Before any route. */
export async function collectDocument(app: FastifyInstance, version: string): Promise<void> {
  const options = { schemaRegistry: components as never, zodToJsonConfig: { override: openObjects } };
  const toComponents = createJsonSchemaTransformObject(options);
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.1",
      info: { title: "Buildlane", version, description: "A build queue for AI chat products: every chat is a lane, strictly first in, first out. Success is `{ ok: true, data }`; failure is an Error, with a stable `code`." },
      servers: [{ url: "/" }],
      components: {
        securitySchemes: {
          apiKey: { type: "http", scheme: "bearer", bearerFormat: "bl_…", description: "An API key; the scope that an operation needs stands beside it. A service on loopback that has no key asks for none." },
          chatToken: { type: "http", scheme: "bearer", bearerFormat: "blc_…", description: "A short-lived token for one chat, from `POST /api/builds/chat/{chatId}/token`." },
          chatTokenInQuery: { type: "apiKey", in: "query", name: "token", description: "The same token, where a browser's EventSource cannot send headers. API keys are never taken from a URL." },
        },
      },
    },
    transform: createJsonSchemaTransform(options),
    transformObject: (document) => complete(toComponents(document) as Document) as never,
  });
}

/** `/openapi.json` and `/docs`. */
export async function documentRoutes(app: FastifyInstance): Promise<void> {
  let text: string | undefined;
  app.get("/openapi.json", { schema: documented({ operationId: "openapi", needs: "nothing", summary: "This document", tags: ["health"], response: { 200: says(z.looseObject({ openapi: z.string() }), "OpenAPI 3.1.") } }) as never }, async (_request, reply) => {
    text ??= JSON.stringify(app.swagger());
    return reply.type("application/json; charset=utf-8").send(text);
  });
  await app.register(async (docs) => {
    await docs.register(helmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { defaultSrc: ["'self'"], styleSrc: ["'self'", "'unsafe-inline'"], imgSrc: ["'self'", "data:"], objectSrc: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"], frameAncestors: ["'none'"] },
      },
      // The service speaks plain HTTP; whoever puts TLS before it decides on this.
      strictTransportSecurity: false,
    });
    await docs.register(swaggerUi, { routePrefix: "/docs", logLevel: "silent", theme: { title: "Buildlane API" } });
  });
}
