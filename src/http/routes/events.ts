/** What happens to a job or in a chat, live, and resumable by the chat's event numbers. */
import { z } from "zod";
import type { FastifyReply, FastifyRequest } from "fastify";
import { isFinal } from "../../job.js";
import type { QueueView } from "../../queue-api.js";
import { documented, sent } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { chatParams, eventsHeaders, eventsQuery, jobParams } from "../requests.js";
import { beginLate, isAway } from "../late.js";
import { checkAccept, eventStream, resumeAfter, sendEvents } from "../sse.js";
import type { StreamItem } from "../sse.js";
import { endWhenRefused } from "../still-allowed.js";
import { tooManyStreams } from "../stays.js";
import type { Stay } from "../stays.js";

const stream = (description: string) => says(z.string(), `${description} Each event: \`id\` is the chat's event number, \`event\` its type, \`data\` an EventData. A comment every 15 s keeps the connection; \`reset\` says that events were left out and the state must be read again; \`job.moved\` (position or estimate changed) has no \`id\` and is not told again. Opened while the database is away, it stays silent until that is back; what the database then refuses, such as a job that is unknown, ends the stream, and the next request hears why. Only a key that cannot be looked up is refused at once, with 503. It ends when its key or token does.`);
const errors = ["too_many_streams", "not_acceptable"] as const;

export function eventRoutes(app: Api, context: RouteContext): void {
  const { jobs, watched, caller, isIdentified, identify, stays, streamsMax, clock, isDraining } = context;

  /** Opens the stream unless there are too many; what goes wrong before the first byte is an ordinary error, but for a database that is away. */
  async function open(request: FastifyRequest, reply: FastifyReply, itemsFor: (stay: Stay) => Promise<AsyncIterable<StreamItem> | null>): Promise<never> {
    checkAccept(request);
    const stay = stays.enter(reply.raw, caller(request));
    if (!stay) throw tooManyStreams(streamsMax);
    const begin = async () => {
      await identify(request);
      return itemsFor(stay);
    };
    const late = () => beginLate(begin, { clock, signal: stay.signal, isOver: isDraining });
    try {
      const items = isIdentified(request) ? await begin().catch((error: unknown) => (isAway(error) ? late() : Promise.reject(error as Error))) : late();
      if (items) {
        endWhenRefused(request, stay, context, clock);
        return sent(sendEvents(request, reply, items, clock));
      }
      stay.leave();
      return sent(reply.code(204).send());
    } catch (error) {
      stay.leave();
      throw error;
    }
  }

  app.route({
    method: "GET",
    url: "/:id/events",
    exposeHeadRoute: false,
    schema: documented({
      operationId: "followJob",
      needs: "read",
      chatToken: true,
      summary: "A job's events",
      description: "From its first event on, or after `Last-Event-ID`. Ends after the job's final event; a browser that comes back then gets 204 and stops.",
      tags: ["events"],
      params: jobParams,
      querystring: eventsQuery,
      headers: eventsHeaders,
      produces: [eventStream],
      response: { 200: stream("The job's events."), 204: says(z.undefined(), "The job is final, and its last event has been seen.") },
      errors: ["job_not_found", ...errors],
    }),
    handler: (request, reply) =>
      open(request, reply, async ({ signal }) => {
        const { id } = request.params;
        const queue = watched(request);
        const { after, unknown } = resumeAfter(request.headers["last-event-id"], request.query.after);
        const { status } = await queue.get(id);
        const items = jobEvents(queue, id, after ?? 0, signal);
        if (!isFinal(status)) return unknown ? resetThen(items) : items;
        // Everything has happened: what is left is finite, and may be nothing.
        const left: StreamItem[] = [];
        for await (const item of items) left.push(item);
        if (unknown) left.unshift("reset");
        return left.length === 0 ? null : listed(left);
      }),
  });

  app.route({
    method: "GET",
    url: "/chat/:chatId/events",
    exposeHeadRoute: false,
    schema: documented({
      operationId: "followChat",
      needs: "read",
      chatToken: true,
      summary: "A chat's events",
      description: "After `Last-Event-ID` or `after`; else from the first event of the chat's oldest unfinished job, else from now. A number that no event has yet, such as one from before a restore, gets `reset`, and what comes.",
      tags: ["events"],
      params: chatParams,
      querystring: eventsQuery,
      headers: eventsHeaders,
      produces: [eventStream],
      response: { 200: stream("The chat's events, without end.") },
      errors,
    }),
    handler: (request, reply) =>
      open(request, reply, async ({ signal }) => {
        const { after, unknown } = resumeAfter(request.headers["last-event-id"], request.query.after);
        const items = watched(request).stream({ chatId: request.params.chatId }, { after, signal });
        return unknown ? resetThen(items) : items;
      }),
  });

  app.route({
    method: "GET",
    url: "/events",
    exposeHeadRoute: false,
    schema: documented({
      operationId: "followAll",
      needs: "read",
      summary: "Everything that happens, live",
      description:
        "Says `reset`, then every chat's events from then on, each chat's in order, and `queue.paused` and `queue.resumed`. Nothing is replayed: read the state after `reset`, and apply events by chat and number. A number counts its chat's events, so a chat's numbers have no gaps. What was accepted in a transaction that stayed open for seconds is told at its commit, or, where hints are off or it was open when the stream began, not before its chat's next event. A reader that lags too far behind gets `reset` and the end.",
      tags: ["events"],
      produces: [eventStream],
      response: { 200: stream("The events of all chats, without end.") },
      errors,
    }),
    handler: (request, reply) => open(request, reply, async ({ signal }) => jobs(request).stream("all", { signal })),
  });
}

/**
 * A job's events after a number, up to the one that made it final. They are read from its first on, for they are few,
 * and only so is the end found by who has seen it already. A failed job may have been redriven: then it goes on.
 */
async function* jobEvents(queue: Pick<QueueView, "get" | "stream">, jobId: string, after: number, signal: AbortSignal): AsyncGenerator<StreamItem, void, undefined> {
  for await (const item of queue.stream({ jobId }, { after: 0, signal })) {
    if (item === "reset" || item.number === null || item.number > after) yield item;
    // An erased job has no end to wait for: the error ends the stream, and who comes back hears that it is gone.
    if (item === "reset") await queue.get(jobId);
    if (item === "reset" || item.number === null || item.status === null || !isFinal(item.status)) continue;
    const { status, completedAt } = await queue.get(jobId);
    if (isFinal(status) && completedAt !== null && item.at >= completedAt) return;
  }
}

async function* resetThen(items: AsyncIterable<StreamItem>): AsyncGenerator<StreamItem, void, undefined> {
  yield "reset";
  yield* items;
}

async function* listed(items: StreamItem[]): AsyncGenerator<StreamItem, void, undefined> {
  yield* items;
}
