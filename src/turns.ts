/**
 * The one way to the slots: endings of attempts and the wish for new lanes go to the store together, as turns, one at a time;
 * acceptances that start what they accept fly beside them. Each may claim only what no other has been allowed to, so that the
 * recorded running jobs never exceed the slots, whichever commits first. hand.ts says what a turn takes ahead of free slots.
 */
import type { Ended, SupervisorEvent } from "../machines/supervisor.machine.js";
import type { Clock } from "./clock.js";
import type { Hand } from "./hand.js";
import { coalesce } from "./store/coalesce.js";
import type { AcceptAnswer, AcceptGroup, AcceptLimits, Claim, Ending, Settled, Store } from "./store/store.js";

export interface Turns {
  /** Offers the end of an attempt; rejects when the database is away. */
  settle(claim: Guard, end: Ending["end"], run?: Pick<Ending, "runMs" | "endedMs">): Promise<Settled>;
  /** Asks for as many lanes as there are free slots. */
  take(): void;
  /** Accepts jobs, and starts in the same step what there are free slots for. `isStarted`: all lanes that it came to are in hand here now. */
  accept(groups: AcceptGroup[], limits: AcceptLimits): Promise<{ answer: AcceptAnswer; isStarted: boolean }[]>;
  /** Gives back a claim that nobody here works on: it never took a slot, so nothing is claimed in its stead. */
  giveBack(claim: Guard): Promise<Settled>;
  /** Slots for which lanes are being claimed. */
  promised(): number;
  /** Names the latest turn sent; `isOver` tells whether it and all before it have been answered or have failed. */
  latest(): number;
  isOver(turn: number): boolean;
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
  hand: Hand;
  handMs: number;
  nodeId: string;
  clock: Clock;
  nodeLossesMax: number;
  /** Slots that no lane takes, by the answered turns' word, less than none when lanes are in hand ahead; null while nothing may be claimed. */
  free(): number | null;
  /** Whether the answered turns say that this lane takes a slot. */
  takesSlot(ended: Ended): boolean;
  /** Grows with every loss of the lease. */
  leaseLosses(): number;
  /** Where the lines begin, as the latest pulse told. */
  lineFrom(): number | undefined;
  tell(event: Extract<SupervisorEvent, { type: "turn.taken" }>): void;
  /** Before anybody else hears of them. */
  claimed(claims: Claim[]): void;
  /** What it was promised is claimed, or free again. */
  landed(): void;
  /** A turn that failed for another reason than its own endings. */
  failed(error: unknown): void;
}

/** Bytes of results that one statement carries, roughly. */
const batchBytesMax = 4 * 1024 * 1024;
/** Lanes that one turn claims, and ends that it tells, at most. */
const togetherMax = 200;

