/**
 * Helmet's headers on every answer of the service. Helmet works them out anew for each request (10 µs and a promise); they
 * never change here, so they are asked for once and set as they are. Pages with styles of their own register helmet again.
 */
import helmet from "@fastify/helmet";
import Fastify from "fastify";
import type { FastifyInstance } from "fastify";

/** Answers are data: nothing in them is to be run, framed or guessed at. */
const policy = {
  contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"], baseUri: ["'none'"], formAction: ["'none'"] } },
  xFrameOptions: { action: "deny" as const },
  // The service speaks plain HTTP; whoever puts TLS before it decides on this.
  strictTransportSecurity: false,
};

async function helmetsHeaders(): Promise<[string, string][]> {
  const app = Fastify();
  await app.register(helmet, policy);
  app.get("/", async () => "");
  const { headers } = await app.inject("/");
  await app.close();
  const own = /^(content-(type|length)|date|connection)$/;
  return Object.entries(headers).filter(([name]) => !own.test(name)) as [string, string][];
}

export async function sendSafeHeaders(app: FastifyInstance): Promise<void> {
  const headers = await helmetsHeaders();
  app.addHook("onRequest", (_request, reply, done) => {
    // On the raw answer, as helmet does, so that a page's own helmet has the last word.
    for (const [name, value] of headers) reply.raw.setHeader(name, value);
    done();
  });
}
