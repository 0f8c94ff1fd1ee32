/**
 * The whole API under fire, from its own document: requests are drawn from the operations' schemas, right and wrong, and
 * every answer must be one that the document knows: its status, its type, its shape. Never a 5xx but those of a full
 * queue. The document is the only source: a new route is fuzzed by being documented.
 */
import Ajv from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { FastifyInstance } from "fastify";
import fc from "fast-check";

type Schema = { [key: string]: unknown };
interface Parameter {
  in: "path" | "query" | "header" | "cookie";
  name: string;
  required?: boolean;
  schema: Schema;
}
interface Operation {
  operationId: string;
  method: string;
  path: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema?: Schema }> }>;
}
export interface Document {
  paths: Record<string, Record<string, Omit<Operation, "method" | "path">>>;
  components: { schemas: Record<string, Schema> };
}

export interface Drawn {
  operation: Operation;
  path: Record<string, string>;
  query: Record<string, string>;
  headers: Record<string, string>;
  body: { json: unknown } | { raw: string } | null;
}

/** Values of the world that the requests are about, beside what is made up. */
export interface Pools {
  ids: string[];
  chats: string[];
  keys: string[];
}

const junkText = fc.oneof(fc.string({ maxLength: 30 }), fc.string({ unit: "binary", maxLength: 10 }), fc.constantFrom("", " ", "..", "%00", "null", "-1", "1e9", "__proto__", "' or 1=1 --", "<script>", "\u0000", "\u001f", "\ud800", "x".repeat(200), "ä".repeat(60)));

/** A database may not have what a text can say. */
const edgesOfTime = ["0000-01-01T00:00:00Z", "0000-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-12:00", "2024-02-29T23:59:59.9999999Z"];

/** Values that fit a JSON schema, as far as it says. */
function fits(schema: Schema, document: Document, pools: Pools, depth = 0): fc.Arbitrary<unknown> {
  const ref = schema["$ref"] as string | undefined;
  if (depth === 0 && ref) {
    // A described request has an example: that, with one field drawn anew, is more often right than a draw of all.
    const { examples, properties = {} } = document.components.schemas[ref.split("/").at(-1) as string] as { examples?: Schema[]; properties?: Record<string, Schema> };
    const [example] = examples ?? [];
    if (example) {
      const near = Object.entries(properties).map(([name, one]) => fits(one, document, pools, 1).map((value) => ({ ...example, [name]: value })));
      return fc.oneof(fc.constant(example), ...near, fits(schema, document, pools, 1));
    }
  }
  if (ref) return depth > 6 ? fc.constant(null) : fits(document.components.schemas[ref.split("/").at(-1) as string] as Schema, document, pools, depth + 1);
  const many = (schema["anyOf"] ?? schema["oneOf"]) as Schema[] | undefined;
  if (many) return fc.oneof(...many.map((one) => fits(one, document, pools, depth + 1)));
  if ("const" in schema) return fc.constant(schema["const"]);
  if (Array.isArray(schema["enum"])) return fc.constantFrom(...(schema["enum"] as unknown[]));
  const [min, max] = [(schema["minimum"] as number | undefined) ?? -1000, (schema["maximum"] as number | undefined) ?? 1000];
  switch (schema["type"]) {
    case "string":
      if (schema["format"] === "date-time") return fc.oneof({ weight: 3, arbitrary: fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }).map((at) => at.toISOString()) }, { weight: 1, arbitrary: fc.constantFrom(...edgesOfTime) });
      return fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...pools.chats, ...pools.ids) }, { weight: 1, arbitrary: fc.string({ minLength: (schema["minLength"] as number | undefined) ?? 0, maxLength: Math.min(40, (schema["maxLength"] as number | undefined) ?? 40) }) });
    case "integer":
    case "number":
      return fc.oneof(fc.integer({ min: Math.ceil(Math.max(min, -1e9)), max: Math.floor(Math.min(max, 1e9)) }), fc.constantFrom(min, max));
    case "boolean":
      return fc.boolean();
    case "array":
      return fc.array(fits((schema["items"] as Schema | undefined) ?? {}, document, pools, depth + 1), { minLength: (schema["minItems"] as number | undefined) ?? 0, maxLength: 3 });
    case "object": {
      const properties = (schema["properties"] ?? {}) as Record<string, Schema>;
      const required = (schema["required"] ?? []) as string[];
      const record = fc.record(Object.fromEntries(Object.entries(properties).map(([name, one]) => [name, fits(one, document, pools, depth + 1)])), { requiredKeys: required });
      const rest = schema["additionalProperties"];
      return typeof rest === "object" && rest !== null ? fc.tuple(record, fc.dictionary(fc.constantFrom("a.ts", "b/c.ts", "d.css"), fits(rest as Schema, document, pools, depth + 1), { maxKeys: 3 })).map(([own, more]) => ({ ...more, ...own })) : record;
    }
    case "null":
      return fc.constant(null);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

