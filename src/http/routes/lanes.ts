/** The lanes as a picture: every chat with unfinished jobs or that finished some lately, those that need a person first. */
import { z } from "zod";
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { lanesQuery } from "../requests.js";
import { lane, okPage } from "../schemas.js";

export function laneRoutes(app: Api, { jobs }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/lanes",
    schema: documented({
      operationId: "listLanes",
      needs: "read",
      summary: "The lanes with their jobs in order, those that need a person first",
      description: "Paused lanes, then those that are delayed or back off, then those at work or in line, then idle ones that finished a job lately. A live picture: read this after `/events` said `reset`, and apply the events whose number is above a lane's `eventNumber`.",
      tags: ["chats"],
      querystring: lanesQuery,
      response: { 200: says(okPage(z.array(lane)), "One page.") },
    }),
    handler: async (request) => {
      const { lanes, nextCursor } = await jobs(request).lanes(request.query);
      return { ok: true as const, data: lanes, meta: { nextCursor } };
    },
  });
}
