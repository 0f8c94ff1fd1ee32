/**
 * The lanes that this node has in hand ahead of free slots. A slot that comes free would stand empty while a turn is
 * under way; so where runs are short, turns bring the next lanes of the line along, whose jobs begin as slots come free and
 * go on record with a later turn. Here stands how many to take, what of them has begun, and when by the store's clock.
 */
import type { Clock, Timer } from "./clock.js";
import type { Begun, Claim, Ending, TurnAnswer } from "./store/store.js";

export interface Hand {
  /** A turn is sent now that tells these ends; `mayTake`: lanes may be claimed with it; `mayWait`: it may wait for a lane, so that starts are told by another one. */
  depart(endings: readonly Ending[], mayTake: boolean, mayWait?: boolean): Departure;
  /** A slot is free for one in hand: whether its run may begin. */
  begin(claim: Claim): boolean;
  /** Its run is over. */
  end(claim: Claim): void;
  /** It is in hand no more. */
  drop(claim: Claim): void;
  /** By the store's clock, milliseconds since 1970, as this node reckons it: never behind what it said before. */
  now(): number;
  /** The node stops: nothing is looked after any more. */
  close(): void;
  /** An answer is here that was made when the store's clock stood so. */
  sync(storeMs: number): void;
}

export interface Departure {
  /** Lanes to take with the turn. */
  ahead: number;
  /** What has begun and is neither on record nor over. */
  begun: Begun[];
  /** Slots may have been taken over from what ends here: it matters when its run was over. */
  tellsTimes: boolean;
  /** When a run began whose start is on no record. */
  startedMs(jobId: string): number | undefined;
  /** The turn's answer; null: there was none. */
  land(answer: TurnAnswer | null): void;
}

interface Needs {
  clock: Clock;
  /** How long the store gives what was taken to nobody else, from the turn's sending, milliseconds. */
  handMs: number;
  /** In hand and on its way at once, at most. */
  max: number;
  /** A start is to go on record, and no end is due that a turn would be sent for. */
  tellStarts(): void;
  /** The start is on record. */
  recorded(claim: Claim): void;
  /** No slot came free for it. */
  recall(claim: Claim): void;
  /** Its start may not be. It is in hand until its run is gone. */
  refused(claim: Claim): void;
  /** Its start did not come on record in time: its run must be gone now. */
  lost(claim: Claim): void;
}

/** Turns that answer faster leave no slot empty for long enough to be worth it, milliseconds. */
const flightMsMin = 0.5;
/** A slot that is empty for a turn after each longer run is not empty for long enough either, milliseconds. */
const quickMs = 50;
/** The latest turn's part in how long turns take, and in what is over with one. */
const flightWeight = 0.2;
const paceWeight = 0.5;
/** A queue that was idle for longer says no more of its pace, milliseconds. */
const gapMsMax = 100;
/** In hand and on its way: what is over with a turn, so often. Half of it is worked on while the other half is told. */
const depth = 4;
/** The start of a run that lasts is told after so long, milliseconds, and not before a turn's time: most runs are over by then, and are written once. */
const tellMs = 20;
/** How often what is in hand is looked at, milliseconds. */
const lookMs = 10;
/** What waits for a slot for so long goes back: another node may have one. */
const recallMs = 20;
/** So no more is taken than slots come free for in a part of that time. */
const recallMargin = 0.5;
/** What waited for so long is not begun any more: this process stood still, or it would be back by now. */
const staleMs = 100;
/** Whoever has it in hand is done with it before others may take it: a part of the time. */
const handMargin = 0.95;

interface InHand {
  claim: Claim;
  /** Monotonic, here and below. */
  takenAt: number;
  until: number;
  begunAt: number | null;
  /** By the store's clock. */
  startedMs: number;
  isOver: boolean;
  /** Its start is on its way to the store, or was refused. */
  isTold: boolean;
}