/** A fitting body with one thing spoilt. */
const spoilt = (whole: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.tuple(whole, fc.jsonValue({ maxDepth: 2 }), junkText, fc.nat(20)).map(([body, junk, name, at]) => {
    if (typeof body !== "object" || body === null || Array.isArray(body)) return junk;
    const keys = Object.keys(body);
    const key = at % 4 === 0 || keys.length === 0 ? name : (keys[at % keys.length] as string);
    return { ...body, [key]: junk };
  });

function drawn(operation: Operation, document: Document, pools: Pools): fc.Arbitrary<Drawn> {
  const named = (place: Parameter["in"]) => (operation.parameters ?? []).filter((one) => one.in === place);
  const text = (schema: Schema): fc.Arbitrary<string> => fc.oneof({ weight: 4, arbitrary: fits(schema, document, pools).map((value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "")) }, { weight: 1, arbitrary: junkText });
  const pathValue = ({ name, schema }: Parameter) => {
    // What is erased is gone for the rest of the run: one chat is enough for that.
    const pool = name === "id" ? pools.ids : name === "chatId" ? (operation.method === "delete" ? ["chat3"] : pools.chats) : name === "keyId" ? pools.keys : [];
    return pool.length === 0 ? text(schema) : fc.oneof({ weight: 5, arbitrary: fc.nat(10_000).map((at) => pool[at % pool.length] as string) }, { weight: 1, arbitrary: text(schema) });
  };
  const record = (of: Parameter[], value: (one: Parameter) => fc.Arbitrary<string>, all: boolean) => fc.record(Object.fromEntries(of.map((one) => [one.name, value(one)])), all ? {} : { requiredKeys: [] }) as fc.Arbitrary<Record<string, string>>;
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const body: fc.Arbitrary<Drawn["body"]> =
    schema === undefined
      ? operation.method === "get" ? fc.constant(null) : fc.oneof({ weight: 6, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.jsonValue().map((json) => ({ json })) })
      : fc.oneof(
          { weight: 5, arbitrary: fits(schema, document, pools).map((json) => ({ json })) },
          { weight: 3, arbitrary: spoilt(fits(schema, document, pools)).map((json) => ({ json })) },
          { weight: 1, arbitrary: fc.oneof(fc.string(), fc.constantFrom("{", "[]", "null", '{"__proto__":{}}', '"\\ud800"', "\u0000")).map((raw) => ({ raw })) },
        );
  return fc.record({
    operation: fc.constant(operation),
    path: record(named("path"), pathValue, true),
    query: fc.oneof(fc.constant({}), record(named("query"), (one) => text(one.schema), false)),
    headers: fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: record(named("header"), (one) => text(one.schema), false) }).map((headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replaceAll(/[^\x20-\x7e]/g, "?")]))),
    body,
  });
}

const streams = ({ responses }: Operation): boolean => "text/event-stream" in (responses["200"]?.content ?? {});

