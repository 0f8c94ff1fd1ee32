/** A chat: its jobs, and holding its lane. */
import { z } from "zod";
import { BuildlaneError } from "../../errors.js";
import { documented } from "../compilers.js";
import { named, says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { refuseBody } from "../json-body.js";
import { chatParams, chatQuery, policyBody, wanted } from "../requests.js";
import { chatPolicies } from "../../store/store.js";
import { jobSummary, ok } from "../schemas.js";
import { summary } from "../summary.js";

const list = (description: string) => says(z.array(jobSummary), description);
const chatJobs = z.object({
  pending: list("In the order in which they will run."),
  running: list("At most one."),
  completed: list("Newest first."),
  failed: list("Newest first."),
});
const policy = named(
  "ChatPolicy",
  z.object({ whileRetrying: z.enum(chatPolicies.whileRetrying), afterFailure: z.enum(chatPolicies.afterFailure) }),
  "How a chat's order deals with failures.",
);
const chatState = z.object({
  paused: z.boolean(),
  heldBy: says(z.string().nullable(), "The failed job for which its policy has paused it."),
  policy,
});
const defaultState = { paused: false, heldBy: null, policy: { whileRetrying: "block", afterFailure: "skip" } } as const;
const noSuchChat = (chatId: string) => new BuildlaneError("not_found", `There is no chat ${chatId}: no job was ever submitted to it.`);
const chatPaused = z.object({ chatId: z.string(), paused: z.boolean() });

const chatCancelled = z.object({
  chatId: z.string(),
  cancelled: says(z.number(), "Pending jobs that were cancelled."),
  stopping: says(z.string().nullable(), "The running job, which is being stopped."),
});
const chatErased = z.object({ chatId: z.string(), erased: says(z.number(), "Jobs that were deleted.") });

export function chatRoutes(app: Api, { jobs, watched }: RouteContext): void {
  app.route({
    method: "GET",
    url: "/chat/:chatId",
    schema: documented({
      operationId: "getChat",
      needs: "read",
      chatToken: true,
      summary: "A chat's jobs by status",
      description: "`limit` counts for each status. A chat that never had a job has four empty lists.",
      tags: ["chats"],
      params: chatParams,
      querystring: chatQuery,
      response: { 200: says(ok(chatJobs).extend({ meta: chatState }), "The chat's jobs, and how its lane stands.") },
    }),
    handler: async (request) => {
      const { params, query } = request;
      const include = wanted(query.include);
      const queue = watched(request);
      const [{ pending, running, completed, failed }, state] = await Promise.all([queue.chat(params.chatId, { limit: query.limit, include }), queue.chatState(params.chatId)]);
      const all = (found: typeof pending) => found.map((job) => summary(job, include));
      return { ok: true as const, data: { pending: all(pending), running: all(running), completed: all(completed), failed: all(failed) }, meta: state ?? defaultState };
    },
  });

  for (const [verb, paused, done] of [["pause", true, "Its jobs wait; what runs goes on."], ["resume", false, "Its jobs run again."]] as const) {
    app.route({
      method: "POST",
      url: `/chat/:chatId/${verb}`,
      preValidation: refuseBody,
      schema: documented({ operationId: `${verb}Chat`, needs: "operate", audit: `chat.${verb}d`, summary: `${paused ? "Hold" : "Release"} a chat's jobs`, tags: ["chats"], params: chatParams, response: { 200: says(ok(chatPaused), done) }, errors: ["not_found"] }),
      handler: async (request) => {
        const { chatId } = request.params;
        const queue = jobs(request);
        const known = await (paused ? queue.pauseChat(chatId) : queue.resumeChat(chatId));
        if (!known) throw noSuchChat(chatId);
        return { ok: true as const, data: { chatId, paused } };
      },
    });
  }

  app.route({
    method: "POST",
    url: "/chat/:chatId/cancel",
    preValidation: refuseBody,
    schema: documented({
      operationId: "cancelChat",
      needs: "operate",
      audit: "chat.cancelled",
      summary: "Cancel all of a chat's unfinished jobs",
      tags: ["chats"],
      params: chatParams,
      response: { 200: says(ok(chatCancelled), "All are cancelled."), 202: says(ok(chatCancelled), "One runs and is being stopped; the others are cancelled.") },
      errors: ["not_found"],
    }),
    handler: async (request, reply) => {
      const { chatId } = request.params;
      const answer = await jobs(request).cancelChat(chatId);
      if (!answer) throw noSuchChat(chatId);
      return reply.code(answer.stopping === null ? 200 : 202).send({ ok: true, data: { chatId, ...answer } });
    },
  });

  app.route({
    method: "PUT",
    url: "/chat/:chatId/policy",
    schema: documented({
      operationId: "setChatPolicy",
      needs: "operate",
      audit: "chat.policyChanged",
      summary: "Choose how a chat's order deals with failures",
      description: "A chat may have a policy before its first job.",
      tags: ["chats"],
      params: chatParams,
      body: policyBody,
      response: { 200: says(ok(policy), "The whole policy, in force from the next attempt's end.") },
    }),
    handler: async (request) => ({ ok: true as const, data: await jobs(request).setPolicy(request.params.chatId, request.body) }),
  });

  app.route({
    method: "DELETE",
    url: "/chat/:chatId",
    preValidation: refuseBody,
    schema: documented({
      operationId: "eraseChat",
      needs: "operate",
      audit: "chat.erased",
      summary: "Erase a conversation",
      description: "Cancels the chat's jobs, waits until the running one is stopped, then deletes code, files, results and events for good. Its numbers never restart.",
      tags: ["chats"],
      params: chatParams,
      response: { 200: says(ok(chatErased), "Nothing of it is left.") },
      errors: ["not_found", "chat_stopping"],
    }),
    handler: async (request) => {
      const { chatId } = request.params;
      const answer = await jobs(request).erase(chatId);
      if (!answer) throw noSuchChat(chatId);
      return { ok: true as const, data: { chatId, erased: answer.jobs } };
    },
  });
}
