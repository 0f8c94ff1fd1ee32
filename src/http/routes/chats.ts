/** A chat: its jobs, and holding its lane. */
import { z } from "zod";
import { BuildlaneError } from "../../errors.js";
import { documented } from "../compilers.js";
import { says } from "../components.js";
import type { Api, RouteContext } from "../context.js";
import { refuseBody } from "../json-body.js";
import { chatParams, chatQuery, wanted } from "../requests.js";
import { jobSummary, ok } from "../schemas.js";
import { summary } from "../summary.js";

const list = (description: string) => says(z.array(jobSummary), description);
const chatJobs = z.object({
  pending: list("In the order in which they will run."),
  running: list("At most one."),
  completed: list("Newest first."),
  failed: list("Newest first."),
});
const chatPaused = z.object({ chatId: z.string(), paused: z.boolean() });

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
      response: { 200: says(ok(chatJobs), "The chat's jobs.") },
    }),
    handler: async (request) => {
      const { params, query } = request;
      const include = wanted(query.include);
      const { pending, running, completed, failed } = await watched(request).chat(params.chatId, { limit: query.limit, include });
      const all = (found: typeof pending) => found.map((job) => summary(job, include));
      return { ok: true as const, data: { pending: all(pending), running: all(running), completed: all(completed), failed: all(failed) } };
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
        if (!known) throw new BuildlaneError("not_found", `There is no chat ${chatId}: no job was ever submitted to it.`);
        return { ok: true as const, data: { chatId, paused } };
      },
    });
  }
}