export function createHand({ clock, handMs, max, tellStarts, recorded, recall, refused, lost }: Needs): Hand {
  const inHand = new Map<string, InHand>();
  let unbegun = 0;
  /** Turns under way that may bring some. */
  let asking = 0;
  let flightMs = 0;
  /** Quick runs that are over with a turn; how long one lasts; and how long ago the turn before was. */
  let pace = 0;
  let runMs = 0;
  let gapMs = 0;
  let learnedAt = Number.NEGATIVE_INFINITY;
  /** The store's clock less this process's; no more than that, for an answer takes its time back. */
  let offset = Number.NEGATIVE_INFINITY;
  let timer: Timer | null = null;
  let isClosed = false;

  const now = (): number => clock.monotonic() + offset;
  const sync = (storeMs: number): void => void (offset = Math.max(offset, storeMs - clock.monotonic()));
  /** Of this claim: the job may be in hand anew. */
  const own = (claim: Claim): InHand | undefined => {
    const one = inHand.get(claim.job.id);
    return one?.claim.claimId === claim.claimId ? one : undefined;
  };
  function drop(claim: Claim): void {
    const one = own(claim);
    if (!one) return;
    if (one.begunAt === null) unbegun--;
    inHand.delete(claim.job.id);
  }
  /** Short runs are told by their ends. */
  const isToTell = ({ begunAt, isOver, isTold }: InHand): boolean => begunAt !== null && !isOver && !isTold && clock.monotonic() - begunAt >= Math.max(tellMs, flightMs);

  /** What is over now says how much the slots that are not at something long get through. */
  function learn(endings: readonly Ending[]): void {
    const runs = endings.flatMap((one) => (one.runMs !== undefined && one.runMs < Math.max(quickMs, flightMs) ? [one.runMs] : []));
    if (runs.length > 0) runMs += paceWeight * (runs.reduce((sum, ms) => sum + ms, 0) / runs.length - runMs);
    const at = clock.monotonic();
    gapMs += paceWeight * (Math.min(at - learnedAt, gapMsMax) - gapMs);
    learnedAt = at;
    pace += paceWeight * (runs.length - pace);
  }
  /** Of slots that are at runs that last longer than turns, so many come free within a time; else more than anybody asks for. */
  const comeFreeIn = (ms: number): number => (runMs <= flightMs ? Number.POSITIVE_INFINITY : (pace * ms) / gapMs);

  function watch(): void {
    if (timer || isClosed || inHand.size === 0) return;
    timer = clock.after(lookMs, () => {
      timer = null;
      const at = clock.monotonic();
      let telling = false;
      for (const one of [...inHand.values()]) {
        // The outcome of one that is over is offered all the same: its lane may still be free.
        if (one.until <= at && !one.isOver) {
          drop(one.claim);
          lost(one.claim);
        } else if (one.begunAt === null && at - one.takenAt >= recallMs) recall(one.claim);
        else telling ||= isToTell(one);
      }
      if (telling) tellStarts();
      watch();
    });
  }
  function take(claims: readonly Claim[], sentAt: number): void {
    for (const claim of claims) {
      if (claim.startedAt !== null) continue;
      inHand.set(claim.job.id, { claim, takenAt: clock.monotonic(), until: sentAt + handMs * handMargin, begunAt: null, startedMs: 0, isOver: false, isTold: false });
      unbegun++;
    }
    watch();
  }

  return {
    now,
    sync,
    drop,
    begin(claim) {
      const one = own(claim);
      const at = clock.monotonic();
      // Its answer may have been on its way for longer than the store gives it to nobody else.
      if (!one || one.begunAt !== null || at - one.takenAt > staleMs || at >= one.until) return false;
      one.begunAt = at;
      one.startedMs = now();
      unbegun--;
      return true;
    },
    close() {
      isClosed = true;
      timer?.cancel();
    },
    end(claim) {
      const one = own(claim);
      if (one) one.isOver = true;
    },
    depart(endings, mayTake, mayWait = false) {
      const sentAt = clock.monotonic();
      if (endings.length > 0) learn(endings);
      const aim = Math.min(max, Math.round(depth * Math.min(pace, comeFreeIn(flightMs))), Math.floor(comeFreeIn(recallMs * recallMargin)));
      // As many as are missing, but not at once: turns would bring many and few in turn.
      const ahead = mayTake && flightMs >= flightMsMin ? Math.max(0, Math.round((3 * aim) / 4 - unbegun / 2)) : 0;
      const tellsTimes = asking > 0 || inHand.size > 0 || ahead > 0;
      if (ahead > 0) asking++;
      const telling = mayWait ? [] : [...inHand.values()].filter(isToTell);
      for (const one of telling) one.isTold = true;
      return {
        ahead,
        tellsTimes,
        begun: telling.map(({ claim: { job, fence, claimId }, startedMs }) => ({ jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence, claimId, startedMs })),
        startedMs(jobId) {
          const one = inHand.get(jobId);
          return one && one.begunAt !== null ? one.startedMs : undefined;
        },
        land(answer) {
          if (ahead > 0) asking--;
          const refusals = new Set(answer?.refused);
          for (const one of telling) one.isTold = refusals.has(one.claim.job.id);
          if (!answer) return;
          if (endings.length > 0) flightMs += flightWeight * (clock.monotonic() - sentAt - flightMs);
          sync(answer.atMs);
          const onRecord = new Set(answer.onRecord);
          for (const { claim } of telling) {
            if (own(claim) === undefined) continue;
            if (onRecord.has(claim.job.id)) {
              drop(claim);
              recorded(claim);
            } else if (refusals.has(claim.job.id)) refused(claim);
          }
          take(answer.claims, sentAt);
        },
      };
    },
  };
}
