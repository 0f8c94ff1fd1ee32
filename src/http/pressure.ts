/**
 * Turns submissions away while the event loop lags: what is accepted shall be answered, and reads and health go on. The
 * lag is measured while submissions come and for a moment after: a sampler that always runs is most of what an idle
 * service costs.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { FastifyInstance } from "fastify";
import type { Clock, Timer } from "../clock.js";
import { overloaded } from "../errors.js";

declare module "fastify" {
  interface FastifyInstance {
    /** By how much timers are late, mean of the last second, milliseconds; 0 when nobody asked lately. */
    loopLagMs(): number;
  }
}

const resolutionMs = 20;
const sampleMs = 1000;
/** So long after the last submission measuring ends. */
const restMs = 5000;

export const isOverloaded = (delayMs: number, delayMsMax: number): boolean => delayMsMax > 0 && delayMs > delayMsMax;

/** `lagMs` starts measuring, and goes on while it is asked. */
export function measureLag(clock: Pick<Clock, "monotonic" | "after">): { lagMs(): number; stop(): void } {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  let resting: Timer | null = null;
  let askedAt = 0;
  let sampledAt = 0;
  let latest = 0;

  function stop(): void {
    resting?.cancel();
    resting = null;
    histogram.disable();
    histogram.reset();
    latest = 0;
  }
  const restIn = (delayMs: number): Timer =>
    clock.after(delayMs, () => {
      const idleMs = clock.monotonic() - askedAt;
      if (idleMs >= restMs) stop();
      else resting = restIn(restMs - idleMs);
    });

  return {
    stop,
    lagMs() {
      const now = clock.monotonic();
      askedAt = now;
      if (resting === null) {
        histogram.enable();
        sampledAt = now;
        resting = restIn(restMs);
      } else if (now - sampledAt >= sampleMs) {
        // It tells the time from one firing to the next.
        latest = histogram.count === 0 ? 0 : Math.max(0, histogram.mean / 1e6 - resolutionMs);
        histogram.reset();
        sampledAt = now;
      }
      return latest;
    },
  };
}

export function refuseUnderPressure(app: FastifyInstance, delayMsMax: number, clock: Clock): void {
  if (delayMsMax === 0) return;
  const lag = measureLag(clock);
  app.decorate("loopLagMs", () => lag.lagMs());
  app.addHook("onClose", async () => lag.stop());
  app.addHook("onRequest", (request, _reply, done) => {
    const { "x-needs": needs } = (request.routeOptions.schema ?? {}) as { "x-needs"?: string };
    if (needs !== "submit") return done();
    const lagMs = app.loopLagMs();
    return done(isOverloaded(lagMs, delayMsMax) ? overloaded(lagMs) : undefined);
  });
}
