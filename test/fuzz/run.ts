/** One fuzz run: a queue with jobs of every end, the server around it, and so many requests. */
import fc from "fast-check";
import type { FastifyInstance } from "fastify";
import { controlledQueue, request, server } from "../http/support.js";
import { judge, requests } from "./api.js";
import type { Document } from "./api.js";

export interface FuzzResult {
  requests: number;
  /** How often each status was answered. */
  statuses: Record<string, number>;
  /** Operations that were answered with success at least once. */
  succeeded: Set<string>;
  operations: number;
  wrong: string[];
}

export async function fuzzApi({ runs, seed }: { runs: number; seed: number }): Promise<FuzzResult> {
  await using control = await controlledQueue({ maxPendingPerChat: 50, maxPending: 500, rateLimit: "100000/minute", drainMs: 0 });
  const { queue } = control;
  const ids: string[] = [];
  for (const code of ["1", "2", "fail 1", "fail 2"]) ids.push((await queue.enqueue(request({ code }) as never)).id);
  for (const id of ids) await queue.waitFor(id);
  ids.push((await queue.enqueue(request({ chatId: "chat2", code: "hold" }) as never)).id, (await queue.enqueue(request({ chatId: "chat2" }) as never)).id);
  const key = await queue.keys.create({ scopes: ["admin"], tenant: "*" });
  const spare = await queue.keys.create({});
  await using app = await server(queue);
  await app.ready();
  const document = JSON.parse(JSON.stringify(app.swagger())) as Document;
  const withKey = { inject: (options: { headers?: Record<string, string> }) => app.inject({ ...options, headers: { authorization: `Bearer ${key.key}`, ...options.headers } } as never) } as unknown as FastifyInstance;
  const ask = judge(withKey, document);
  const result: FuzzResult = { requests: 0, statuses: {}, succeeded: new Set(), operations: Object.values(document.paths).reduce((sum, methods) => sum + Object.keys(methods).length, 0), wrong: [] };
  const spareKeys = [spare.id];
  await fc.assert(
    fc.asyncProperty(requests(document, { ids, chats: ["chat1", "chat2", "chat3"], keys: spareKeys }), async (drawn) => {
      const { status, operation, wrong, id } = await ask(drawn);
      result.requests++;
      result.statuses[status] = (result.statuses[status] ?? 0) + 1;
      if (status < 300) result.succeeded.add(operation);
      if (status === 202 && id !== undefined && ids.length < 200) ids.push(id);
      if (wrong !== null) {
        result.wrong.push(wrong);
        throw new Error(wrong);
      }
    }),
    { numRuns: runs, seed, endOnFailure: true },
  ).catch((error: unknown) => {
    if (result.wrong.length === 0) throw error;
  });
  control.release();
  return result;
}