/** All operations; streams may have no end, so they are asked for something that they do not give. */
export function requests(document: Document, pools: Pools): fc.Arbitrary<Drawn> {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]): Operation => ({ ...operation, method, path })));
  return fc.oneof(...operations.map((operation) => {
    const one = drawn(operation, document, pools);
    return streams(operation) ? one.map((request) => ({ ...request, headers: { ...request.headers, accept: "application/json" } })) : one;
  }));
}

const encoded = (value: string): string => {
  try {
    return encodeURIComponent(value);
  } catch {
    return "%ed%a0%80";
  }
};

export interface Verdict {
  status: number;
  operation: string;
  /** Of the job that was accepted. */
  id?: string | undefined;
  /** Null: as the document says. */
  wrong: string | null;
}

/** Sends a request and compares its answer with the document. */
export function judge(app: FastifyInstance, document: Document): (drawn: Drawn) => Promise<Verdict> {
  const ajv = new Ajv.default({ strict: false, allErrors: false, validateFormats: true });
  addFormats.default(ajv);
  ajv.addSchema({ $id: "doc", components: document.components });
  const validators = new Map<string, (value: unknown) => boolean>();
  const validatorFor = (key: string, schema: Schema) => {
    const known = validators.get(key) ?? ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"doc#/components/')) as Schema);
    validators.set(key, known as (value: unknown) => boolean);
    return known;
  };

  return async ({ operation, path, query, headers, body }) => {
    const where = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encoded(path[name] ?? ""));
    const search = Object.entries(query).map(([name, value]) => `${name}=${encoded(value)}`).join("&");
    const answer = await app.inject({
      method: operation.method.toUpperCase() as "GET", url: search === "" ? where : `${where}?${search}`, headers: { ...headers, ...(body === null ? {} : { "content-type": "application/json" }) },
      ...(body === null ? {} : { payload: "raw" in body ? body.raw : JSON.stringify(body.json) ?? "null" }),
    });
    const wrong = (why: string): Verdict => ({ status: answer.statusCode, operation: operation.operationId, wrong: `${operation.method.toUpperCase()} ${where}?${search} ${JSON.stringify(body)?.slice(0, 300)} → ${answer.statusCode} ${answer.body.slice(0, 300)}: ${why}` });
    const fine: Verdict = { status: answer.statusCode, operation: operation.operationId, wrong: null };
    if (answer.statusCode >= 500 && answer.statusCode !== 503) return wrong("a fault of the service");
    // An empty or dotted parameter makes the path another route's, or nobody's: any answer in the envelope will do.
    const elsewhere = Object.values(path).some((value) => /^$|^\.{1,2}$/.test(value)) || ["not_found", "method_not_allowed"].includes(String(jsonOf(answer.body)?.["code"])) || Object.values(path).some((value) => document.paths[operation.path.replace(/\{\w+\}/, value)] !== undefined);
    const responses = elsewhere ? undefined : operation.responses[String(answer.statusCode)];
    if (!elsewhere && responses === undefined) return wrong("a status that the document does not know");
    const type = String(answer.headers["content-type"] ?? "").split(";")[0] ?? "";
    if (elsewhere || answer.statusCode === 304 || answer.statusCode === 204) return fine;
    const content = responses?.content ?? {};
    const described = content[type] ?? (Object.keys(content).length === 0 ? {} : undefined);
    if (described === undefined) return wrong(`a type (${type}) that the document does not know`);
    if (type !== "application/json" || described.schema === undefined) return fine;
    const value = jsonOf(answer.body);
    const validate = validatorFor(`${operation.operationId} ${answer.statusCode}`, described.schema) as ((value: unknown) => boolean) & { errors?: unknown };
    return validate(value) ? { ...fine, id: (value?.["data"] as { id?: string } | undefined)?.id } : wrong(`off its schema: ${JSON.stringify(validate.errors)}`);
  };
}

function jsonOf(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
