/** The only body there is: JSON in valid UTF-8. An empty one counts as none. Parsers of a host do not reach in here. */
import { isUtf8 } from "node:buffer";
import type { FastifyInstance, preValidationHookHandler } from "fastify";
import { BuildlaneError, validationFailed } from "../errors.js";

const invalid = (why: string): BuildlaneError => new BuildlaneError("invalid_json", `The body is not valid JSON: ${why}.`);

export function readJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    if (!isUtf8(body as Buffer)) return done(invalid("it is not UTF-8"));
    // Node's own message quotes what was sent; a place in it is enough.
    return parse(request, body.toString(), (error, value) => (error ? done(invalid(placeIn(error.message))) : done(null, value)));
  });
}

const placeIn = (message: string): string => {
  const place = /at position (\d+)/.exec(message);
  return place ? `unexpected character at position ${place[1]}` : "it ends too early, or holds a forbidden key";
};

/** For routes that take no body: none, `null` or `{}`. */
export const refuseBody: preValidationHookHandler = (request, _reply, done) => {
  const { body } = request;
  if (body === undefined || body === null) return done();
  if (typeof body !== "object" || Array.isArray(body)) return done(validationFailed([{ path: "", message: "Expected no body." }]));
  const names = Object.keys(body);
  return names.length === 0 ? done() : done(validationFailed(names.map((name) => ({ path: `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, message: "Unknown field." }))));
};
