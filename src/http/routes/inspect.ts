/** The actors for Stately's inspector, when the setting allows it: for admins, from this machine only. */
import { Readable } from "node:stream";
import { z } from "zod";
import { BuildlaneError } from "../../errors.js";
import type { WireEvent } from "../../inspect/stately.js";
import { documented, sent } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { inspectorPage, inspectorPolicy } from "../inspector-page.js";
import { inspectQuery } from "../requests.js";
import { checkAccept } from "../sse.js";
import { endWhenRefused } from "../still-allowed.js";
import { tooManyStreams } from "../stays.js";

const loopback = /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/;

export function inspectRoutes(app: Api, context: RouteContext): void {
  const { whole, caller, settings, stays, streamsMax, clock } = context;
  const check = (remoteAddress: string | undefined): void => {
    if (!settings.inspect) throw new BuildlaneError("not_found", "The actors are not shown here: start the service with BUILDLANE_INSPECT=true.");
    if (!loopback.test(remoteAddress ?? "")) throw new BuildlaneError("forbidden", "The actors are shown on the machine itself only: connect over loopback, through a tunnel if need be.");
  };

  app.route({
    method: "GET",
    url: "/inspect",
    exposeHeadRoute: false,
    schema: documented({
      operationId: "inspectActors",
      needs: "admin",
      summary: "What the actors do, for Stately's inspector",
      description: "Server-sent events whose `data` is one event of Stately's inspection wire format. Actors that live already are announced first. Submitted code and what is made of it are left out. Only with `BUILDLANE_INSPECT`, and over loopback.",
      tags: ["stats"],
      querystring: inspectQuery,
      produces: ["text/event-stream"],
      response: { 200: says(z.string(), "The events, without end.") },
      errors: ["not_found", "too_many_streams", "not_acceptable"],
    }),
    handler: async (request, reply) => {
      check(request.socket.remoteAddress);
      checkAccept(request);
      const stay = stays.enter(reply.raw, caller(request));
      if (!stay) throw tooManyStreams(streamsMax);
      try {
        const { chatId, tenant, jobId, sample } = request.query;
        const events = whole(request).inspect({ chatId, tenant, jobId, sample, signal: stay.signal });
        endWhenRefused(request, stay, context, clock);
        if (request.raw.httpVersionMajor === 1) reply.header("connection", "close");
        return sent(reply.header("cache-control", "no-store").header("x-accel-buffering", "no").type("text/event-stream; charset=utf-8").send(Readable.from(framesOf(events), { highWaterMark: 16 }) as never));
      } catch (error) {
        stay.leave();
        throw error;
      }
    },
  });

  app.route({
    method: "GET",
    url: "/inspector",
    exposeHeadRoute: false,
    schema: documented({
      operationId: "inspectorPage",
      needs: "nothing",
      summary: "Stately's inspector on the stream beside it",
      description: "A page that shows https://stately.ai/inspect in a frame, which needs the internet, and hands it the events of `/inspect`. The query is the same. The page holds nothing by itself; it asks its reader for a key when the stream does, since a link carries none. Only with `BUILDLANE_INSPECT`, and over loopback.",
      tags: ["stats"],
      querystring: inspectQuery,
      produces: ["text/html"],
      response: { 200: says(z.string(), "The page.") },
      errors: ["not_found", "forbidden"],
    }),
    handler: async (request, reply) => {
      check(request.socket.remoteAddress);
      return sent(reply.header("content-security-policy", inspectorPolicy).header("cache-control", "no-store").type("text/html; charset=utf-8").send(Buffer.from(inspectorPage) as never));
    },
  });
}

async function* framesOf(events: AsyncIterable<WireEvent>): AsyncGenerator<string, void, undefined> {
  yield ": attached\n\n";
  for await (const event of events) yield `data: ${JSON.stringify(event)}\n\n`;
}
