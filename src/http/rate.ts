/**
 * How much may still be submitted, as draft-ietf-httpapi-ratelimit-headers says it: `RateLimit-Policy` names each limit
 * with its quota and window, `RateLimit` what is left and when it will be whole again. A chat's limit is kept in its lane
 * (exact, over all nodes); a key's in this process, since it protects the process.
 */
import type { FastifyReply } from "fastify";
import type { Clock } from "../clock.js";
import { BuildlaneError, batchTooLarge } from "../errors.js";
import { keepLatest } from "../keep-latest.js";
import type { QueueView } from "../queue-api.js";

export interface Rate {
  text: string;
  burst: number;
  intervalMs: number;
}

/** What is left of a limit whose theoretical arrival time (GCRA) is `aheadMs` from now. */
export function leftOf({ burst, intervalMs }: Rate, aheadMs: number): { remaining: number; resetSeconds: number } {
  return { remaining: Math.max(0, Math.floor((burst * intervalMs - Math.max(0, aheadMs)) / intervalMs + 1e-9)), resetSeconds: Math.ceil(Math.max(0, aheadMs) / 1000) };
}

export interface KeyRate {
  /** Counts submissions of a caller; null when they fit, else milliseconds until they will. */
  take(caller: string, count: number): number | null;
  /** Null when one more would fit now, else milliseconds until it will. */
  waitMs(caller: string): number | null;
  aheadMs(caller: string): number;
}

/** Callers that are remembered; the one that was idle longest is forgotten first. */
const callersMax = 10_000;

export function createKeyRate({ burst, intervalMs }: Rate, clock: Clock): KeyRate {
  const arrivals = new Map<string, number>();
  const aheadMs = (caller: string): number => Math.max(0, (arrivals.get(caller) ?? Number.NEGATIVE_INFINITY) - clock.monotonic());
  function overMs(caller: string, count: number): number | null {
    const over = aheadMs(caller) + count * intervalMs - burst * intervalMs;
    return over > 1e-6 ? Math.ceil(over) : null;
  }
  return {
    aheadMs,
    waitMs: (caller) => overMs(caller, 1),
    take(caller, count) {
      const ahead = aheadMs(caller) + count * intervalMs;
      const over = overMs(caller, count);
      if (over !== null) return over;
      arrivals.delete(caller);
      arrivals.set(caller, clock.monotonic() + ahead);
      keepLatest(arrivals, callersMax);
      return null;
    },
  };
}

/** Sets both headers for the limits that apply. */
export function tellRates(reply: FastifyReply, limits: { name: string; rate: Rate; aheadMs: number }[]): void {
  if (limits.length === 0) return;
  reply.header("ratelimit-policy", limits.map(({ name, rate }) => `"${name}";q=${rate.burst};w=${Math.ceil((rate.burst * rate.intervalMs) / 1000)}`).join(", "));
  reply.header("ratelimit", limits.map(({ name, rate, aheadMs }) => {
    const { remaining, resetSeconds } = leftOf(rate, aheadMs);
    return `"${name}";r=${remaining};t=${resetSeconds}`;
  }).join(", "));
}

export const keyRateLimited = (limit: string, retryAfterMs: number): BuildlaneError => new BuildlaneError("rate_limited", `This key may submit ${limit}. Try again later.`, { retryAfterMs });

export interface Rates {
  /** Whether there is any limit. */
  readonly apply: boolean;
  /** Counts what a caller wants to submit. Throws BuildlaneError rate_limited, or batch_too_large when it never fits. */
  take(caller: string, count: number): void;
  /** Says what is left, after a submission or a refusal. `chatId` when all of it was for one chat. */
  tell(reply: FastifyReply, caller: string, jobs: Pick<QueueView, "rateAheadMs">, chatId: string | undefined): Promise<void>;
}

export function createRates({ perChat, perKey, clock }: { perChat: Rate | undefined; perKey: Rate | undefined; clock: Clock }): Rates {
  const keys = perKey && createKeyRate(perKey, clock);
  return {
    apply: perChat !== undefined || perKey !== undefined,
    take(caller, count) {
      if (!keys || !perKey) return;
      if (count > perKey.burst) throw batchTooLarge("jobs", perKey.burst);
      const waitMs = keys.take(caller, count);
      if (waitMs !== null) throw keyRateLimited(perKey.text, waitMs);
    },
    async tell(reply, caller, jobs, chatId) {
      // It only informs: a database that is away is told of by the answer itself.
      const aheadMs = perChat && chatId !== undefined ? await jobs.rateAheadMs(chatId).catch(() => null) : null;
      tellRates(reply, [
        ...(perChat && aheadMs !== null ? [{ name: "chat", rate: perChat, aheadMs }] : []),
        ...(perKey && keys ? [{ name: "key", rate: perKey, aheadMs: keys.aheadMs(caller) }] : []),
      ]);
    },
  };
}