export function createTurns({ store, hand, handMs, nodeId, clock, nodeLossesMax, free, takesSlot, leaseLosses, lineFrom, tell, claimed, landed, failed }: Needs): Turns {
  let sent = 0;
  /** What is under way: the attempts that end with it, and the lanes that it may claim. */
  const flights = new Map<number, { ended: Ended[]; want: number; ahead: number; isAnswered: boolean }>();
  /** The latest turn, if it asked for less than there may be slots for and left them to what had been sent before it; and whether that brought less. */
  let shortTurn = 0;
  let isOwed = false;

  /**
   * Lanes that a call may claim: those that end with it, and a share of the slots that are free. What ends with a flight runs until that
   * is done, and what it may claim from then on, so it counts by the larger of the two until it is answered; and a lane that ends with it may be claimed anew, and told, before.
   */
  function wantOf(ending: number): number {
    const unclaimed = free();
    if (unclaimed === null) return 0;
    let spare = unclaimed;
    for (const { ended, want, ahead, isAnswered } of flights.values()) {
      const taken = want + ahead - ended.filter(takesSlot).length;
      spare -= isAnswered ? taken : Math.max(0, taken);
    }
    return Math.max(0, Math.min(ending + spare, togetherMax));
  }

  /** The same, should nothing that is under way bring a lane. */
  function roomFor(ending: number): number {
    let room = ending + (free() ?? 0);
    for (const { ended } of flights.values()) room += ended.filter(takesSlot).length;
    return Math.min(room, togetherMax);
  }

  /** One call that may claim `want` lanes; `hear` tells the supervisor what it ended and claimed, and until then it counts as under way. */
  async function fly<T extends { claims: Claim[] }>(ended: Ended[], want: number, ahead: number, call: (claimId: string) => Promise<T>): Promise<{ answer: T; hear(): void }> {
    const turn = ++sent;
    const losses = leaseLosses();
    flights.set(turn, { ended, want, ahead, isAnswered: false });
    /** In one step with the ledger: whoever asked in between would take the same slots. */
    function land(change: () => void): void {
      flights.delete(turn);
      change();
      landed();
      // Nobody else would ask before the next pulse.
      if (isOwed && wantOf(0) > 0) turns.nudge();
    }
    /** Unheard as yet, but it is known what it brought, and what was left to it in vain. So a turn that finds nothing owes the next one nothing, or there would be no end of them. */
    function answered(claims: readonly Claim[]): void {
      isOwed ||= turn < shortTurn && claims.length < want + ahead;
      const started = claims.filter(({ startedAt }) => startedAt !== null).length;
      flights.set(turn, { ended, want: started, ahead: claims.length - started, isAnswered: true });
    }
    try {
      const answer = await call(clock.id());
      answered(answer.claims);
      for (const { startedAt } of answer.claims) if (startedAt !== null) hand.sync(Date.parse(startedAt) + 1);
      return {
        answer,
        hear: () =>
          land(() => {
            // Claims of a lease that was lost meanwhile may be another node's by now; the next pulses tell, and give them back.
            const ours = losses === leaseLosses() ? answer.claims : [];
            claimed(ours);
            // The supervisor hears of ends and claims in one event, before any job goes on: its ledger has no in-between.
            tell({ type: "turn.taken", ended, grants: ours.map((claim) => ({ claim, jitter: clock.random() })) });
          }),
      };
    } catch (error) {
      answered([]);
      land(() => {});
      throw error;
    }
  }

  /** Answers that the supervisor hears when the next turn is on its way: to take in what they bring costs as much as the store's work on it. */
  let unheard: (() => void)[] = [];

  const turns = coalesce<Ending, Settled>({
    async send(endings, alone) {
      const ended = endings.map(({ chatId, fence }): Ended => ({ chatId, fence }));
      // An outcome that is offered again after the lease was lost takes no slot any more, and frees none.
      const freed = ended.filter(takesSlot).length;
      const want = alone ? 0 : wantOf(freed);
      if (!alone) {
        shortTurn = want < roomFor(freed) ? sent + 1 : 0;
        isOwed = false;
      }
      const { ahead, begun, tellsTimes, startedMs, land } = hand.depart(endings, !alone && free() !== null, alone !== false);
      if (endings.length === 0 && want === 0 && begun.length === 0) {
        land(null);
        return [];
      }
      // One that goes alone may wait for its lane while other turns take lanes ahead, which begin in its slot.
      const told = endings.map(({ endedMs, ...one }) => (tellsTimes || alone ? { ...one, endedMs, startedMs: startedMs(one.jobId) } : one));
      try {
        const { answer, hear } = await fly(ended, want, ahead, (claimId) => store.turn({ nodeId, claimId, endings: told, want, lineFrom: lineFrom(), nodeLossesMax, patient: alone === "patiently", begun, ahead, handMs }));
        land(answer);
        if (alone) hear();
        else unheard.push(hear);
        // It got all it wanted: there may be more. One that went alone asked for none, and its slot is free now.
        if (alone || (want > 0 && answer.claims.length >= want && wantOf(0) > 0)) turns.nudge();
        return answer.settled;
      } catch (error) {
        land(null);
        if (endings.length === 0) failed(error);
        throw error;
      }
    },
    lanesOf: ({ chatId }) => [chatId],
    weightOf: ({ end }) => 1000 + (end.kind === "completed" ? end.result.length + (end.sourceMap?.length ?? 0) : 0),
    weightMax: batchBytesMax,
    countMax: togetherMax,
    afterwards() {
      const answers = unheard;
      unheard = [];
      for (const hear of answers) hear();
    },
  });
  return {
    settle: (guard, end, run) => turns.add({ ...guard, ...run, end }),
    take: () => turns.nudge(),
    async accept(groups, limits) {
      const chats = new Set(groups.flatMap(({ jobs }) => jobs.map((job) => job.chatId)));
      const want = limits.patient ? 0 : Math.min(chats.size, wantOf(0));
      if (want === 0) return (await store.accept(groups, limits)).map((answer) => ({ answer, isStarted: false }));
      const { answer, hear } = await fly([], want, 0, (claimId) => store.acceptAndStart(groups, limits, { nodeId, claimId, want, lineFrom: lineFrom() }));
      hear();
      const { answers, claims } = answer;
      const started = new Set(claims.map(({ job }) => job.chatId));
      return answers.map((one) => ({ answer: one, isStarted: one.kind === "accepted" && one.jobs.every((job) => started.has(job.chatId)) }));
    },
    async giveBack({ jobId, chatId, attempt, fence, claimId }) {
      const { settled } = await store.turn({ nodeId, claimId: clock.id(), endings: [{ jobId, chatId, attempt, fence, claimId, end: { kind: "released" } }], want: 0, nodeLossesMax });
      return settled[0] as Settled;
    },
    promised: () => [...flights.values()].reduce((sum, { want }) => sum + want, 0),
    latest: () => sent,
    isOver: (turn) => [...flights.keys()].every((one) => one > turn),
    idle: () => turns.idle(),
  };
}
