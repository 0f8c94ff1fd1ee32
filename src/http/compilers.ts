/** How zod checks what comes in and shapes what goes out; set in our own scope only, so a host keeps its own. */
import { serializerCompiler as zodSerializer } from "@fastify/type-provider-zod";
import type { FastifyReply, FastifySchema, FastifySchemaCompiler } from "fastify";
import type { FastifySerializerCompiler } from "fastify/types/schema.js";
import type { z } from "zod";
import type { BuildlaneError, ErrorCode } from "../errors.js";
import { collectIssues } from "../issues.js";
import type { Needs } from "./access.js";

/** zod's issues as ours: unknown fields one by one, and each message a sentence. */
function refusal(found: z.core.$ZodIssue[]): BuildlaneError | null {
  const issues = collectIssues();
  for (const issue of found) {
    if (issue.code === "unrecognized_keys") for (const key of issue.keys) issues.add([...issue.path, key], issue.message);
    else issues.add(issue.path, issue.message.endsWith(".") ? issue.message : `${issue.message}.`);
  }
  return issues.error();
}

/** zod's own words would name all of them. */
const words = ({ code }: { code?: string }): string | undefined => (code === "unrecognized_keys" ? "Unknown field." : undefined);

export const validatorCompiler: FastifySchemaCompiler<z.ZodType> =
  ({ schema }) =>
  (data) => {
    const parsed = schema.safeParse(data, { error: words });
    return parsed.success ? { value: parsed.data } : { error: refusal(parsed.error.issues) as BuildlaneError };
  };

export const serializerCompiler = zodSerializer;

/** For a body that the queue checks itself: once is enough. Of headers, only one that has a limit is worth the check. */
export const submitted: FastifySchemaCompiler<unknown> = (route) => {
  if (route.httpPart === "body") return (data) => ({ value: data });
  const check = validatorCompiler(route as never);
  return route.httpPart === "headers" ? (data) => ((data as Record<string, unknown>)["idempotency-key"] === undefined ? { value: data } : check(data)) : check;
};

/** What was just accepted is written as it is: it was put together here, field by field. Everything else passes its schema. */
export const acceptedAsIs: FastifySerializerCompiler<z.ZodType> = (route) => (route.httpStatus === "202" ? JSON.stringify : zodSerializer(route));

/** A route's schema with what it needs of its caller (access.ts), whether a chat's token opens it, the operator's action that it is (auditing.ts), and the errors that it answers beside those of every route; `openapi.ts` documents both. */
export const documented = <const S extends FastifySchema & { operationId: string; summary: string; tags: readonly string[] }>(schema: S & { needs: Needs; chatToken?: boolean; audit?: string; errors?: readonly ErrorCode[] }): S => {
  const { errors = [], needs, chatToken = false, audit, ...rest } = schema;
  return { ...rest, "x-errors": errors, "x-needs": needs, "x-chat-token": chatToken, ...(audit === undefined ? {} : { "x-audit": audit }) } as unknown as S;
};

/** A reply that went out as bytes or as a stream, returned by a route whose schema describes a text. */
export const sent = (reply: FastifyReply): never => reply as never;
