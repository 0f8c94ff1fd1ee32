/** Turns submissions away while the event loop lags: what is accepted shall be answered, and reads and health go on. */
import underPressure from "@fastify/under-pressure";
import type { FastifyInstance } from "fastify";
import { overloaded } from "../errors.js";

export const isOverloaded = (delayMs: number, delayMsMax: number): boolean => delayMsMax > 0 && delayMs > delayMsMax;

export async function refuseUnderPressure(app: FastifyInstance, delayMsMax: number): Promise<void> {
  if (delayMsMax === 0) return;
  await app.register(underPressure, {});
  app.addHook("onRequest", (request, _reply, done) => {
    const { "x-needs": needs } = (request.routeOptions.schema ?? {}) as { "x-needs"?: string };
    if (needs !== "submit") return done();
    const { eventLoopDelay } = app.memoryUsage();
    return done(isOverloaded(eventLoopDelay, delayMsMax) ? overloaded(eventLoopDelay) : undefined);
  });
}
