/** The service's HTTP side: the routes under `/api/builds`, and what operators need beside them. Does not listen. */
import type { Socket } from "node:net";
import type { ZodTypeProvider } from "@fastify/type-provider-zod";
import Fastify, { LogController } from "fastify";
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from "fastify";
import type { Clock } from "../clock.js";
import { BuildlaneError, draining } from "../errors.js";
import { limits } from "../options.js";
import type { Settings } from "../options.js";
import type { BuildQueue } from "../queue-api.js";
import { version } from "../version.js";
import { serializerCompiler, validatorCompiler } from "./compilers.js";
import { dashboard } from "./dashboard.js";
import { errorBody, handleAnyError, notFound, sendError } from "./errors.js";
import { healthRoutes } from "./health.js";
import { crossSiteRefused, forbiddenHost, hostCheck, isCrossSite } from "./hosts.js";
import { authorizeByKeys } from "./keys.js";
import { sendSafeHeaders } from "./headers.js";
import { allowOrigins, isAllowedOrigin } from "./cors.js";
import { refuseUnderPressure } from "./pressure.js";
import { readJsonBodies } from "./json-body.js";
import { refuseOtherMethods } from "./methods.js";
import { metricsRoutes } from "./metrics.js";
import { collectDocument, documentRoutes } from "./openapi.js";
import { buildRoutes } from "./plugin.js";
import type { ServerRoutesOptions } from "./plugin.js";
import { createStays } from "./stays.js";
import { readOnWhenRefused } from "./unread.js";

export interface ServerOptions {
  queue: BuildQueue;
  settings: Pick<Settings, "host" | "allowedHosts" | "maxBodyBytes"> & Partial<Pick<Settings, "apiKeys" | "corsOrigins" | "keyRateLimit" | "keyFailureLimit" | "maxLoopDelayMs" | "readOnly">>;
  logger: FastifyBaseLogger;
  clock: Clock;
}

export const basePath = "/api/builds";
/** A request must have arrived whole within this time, milliseconds. */
const requestTimeoutMs = 60_000;
/** Longer ones get a clear answer from the routes instead of the router's. */
const paramCharsMax = 2000;

/** The application, loaded and not listening. Closing it ends all streams; the queue is the caller's to stop. */
export async function buildServer({ queue, settings, logger, clock }: ServerOptions): Promise<FastifyInstance> {
  const stays = createStays(limits.streamsMax, clock);
  const app = Fastify({
    loggerInstance: logger,
    // One child logger a request costs more than the request's own work; lines name the request id themselves.
    childLoggerFactory: (parent) => parent,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: settings.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    genReqId: requestIds(clock),
    routerOptions: { maxParamLength: paramCharsMax },
    // Fastify's own answer has another shape; the hook below gives ours.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => void handleAnyError(error, request as FastifyRequest, reply.header("x-request-id", request.id)),
    clientErrorHandler: answerUnreadable,
  }).withTypeProvider<ZodTypeProvider>();

  app.setValidatorCompiler(validatorCompiler as never);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(handleAnyError);
  app.setNotFoundHandler((request, reply) => sendError(notFound(request), request, reply));
  readJsonBodies(app as unknown as FastifyInstance);
  readOnWhenRefused(app as unknown as FastifyInstance, clock);
  await sendSafeHeaders(app as unknown as FastifyInstance);
  guard(app as unknown as FastifyInstance, settings);
  await allowOrigins(app as unknown as FastifyInstance, settings.corsOrigins);
  refuseUnderPressure(app as unknown as FastifyInstance, settings.maxLoopDelayMs ?? 0, clock);
  if (logger.level === "debug" || logger.level === "trace") logRequests(app as unknown as FastifyInstance);

  await collectDocument(app as unknown as FastifyInstance, version);
  const refuseOthers = refuseOtherMethods(app as unknown as FastifyInstance);
  healthRoutes(app, { queue, clock, version });
  metricsRoutes(app, { queue, stays });
  await documentRoutes(app as unknown as FastifyInstance);
  refuseOthers();
  await app.register(dashboard, { api: basePath, readOnly: settings.readOnly });
  await app.register(buildRoutes, { queue, authorize: authorizeByKeys(queue, settings.apiKeys), keyRate: settings.keyRateLimit, failureRate: settings.keyFailureLimit, prefix: basePath, readOnly: settings.readOnly, clock, stays, documented: true } as ServerRoutesOptions);
  return app as unknown as FastifyInstance;
}

/** Every request passes here, so it is one hook and no promise. */
function guard(app: FastifyInstance, settings: ServerOptions["settings"]): void {
  const isAllowed = hostCheck(settings);
  let closing = false;
  app.addHook("preClose", async () => {
    closing = true;
  });
  app.addHook("onRequest", (request, reply, done) => {
    const { headers, url } = request.raw;
    reply.header("x-request-id", request.id);
    if (closing) return done(draining());
    if (!isAllowed(headers.host) && url !== "/livez" && url !== "/readyz") return done(forbiddenHost(headers.host));
    if (isCrossSite(request.raw) && !isAllowedOrigin(settings.corsOrigins, headers.origin)) return done(crossSiteRefused());
    return done();
  });
}

/** The caller's id when it is harmless, else one that no other request of any node has. */
function requestIds(clock: Clock): (request: { headers: Record<string, string | string[] | undefined> }) => string {
  const prefix = clock.id();
  let count = 0;
  return ({ headers }) => {
    const given = headers["x-request-id"];
    return typeof given === "string" && /^[\w.-]{1,128}$/.test(given) ? given : `${prefix}-${(count++).toString(36)}`;
  };
}

function logRequests(app: FastifyInstance): void {
  app.addHook("onResponse", (request, reply, done) => {
    request.log.debug({ event: "request.answered", requestId: request.id, method: request.method, route: request.routeOptions.url, statusCode: reply.statusCode, durationMs: Math.round(reply.elapsedTime) }, "request answered");
    done();
  });
}

/** What is not HTTP gets the envelope, too, as far as that goes. */
function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const [status, reason, told] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([431, "Request Header Fields Too Large", new BuildlaneError("payload_too_large", "The request's headers are too large.")] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, "Request Timeout", new BuildlaneError("validation_failed", "The request did not arrive in time.")] as const)
        : ([400, "Bad Request", new BuildlaneError("validation_failed", "This is not a valid HTTP request.")] as const);
  const body = JSON.stringify({ ...errorBody(told, "none"), statusCode: status });
  socket.end(`HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`);
}
