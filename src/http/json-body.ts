/** The only body there is: JSON in valid UTF-8. An empty one counts as none. Parsers of a host do not reach in here. */
import { isUtf8 } from "node:buffer";
import type { FastifyInstance, preValidationHookHandler } from "fastify";
import { BuildlaneError, validationFailed } from "../errors.js";
import { collectIssues } from "../issues.js";
import { messageOf } from "../report.js";

const invalid = (why: string): BuildlaneError => new BuildlaneError("invalid_json", `The body is not valid JSON: ${why}.`);

export function readJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    if (!isUtf8(body as Buffer)) return done(invalid("it is not UTF-8"));
    return parse(request, body.toString(), (error, value) => (error ? done(invalid(faultOf(body.toString()))) : done(null, value)));
  });
}

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
