/**
 * How long until a pending job starts: a median and a ninetieth percentile in milliseconds, from measured build times,
 * the slots and what stands ahead. Pure arithmetic; `bench/estimates.ts` compares it with what happens.
 *
 * Two things hold a job back, and the longer one counts. Its own chat: those before it there run one after another. And
 * the slots: chats take turns, so before its own turn each other chat runs at most one more job than stand before it in
 * its chat, and no more than that chat has; with every slot busy, one ends each build time ÷ slots.
 */
export interface Ahead {
  /** Jobs before it in its chat, a running one included. */
  inChat: number;
  /** Milliseconds until its own delay or backoff is over. */
  delayMs: number;
  paused: boolean;
}
export interface Measured {
  /** Milliseconds a build takes; null before the first. */
  mean: number | null;
  p50: number | null;
  p90: number | null;
  slots: number;
  running: number;
  /** Pending jobs, and the chats that have them. */
  queued: number;
  chats: number;
}

/** Before anything was measured: a small build through a warm worker. */
const firstGuessMs = 50;
/** From one build's end to the next one's start its end is recorded and the next is claimed. */
const betweenMs = 3;
const betweenFactor = 1.08;
/** Standard deviations from the median to the ninetieth percentile, where times are added up. */
const toP90 = 1.28;

export function estimate({ inChat, delayMs, paused }: Ahead, measured: Measured): { p50: number; p90: number } | null {
  if (paused) return null;
  const mean = (measured.mean ?? firstGuessMs) * betweenFactor + betweenMs;
  const longBuild = measured.p90 ?? 3 * mean;
  const deviation = Math.max(longBuild - (measured.p50 ?? mean), mean / 4) / toP90;
  const slots = Math.max(1, measured.slots);

  const depth = measured.queued / Math.max(1, measured.chats);
  const others = Math.max(0, measured.chats - 1) * Math.min(depth, inChat + 1);
  const ends = Math.max(0, inChat + Math.min(others, measured.queued) + 1 - Math.max(0, slots - measured.running));
  const busyFor = { mean: (ends * mean) / slots, deviation: (Math.sqrt(ends) * deviation) / slots };
  const chatFor = { mean: Math.max(0, inChat - 0.5) * mean, deviation: Math.sqrt(inChat) * deviation };

  // The figures are a moment old, and others come meanwhile: the more is going on, the likelier one build stands before it.
  const surprise = longBuild * Math.min(1, measured.running / slots);
  const p50 = Math.max(delayMs, busyFor.mean, chatFor.mean);
  const p90 = Math.max(delayMs, surprise, busyFor.mean + toP90 * busyFor.deviation + surprise / 2, chatFor.mean + toP90 * chatFor.deviation);
  return { p50: Math.round(p50), p90: Math.round(Math.max(p50, p90)) };
}
