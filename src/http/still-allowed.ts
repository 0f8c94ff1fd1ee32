/**
 * A stream lasts as long as who opened it may read it: that is asked again every few seconds, and at the moment when a key
 * or token is over. What ends, ends like any stream: its reader comes back, and hears why it may not.
 */
import type { FastifyRequest } from "fastify";
import type { Clock, Timer } from "../clock.js";
import type { Access } from "./access.js";
import type { Stay } from "./stays.js";

/** Cheap, for keys are remembered (keys.ts); what was revoked elsewhere may read on for this long and that, milliseconds. */
const againMs = 5000;

export function endWhenRefused(request: FastifyRequest, stay: Stay, { isAsked, expiresMs, mayStay }: Pick<Access, "isAsked" | "expiresMs" | "mayStay">, clock: Clock): void {
  if (!isAsked(request)) return;
  let timer: Timer;
  const wait = () => {
    timer = clock.after(Math.min(againMs, Math.max(1, expiresMs(request) - clock.now())), () => void ask());
  };
  async function ask(): Promise<void> {
    // The time is known also while the database is away.
    const stays = expiresMs(request) > clock.now() && (await mayStay(request));
    if (stay.signal.aborted) return;
    if (stays) wait();
    else stay.end();
  }
  wait();
  stay.signal.addEventListener("abort", () => timer.cancel(), { once: true });
}
