/** Every error leaves in one shape: the envelope, or RFC 9457 for those who ask for it. The only file that knows Fastify's own error codes. */
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { BuildlaneError, errorShapes } from "../errors.js";
import type { ErrorCode } from "../errors.js";
import { messageOf } from "../report.js";

/** Fastify's own errors, by what they mean for a client. */
const ofFastify: Record<string, [ErrorCode, string]> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ["unsupported_media_type", "Send the body as application/json."],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ["invalid_json", "The body's length is not what Content-Length says."],
  FST_ERR_CTP_INVALID_JSON_BODY: ["invalid_json", "The body is not valid JSON."],
  FST_ERR_CTP_EMPTY_JSON_BODY: ["invalid_json", "The body is empty."],
  FST_ERR_BAD_URL: ["validation_failed", "The URL is not valid: its percent-encoding cannot be read."],
  FST_ERR_MAX_PARAM_LENGTH: ["validation_failed", "A part of the URL is too long."],
};

/** What other errors with a status become, so that a plugin's 4xx stays one. */
const byStatus: Record<number, ErrorCode> = { 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable", 413: "payload_too_large", 415: "unsupported_media_type", 429: "rate_limited" };

/** Ours as it is, Fastify's by its meaning, a stranger's by its status; everything else is an internal error whose message stays here. */
function toBuildlaneError(error: unknown, bodyBytesMax: number | undefined): BuildlaneError {
  if (error instanceof BuildlaneError) return error;
  const { code, statusCode, validation } = error as Partial<FastifyError>;
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") return new BuildlaneError("payload_too_large", `The body is larger than the ${bodyBytesMax} bytes that are allowed.`, { cause: error });
  const known = code === undefined ? undefined : ofFastify[code];
  if (known) return new BuildlaneError(...known, { cause: error });
  if (validation || (statusCode !== undefined && statusCode >= 400 && statusCode < 500)) return new BuildlaneError(byStatus[statusCode ?? 400] ?? "validation_failed", messageOf(error), { cause: error });
  return new BuildlaneError("internal_error", "Something went wrong here. Try again; if it stays so, tell the operator the request id.", { cause: error });
}

/** Not ours, not Fastify's, and meant for a client: thrown by a hook of the application around us. */
export const isForeign = (error: unknown): boolean => {
  const { code, statusCode, validation } = error as Partial<FastifyError>;
  return !(error instanceof BuildlaneError) && !validation && statusCode !== undefined && statusCode < 500 && !String(code).startsWith("FST_");
};

const title = (code: ErrorCode): string => code.charAt(0).toUpperCase() + code.slice(1).replaceAll("_", " ");
export const problemType = "application/problem+json";

/** The facts of an error, as they are sent. */
export function errorBody(error: BuildlaneError, requestId: string, asProblem = false): Record<string, unknown> {
  const { statusCode, code, message, retryable, issues } = error;
  const facts = { ok: false, statusCode, code, message, retryable, requestId, ...(issues ? { issues } : {}) };
  return asProblem ? { type: `urn:buildlane:error:${code}`, title: title(code), status: statusCode, detail: message, instance: `urn:request:${requestId}`, ...facts } : facts;
}

/** A text, so that no serializer has a say in it. */
export function sendError(error: BuildlaneError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const asProblem = request.headers.accept?.includes(problemType) ?? false;
  if (error.retryAfterMs !== undefined) reply.header("retry-after", Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
  return reply
    .code(error.statusCode)
    .header("cache-control", "no-store")
    .type(asProblem ? problemType : "application/json; charset=utf-8")
    .send(JSON.stringify(errorBody(error, request.id, asProblem)));
}

/** The error handler of our routes. A stranger's error goes on to the handler of the application around us. */
export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (isForeign(error)) throw error;
  return handleAnyError(error, request, reply);
}

/** The last error handler: of a server that is all ours. */
export function handleAnyError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const told = toBuildlaneError(error, request.routeOptions.bodyLimit);
  if (told.statusCode >= 500) logFailure(told, request);
  return sendError(told, request, reply);
}

/** Refusals that are part of a busy day; everything else from 500 on wants to be seen. */
const usual = new Set<ErrorCode>(["queue_full", "draining"]);

function logFailure(error: BuildlaneError, request: FastifyRequest): void {
  const cause = error.cause ?? error;
  const facts = { event: "request.failed", requestId: request.id, method: request.method, route: request.routeOptions.url, code: error.code, error: messageOf(cause), at: frames(cause) };
  request.log[usual.has(error.code) ? "debug" : "error"](facts, "request failed");
}

/** Where it was thrown: function, file name and line, without folders of the host. */
const frames = (error: unknown): string[] =>
  error instanceof Error && !(error instanceof BuildlaneError)
    ? (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)).slice(0, 5).map((line) => line.trim().replace(/\(?(?:file:\/\/)?[^\s()]*\//, "("))
    : [];

export const notFound = (request: FastifyRequest): BuildlaneError => new BuildlaneError("not_found", `There is nothing at ${request.method} ${request.url.split("?")[0]?.slice(0, 200)}.`);
export const methodNotAllowed = (method: string, allowed: string): BuildlaneError => new BuildlaneError("method_not_allowed", `${method} is not allowed here. Allowed: ${allowed}.`);

export const errorCodes = Object.keys(errorShapes) as ErrorCode[];
