/**
 * How long until a pending job starts: a median and a ninetieth percentile in milliseconds, from measured build times,
 * the slots and what stands ahead. Pure arithmetic.
 */
export interface Ahead {
  /** Pending jobs before it in its chat, and whether one runs there. */
  inChat: number;
  chatRunning: boolean;
  /** Milliseconds until its own delay or backoff is over. */
  delayMs: number;
  paused: boolean;
}
export interface Measured {
  /** Milliseconds a build takes; null before the first. */
  p50: number | null;
  p90: number | null;
  slots: number;
  running: number;
  /** Lanes in line for a slot. */
  waitingLanes: number;
}

/** Before anything was measured: a small build through a warm worker. */
const firstGuessMs = 50;
/** The ninetieth percentile is not known before some builds were seen: a cautious multiple of the median. */
const guessSpread = 3;

export function estimate(ahead: Ahead, measured: Measured): { p50: number; p90: number } | null {
  if (ahead.paused) return null;
  const p50 = measured.p50 ?? firstGuessMs;
  const p90 = measured.p90 ?? p50 * guessSpread;
  const of = (buildMs: number): number => {
    const slots = Math.max(1, measured.slots);
    // Each turn of this chat waits for the lanes before it, spread over the slots; with a free slot for nobody.
    const busy = measured.running >= slots;
    const turnWait = busy ? (measured.waitingLanes * buildMs) / slots + buildMs / (2 * slots) : 0;
    const running = ahead.chatRunning ? buildMs / 2 : 0;
    return Math.round(Math.max(ahead.delayMs, running + ahead.inChat * (buildMs + turnWait) + (ahead.inChat > 0 || ahead.chatRunning || busy ? turnWait : 0)));
  };
  return { p50: of(p50), p90: of(p90) };
}
