/** The only body there is: JSON in valid UTF-8, in no content coding. An empty one counts as none. Parsers of a host do not reach in here. */
import { isUtf8 } from "node:buffer";
import type { FastifyInstance, FastifyRequest, preParsingHookHandler, preValidationHookHandler } from "fastify";
import { BuildlaneError, validationFailed } from "../errors.js";
import { collectIssues } from "../issues.js";
import { messageOf } from "../report.js";

const invalid = (why: string): BuildlaneError => new BuildlaneError("invalid_json", `The body is not valid JSON: ${why}.`);

export function readJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addHook("preParsing", refuseOtherForms);
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    if (!isUtf8(body as Buffer)) return done(invalid("it is not UTF-8"));
    return parse(request, body.toString(), (error, value) => (error ? done(invalid(faultOf(body.toString()))) : done(null, value)));
  });
}

/** Before it is read. A body that a host's hook has put in the place of what came is decoded already. */
const refuseOtherForms: preParsingHookHandler = (request, reply, payload, done) => {
  const { "content-encoding": coding = "", "content-type": type = "" } = request.headers;
  if (!carriesBody(request)) return done();
  if (payload === request.raw && coding.split(",").some((one) => !["", "identity"].includes(one.trim().toLowerCase()))) {
    // RFC 9110, 15.5.16.
    reply.header("accept-encoding", "identity");
    return done(new BuildlaneError("unsupported_media_type", "Send the body as it is, without a content coding such as gzip."));
  }
  const charset = /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(type)?.[1];
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) return done(new BuildlaneError("unsupported_media_type", "Send the body in UTF-8."));
  return done();
};

const carriesBody = ({ method, headers }: FastifyRequest): boolean => method !== "GET" && method !== "HEAD" && (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0);

/** Fastify tells only that it is not valid, and Node's own message may quote what was sent: the place, or the character, is enough. */
function faultOf(text: string): string {
  try {
    JSON.parse(text);
  } catch (error) {
    const [, place] = /at position (\d+)/.exec(messageOf(error)) ?? [];
    const [, token] = /^Unexpected token ('.')/u.exec(messageOf(error)) ?? [];
    return place ? `unexpected character at position ${place}` : token ? `unexpected character ${token}` : "it ends too early";
  }
  return "it holds a forbidden key (__proto__ or constructor)";
}

/** For routes that take no body: none, `null` or `{}`. */
export const refuseBody: preValidationHookHandler = (request, _reply, done) => {
  const { body } = request;
  if (body === undefined || body === null) return done();
  if (typeof body !== "object" || Array.isArray(body)) return done(validationFailed([{ path: "", message: "Expected no body." }]));
  const issues = collectIssues();
  for (const name of Object.keys(body)) issues.add([name], "Unknown field.");
  return done(issues.error() ?? undefined);
};
