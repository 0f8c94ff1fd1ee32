/** The routes in somebody's own application: what they are registered with is what they go by. */
import Fastify from "fastify";
import { expect, it } from "vitest";
import { SettingsError } from "../../src/errors.js";
import { buildRoutes } from "../../src/fastify.js";
import { controlledQueue } from "./support.js";

it("refuses options that cannot be meant: a misspelt authorize would serve everything to everybody", async () => {
  await using control = await controlledQueue();
  const { queue } = control;
  const wrong: [object, string][] = [
    [{ queue, authorise: () => null }, "Unknown option authorise of buildRoutes. Known are: queue, prefix, authorize, readOnly, streamsMax, clock."],
    [{ queue, authorize: "admin" }, "Expected authorize to be a function, got string."],
    [{ queue, authorize: null }, "Expected authorize to be a function, got null."],
    [{}, "Expected queue to be what createBuildQueue resolves to (await it)."],
    [{ queue: Promise.resolve(queue) }, "Expected queue to be what createBuildQueue resolves to (await it)."],
  ];
  for (const [options, message] of wrong) {
    await using app = Fastify();
    await expect(async () => app.register(buildRoutes, options as never)).rejects.toThrow(new SettingsError(message));
  }
  await using app = Fastify();
  await app.register(buildRoutes, { queue, prefix: "/api/builds", authorize: undefined, logLevel: "silent" });
  expect((await app.inject("/api/builds/stats")).statusCode).toBe(200);
});
