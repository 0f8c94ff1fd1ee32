/**
 * The one way to the slots: endings of attempts and the wish for new lanes go to the store together, as turns. One turn
 * is in flight at a time, so what the supervisor holds and what it may want are exact.
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
  /** Lanes wanted when `ending` of those held now end with this turn. */
  want(ending: number): number;
  tell(event: Extract<SupervisorEvent, { type: "turn.taken" }>): void;
  /** A turn that failed for another reason than its own endings. */
  failed(error: unknown): void;
}

/** Bytes of results that one statement carries, roughly. */
const batchBytesMax = 4 * 1024 * 1024;

export function createTurns({ store, nodeId, clock, nodeLossesMax, want, tell, failed }: Needs): Turns {
  const turns = coalesce<Ending, Settled>({
    async send(endings, alone) {
      const wanted = alone ? 0 : want(endings.length);
      if (endings.length === 0 && wanted <= 0) return [];
      try {
        const { settled, claims } = await store.turn({ nodeId, claimId: clock.id(), endings, want: Math.max(0, wanted), nodeLossesMax });
        const ended = endings.map(({ chatId, fence }): Ended => ({ chatId, fence }));
        // The supervisor hears of ends and claims in one event, before any job goes on: its ledger has no in-between.
        tell({ type: "turn.taken", ended, grants: claims.map((claim) => ({ claim, jitter: clock.random() })) });
        return settled;
      } catch (error) {
        if (endings.length === 0) failed(error);
        throw error;
      }
    },
    lanesOf: ({ chatId }) => [chatId],
    weightOf: ({ end }) => 1000 + (end.kind === "completed" ? end.result.length + (end.sourceMap?.length ?? 0) : 0),
    weightMax: batchBytesMax,
  });
  return {
    settle: (guard, end) => turns.add({ ...guard, end }),
    take: () => turns.nudge(),
    idle: () => turns.idle(),
  };
}
