/**
 * The one way to the slots: endings of attempts and the wish for new lanes go to the store together, as turns. Two turns
 * may be in flight, so that the store works on one while this process works on the other's lanes; each may claim only
 * what no other has been allowed to, so that the recorded running jobs never exceed the slots, whichever commits first.
 */
import type { Ended, SupervisorEvent } from "../machines/supervisor.machine.js";
import type { Clock } from "./clock.js";
import { coalesce } from "./store/coalesce.js";
import type { Claim, Ending, Settled, Store } from "./store/store.js";

export interface Turns {
  /** Offers the end of an attempt; rejects when the database is away. */
  settle(claim: Guard, end: Ending["end"]): Promise<Settled>;
  /** Asks for as many lanes as there are free slots. */
  take(): void;
  idle(): Promise<void>;
}

/** What proves that an attempt is ours. */
export interface Guard {
  jobId: string;
  chatId: string;
  attempt: number;
  fence: number;
  claimId: string;
}

export const guardOf = ({ job, fence, claimId }: Claim): Guard => ({ jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence, claimId });

interface Needs {
  store: Store;
  nodeId: string;
  clock: Clock;
  nodeLossesMax: number;
  slots: number;
  /** Slots that no lane takes, by the answered turns' word; none while nothing may be claimed. */
  free(): number | null;
  tell(event: Extract<SupervisorEvent, { type: "turn.taken" }>): void;
  /** A turn that failed for another reason than its own endings. */
  failed(error: unknown): void;
}

/** Bytes of results that one statement carries, roughly. */
const batchBytesMax = 4 * 1024 * 1024;
/** Two small turns cost more than one of both: most of a small turn's cost is there without any lane. */
const togetherMin = 16;

export function createTurns({ store, nodeId, clock, nodeLossesMax, slots, free, tell, failed }: Needs): Turns {
  const flightsMax = slots >= 2 * togetherMin ? 2 : 1;
  const togetherMax = Math.max(togetherMin, Math.ceil(slots / flightsMax));
  /** Lanes that the turns in flight may claim beyond those that end with them. */
  let promised = 0;

  /** Lanes that a turn may claim: those that end with it, and a share of the slots that are free. */
  function wantOf(ending: number): number {
    const unclaimed = free();
    if (unclaimed === null) return 0;
    return Math.min(ending + Math.max(0, unclaimed - promised), Math.max(togetherMax, ending));
  }

  const turns = coalesce<Ending, Settled>({
    async send(endings, alone) {
      const want = alone ? 0 : wantOf(endings.length);
      if (endings.length === 0 && want === 0) return [];
      const extra = Math.max(0, want - endings.length);
      promised += extra;
      try {
        const { settled, claims } = await store.turn({ nodeId, claimId: clock.id(), endings, want, nodeLossesMax, patient: alone });
        promised -= extra;
        const ended = endings.map(({ chatId, fence }): Ended => ({ chatId, fence }));
        // The supervisor hears of ends and claims in one event, before any job goes on: its ledger has no in-between.
        tell({ type: "turn.taken", ended, grants: claims.map((claim) => ({ claim, jitter: clock.random() })) });
        // It got all it wanted: there may be more, for slots that this turn left alone.
        // One that went alone asked for none, and its slot is free now.
        if (alone || (want > 0 && claims.length === want && wantOf(0) > 0)) turns.nudge();
        return settled;
      } catch (error) {
        promised -= extra;
        if (endings.length === 0) failed(error);
        throw error;
      }
    },
    lanesOf: ({ chatId }) => [chatId],
    weightOf: ({ end }) => 1000 + (end.kind === "completed" ? end.result.length + (end.sourceMap?.length ?? 0) : 0),
    weightMax: batchBytesMax,
    flightsMax,
    togetherMax: () => togetherMax,
  });
  return {
    settle: (guard, end) => turns.add({ ...guard, end }),
    take: () => turns.nudge(),
    idle: () => turns.idle(),
  };
}
