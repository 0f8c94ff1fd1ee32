/**
 * Who keeps coming with wrong keys or tokens is turned away for a while, by address, before anything is looked up. What
 * was right lately passes nevertheless: behind one proxy all callers have the same address, and one with a wrong key must
 * not lock out the others. No key at all is no failure, only an answer. In this process's memory, and bounded.
 */
import { createHash } from "node:crypto";
import type { FastifyRequest } from "fastify";
import type { Clock } from "../clock.js";
import { BuildlaneError } from "../errors.js";
import { keepLatest } from "../keep-latest.js";
import { createKeyRate } from "./rate.js";
import type { Rate } from "./rate.js";

export interface Failures {
  /** Throws BuildlaneError rate_limited when the address has failed too often, unless this credential was right lately. */
  check(request: FastifyRequest, credential: string): void;
  failed(request: FastifyRequest): void;
  succeeded(credential: string): void;
}

/** Right credentials that are remembered, by hash; the one used longest ago is forgotten first. */
const rememberedMax = 10_000;
const rememberedMs = 10 * 60_000;

export function countFailures(rate: Rate, clock: Clock): Failures {
  const addresses = createKeyRate(rate, clock);
  const right = new Map<string, number>();
  const hashOf = (credential: string): string => createHash("sha256").update(credential).digest("base64");
  return {
    check({ ip }, credential) {
      const waitMs = addresses.waitMs(ip);
      if (waitMs === null || clock.monotonic() - (right.get(hashOf(credential)) ?? Number.NEGATIVE_INFINITY) < rememberedMs) return;
      throw new BuildlaneError("rate_limited", `Too many wrong keys or tokens came from this address (${rate.text} are looked at). Try again later, with a right one.`, { retryAfterMs: waitMs });
    },
    failed: ({ ip }) => void addresses.take(ip, 1),
    succeeded(credential) {
      const hash = hashOf(credential);
      right.delete(hash);
      right.set(hash, clock.monotonic());
      keepLatest(right, rememberedMax);
    },
  };
}
