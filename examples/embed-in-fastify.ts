/**
 * The routes inside somebody's own Fastify application: `npx tsx examples/embed-in-fastify.ts`. The application keeps its
 * validators, its error handler and its hooks; here one of them asks for a token, for Buildlane's routes as well.
 */
import Fastify from "fastify";
import { createBuildQueue } from "buildlane";
import { buildRoutes } from "buildlane/fastify";

const queue = await createBuildQueue({ store: "memory" });
const app = Fastify();

app.setErrorHandler((error, _request, reply) => reply.code((error as { statusCode?: number }).statusCode ?? 500).send({ mine: (error as Error).message }));
app.addHook("onRequest", async (request) => {
  if (request.headers.authorization !== "Bearer token") throw Object.assign(new Error("Who are you?"), { statusCode: 401 });
});
app.get("/hello", async () => ({ hello: "world" }));
await app.register(buildRoutes, { queue, prefix: "/builds" });

const url = await app.listen({ port: 0, host: "127.0.0.1" });
const call = async (path: string, init: RequestInit = {}) => {
  const response = await fetch(url + path, { ...init, headers: { authorization: "Bearer token", "content-type": "application/json", ...init.headers } });
  return { status: response.status, body: (await response.json()) as any };
};

console.log((await fetch(`${url}/builds/stats`)).status, "without the token");
console.log((await call("/hello")).body);
const { status, body } = await call("/builds", { method: "POST", headers: { prefer: "wait=10" }, body: JSON.stringify({ chatId: "c1", messageId: "m1", code: "export const answer: number = 42" }) });
console.log(status, body.data.status, body.data.result.includes("answer = 42"));
console.log((await call("/builds/no-such-job")).body.code);

await app.close();
await queue.stop();
