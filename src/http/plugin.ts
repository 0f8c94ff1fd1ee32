/**
 * The routes as a plugin for any Fastify application. It changes nothing outside its own scope: compilers, parsers,
 * error handler and not-found handler are set in here, and its routes stay out of the host's own API document.
 */
import type { ZodTypeProvider } from "@fastify/type-provider-zod";
import type { FastifyInstance } from "fastify";
import { systemClock } from "../clock.js";
import type { Clock } from "../clock.js";
import { BuildlaneError, SettingsError } from "../errors.js";
import { limits } from "../options.js";
import type { BuildQueue } from "../queue-api.js";
import { checkAccess } from "./access.js";
import type { Authorize } from "./access.js";
import { writeAudit } from "./auditing.js";
import { serializerCompiler, validatorCompiler } from "./compilers.js";
import type { RouteContext } from "./context.js";
import { countFailures } from "./failures.js";
import { handleError, notFound, sendError } from "./errors.js";
import { createRates } from "./rate.js";
import type { Rate } from "./rate.js";
import { readJsonBodies } from "./json-body.js";
import { refuseOtherMethods } from "./methods.js";
import { chatRoutes } from "./routes/chats.js";
import { controlRoutes } from "./routes/control.js";
import { deadLetterRoutes } from "./routes/dead-letters.js";
import { quarantineRoutes } from "./routes/quarantine.js";
import { eventRoutes } from "./routes/events.js";
import { jobRoutes } from "./routes/jobs.js";
import { keyRoutes } from "./routes/keys.js";
import { laneRoutes } from "./routes/lanes.js";
import { inspectRoutes } from "./routes/inspect.js";
import { nodeRoutes } from "./routes/node.js";
import { statsRoutes } from "./routes/stats.js";
import { submitRoutes } from "./routes/submit.js";
import { createStays } from "./stays.js";
import type { Stays } from "./stays.js";
import { readOnWhenRefused } from "./unread.js";

export interface RoutesOptions {
  /** Refuses everything that would change something, with 403 `read_only`. */
  readOnly?: boolean | undefined;
  /** The queue that is served. Its life is the caller's: closing the application does not stop it. */
  queue: BuildQueue;
  /** Where the routes are, such as `/api/builds`. Without one they are at the root, and the host's 404 stays the host's. */
  prefix?: string | undefined;
  /** Who asks, and what they may do; without it whoever reaches the routes may do everything. */
  authorize?: Authorize | undefined;
  /** Event streams, and submitters who wait, at most; 1,000 unless said. */
  streamsMax?: number | undefined;
  /** Time; the system's unless a test says otherwise. */
  clock?: Clock | undefined;
}

/** What only our own server asks for. */
export interface ServerRoutesOptions extends RoutesOptions {
  /** Shows the routes to @fastify/swagger. */
  documented?: boolean | undefined;
  stays?: Stays | undefined;
  keyRate?: Rate | undefined;
  /** Wrong keys and tokens that are looked at, per address. */
  failureRate?: Rate | undefined;
}

const ownOptions: Record<keyof ServerRoutesOptions, true> = { queue: true, prefix: true, authorize: true, readOnly: true, streamsMax: true, clock: true, documented: true, stays: true, keyRate: true, failureRate: true };
/** What Fastify itself takes from a plugin's options. */
const fastifyOptions = ["prefix", "logLevel", "logSerializers"];

/** A misspelt `authorize` would serve everything to everybody. Throws SettingsError. */
function checkOptions(options: ServerRoutesOptions): void {
  const unknown = Object.keys(options).filter((name) => !Object.hasOwn(ownOptions, name) && !fastifyOptions.includes(name));
  if (unknown.length > 0) throw new SettingsError(`Unknown option ${unknown.join(", ")} of buildRoutes. Known are: queue, prefix, authorize, readOnly, streamsMax, clock.`);
  const { queue, authorize } = options as { queue?: Partial<BuildQueue>; authorize?: unknown };
  if (typeof queue?.forTenant !== "function" || typeof queue.settings !== "object") throw new SettingsError("Expected queue to be what createBuildQueue resolves to (await it).");
  if (authorize !== undefined && typeof authorize !== "function") throw new SettingsError(`Expected authorize to be a function, got ${authorize === null ? "null" : typeof authorize}.`);
}

/** `await app.register(buildRoutes, { queue, prefix: "/api/builds" })`. */
export async function buildRoutes(host: FastifyInstance, options: RoutesOptions): Promise<void> {
  checkOptions(options);
  const { queue, readOnly = false, authorize, keyRate, failureRate, clock = systemClock, streamsMax = limits.streamsMax, documented = false, stays = createStays(streamsMax, clock) } = options as ServerRoutesOptions;
  const app = host.withTypeProvider<ZodTypeProvider>();

  app.setValidatorCompiler(validatorCompiler as never);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(handleError);
  if (app.prefix !== "") app.setNotFoundHandler((request, reply) => sendError(notFound(request), request, reply));
  readJsonBodies(host);
  // Our own server does so for all that it answers.
  if (!documented) readOnWhenRefused(host, clock);
  app.addHook("preClose", () => stays.close());
  app.addHook("onRoute", (route) => {
    route.bodyLimit ??= queue.settings.maxBodyBytes;
    if (!documented) route.schema = { ...route.schema, hide: true };
  });

  if (readOnly)
    app.addHook("onRequest", (request, _reply, done) => done(request.method === "GET" || request.method === "HEAD" ? undefined : new BuildlaneError("read_only", "This service is read-only: it shows the queue and changes nothing.")));
  const refuseOthers = refuseOtherMethods(host);
  const access = checkAccess(host, queue, authorize, failureRate && countFailures(failureRate, clock));
  writeAudit(host, queue.audit, access);
  const context: RouteContext = { ...access, keys: queue.keys, chatTokens: queue.chatTokens, audit: queue.audit, settings: queue.settings, rates: createRates({ perChat: queue.settings.rateLimit, perKey: keyRate, clock }), clock, stays, streamsMax, isDraining: () => queue.draining };
  for (const add of [submitRoutes, jobRoutes, chatRoutes, statsRoutes, laneRoutes, nodeRoutes, inspectRoutes, deadLetterRoutes, quarantineRoutes, controlRoutes, eventRoutes, keyRoutes]) add(app, context);
  refuseOthers();
}
