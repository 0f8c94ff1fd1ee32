/**
 * Everything that the machines may do to the world, in one place: `fillMachines` takes one value for every hole that
 * machines/ leaves open, and `createEffects` makes those values from the runner and the turns.
 */
import { chatMachine } from "../machines/chat.machine.js";
import type { Grant } from "../machines/chat.machine.js";
import { jobMachine } from "../machines/job.machine.js";
import type { AttemptOutcome, JobEvent } from "../machines/job.machine.js";
import { supervisorMachine } from "../machines/supervisor.machine.js";
import { cleanEnd } from "./clean.js";
import type { Clock, Timer } from "./clock.js";
import type { Origin, RunnableJob } from "./job.js";
import type { Hand } from "./hand.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import type { SlottedRunner } from "./slots.js";
import { StopSignal } from "./stop-signal.js";
import { shownLane } from "./store/scope.js";
import type { Claim, Ending, Settled } from "./store/store.js";
import { guardOf } from "./turns.js";
import type { Turns } from "./turns.js";

/** Every hole in the machines. */
export interface MachineEffects {
  /** Begins an attempt; `tell` hears `attempt.ended` once, when nothing of it runs any more, and `attempt.outOfTime` at its time limit. */
  startAttempt(claim: Claim, tell: (event: JobEvent) => void): void;
  abortAttempt(claim: Claim): void;
  /** Stops what still runs of it, and tells no more. */
  leaveAttempt(claim: Claim): void;
  /** Offers an attempt's end to the store; `tell` hears `end.settled`, or `end.unheard` when the database is away. */
  offerEnd(claim: Claim, end: Ending["end"], tell: (event: JobEvent) => void): void;
  letGo(claim: Claim): void;
  /** Gives a lane back that was taken ahead and not begun; its attempt no longer waits for a slot. */
  returnClaim(claim: Claim): void;
  /** A claim that waited for its lane's actor is another node's by now. */
  letGoNext(claim: Claim): void;
  /** Gives back a claim that was never begun. */
  returnNext(claim: Claim): void;
  takeTurn(): void;
  returnClaims(grants: Grant[]): void;
  abandonHead(claim: Claim): void;
  abandonChat(chatId: string, error: unknown): void;
}

/** A copy, for whoever runs it may change it; and its chat as people name it. */
function toRun(job: Claim["job"]): RunnableJob {
  const { chatId, tenant } = shownLane(job.chatId);
  return tenant === undefined ? { ...job } : { ...job, chatId, tenant };
}

/** Whoever lost its lane meanwhile has come to its end, and hears no more. */
const teller = (job: { getSnapshot(): { status: string }; send(event: JobEvent): void }) => (event: JobEvent): void => {
  if (job.getSnapshot().status === "active") job.send(event);
};

export function fillMachines(effects: MachineEffects) {
  // Actions and events, not invoked actors: one for each attempt and one for each end, with their timers and signals, were
  // half of a job's cost in the machines and more (bench/README.md, "Where a job's microseconds go"). What an invocation
  // would stop by itself, `leaveAttempt` on the way out stops.
  const job = jobMachine.provide({
    actions: {
      startAttempt: ({ self }, { claim }) => effects.startAttempt(claim, teller(self)),
      abortAttempt: (_, { claim }) => effects.abortAttempt(claim),
      leaveAttempt: (_, { claim }) => effects.leaveAttempt(claim),
      offerEnd: ({ self }, { claim, end }) => effects.offerEnd(claim, end, teller(self)),
      letGo: (_, { claim }) => effects.letGo(claim),
      returnClaim: (_, { claim }) => effects.returnClaim(claim),
    },
  });
  const chat = chatMachine.provide({
    actors: { job },
    actions: {
      abandonHead: (_, { claim }) => effects.abandonHead(claim),
      returnNext: (_, { claim }) => claim && effects.returnNext(claim),
      letGoNext: (_, { claim }) => claim && effects.letGoNext(claim),
    },
  });
  return supervisorMachine.provide({
    actors: { chat },
    actions: {
      takeTurn: () => effects.takeTurn(),
      returnClaims: (_, { grants }) => effects.returnClaims(grants),
      abandonChat: (_, { chatId, error }) => effects.abandonChat(chatId, error),
    },
  });
}

/** One attempt that this node has in hand, from its start to its recorded end. */
export interface AtWork {
  claim: Claim;
  /** The store's list must have it: its start is on record, and its end not on its way there. */
  isListed: boolean;
  /** ISO; null while it waits for a slot. */
  startedAt: string | null;
  /** Of the outcome that its run had; the machines know nothing of it. */
  origin?: Origin | undefined;
  /** How long its run took, once it came to an end. */
  runMs?: number | undefined;
  /** When it left its slot, by the store's clock. */
  endedMs?: number | undefined;
  abort(): void;
  /** Aborts it, and nobody hears of it any more. */
  leave(): void;
}

interface Needs {
  runner: SlottedRunner;
  turns: Turns;
  hand: Hand;
  clock: Clock;
  report: Reporter;
  /** Whether this node's lanes are its own at this moment. */
  holdsLease(): boolean;
  /** This one is no more. */
  lost(claim: Claim): void;
  /** Tells that a chat has news. */
  changed(settled: Extract<Settled, { kind: "settled" }>): void;
  /** Whether one more backing-off job may be watched. */
  mayWatch(): boolean;
}

/** What this node has at work: by chat, and by the very claim. */
interface Work {
  atWork: ReadonlyMap<string, AtWork>;
  workOf(claim: Claim): AtWork | undefined;
}

/** What the machines do, and what comes of it. */
export function createEffects({ runner, turns, hand, clock, report, holdsLease, lost, changed, mayWatch }: Needs): MachineEffects & Work {
  const atWork = new Map<string, AtWork>();
  const mine = (claim: Claim): AtWork | undefined => {
    const entry = atWork.get(claim.job.chatId);
    return entry?.claim.claimId === claim.claimId ? entry : undefined;
  };
  function forget(claim: Claim): void {
    hand.drop(claim);
    if (mine(claim)) atWork.delete(claim.job.chatId);
  }

  /** Gives a claim back; when the database is away, the lease's end does the same. */
  function giveBack(claim: Claim, reason: "draining" | "crashed"): void {
    runner.expectNoMore(claim.job.chatId);
    const isBegun = (claim.startedAt ?? mine(claim)?.startedAt ?? null) !== null;
    if (isBegun) report({ type: "lane.returned", chatId: claim.job.chatId, jobId: claim.job.id, reason });
    turns
      .settle(guardOf(claim), { kind: isBegun ? "released" : "returned" })
      .then((settled) => settled.kind === "settled" && changed(settled))
      .catch((error: unknown) => report({ type: "outcome.waiting", jobId: claim.job.id, chatId: claim.job.chatId, error: messageOf(error) }))
      .finally(() => forget(claim));
  }

  return {
    atWork,
    workOf: mine,

    startAttempt(claim, tell) {
      const { job } = claim;
      const stop = new StopSignal();
      let from = 0;
      let outOfTime: Timer | null = null;
      let over = false;
      let left = false;
      const entry: AtWork = {
        claim,
        isListed: claim.startedAt !== null,
        startedAt: claim.startedAt,
        // Aborting costs an exception with a stack, so not for each attempt that has ended by itself.
        abort: () => void (over || stop.abort()),
        leave() {
          left = true;
          outOfTime?.cancel();
          if (!over) stop.abort();
        },
      };
      atWork.set(job.chatId, entry);
      function restartLimit(): void {
        outOfTime?.cancel();
        if (!over && !left) outOfTime = clock.after(job.timeoutMs, () => !left && tell({ type: "attempt.outOfTime" }));
      }
      function begin(): void {
        from = clock.monotonic();
        restartLimit();
        report({ type: "attempt.started", jobId: job.id, chatId: job.chatId, attempt: job.attempt, waitMs: claim.startedAt === null ? 0 : Math.max(0, clock.now() - Date.parse(claim.startedAt)) });
      }
      function began(): void {
        if (claim.startedAt === null) {
          if (!hand.begin(claim)) return tell({ type: "job.recalled" });
          entry.startedAt = new Date(hand.now()).toISOString();
          begin();
          tell({ type: "attempt.began" });
        }
        // Last before it runs: this process may have stood still, and what waited meanwhile comes before its timers.
        if (!holdsLease()) lost(claim);
      }
      if (claim.startedAt !== null) begin();
      const ended = (outcome: AttemptOutcome): void => {
        over = true;
        hand.end(claim);
        entry.isListed = false;
        entry.runMs = clock.monotonic() - from;
        entry.origin = "origin" in outcome ? outcome.origin : undefined;
        if (!left) tell({ type: "attempt.ended", outcome });
      };
      const broken = (error: unknown): void => {
        if (stop.aborted) return ended({ kind: "aborted" });
        report({ type: "runner.broken", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        ended({ kind: "broken", message: "The worker could not be reached." });
      };
      runner.run(toRun(job), { stop, attempt: job.attempt, isOnRecord: claim.startedAt !== null, began, left: () => void (entry.endedMs = hand.now()), restartLimit }).then(ended, broken);
    },
    abortAttempt: (claim) => mine(claim)?.abort(),
    leaveAttempt: (claim) => mine(claim)?.leave(),

    offerEnd(claim, end, tell) {
      const { job, fence } = claim;
      const entry = mine(claim);
      if (entry) entry.isListed = false;
      const heard = (settled: Settled): void => {
        forget(claim);
        if (settled.kind === "notMine") {
          report({ type: "outcome.refused", jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence });
          return tell({ type: "end.settled", settled: { ...settled, watched: false } });
        }
        const outcome = settled.status === "pending" ? (end.kind === "released" ? "released" : "retrying") : (settled.status as "completed" | "failed");
        report({
          type: "attempt.ended", jobId: job.id, chatId: job.chatId, attempt: job.attempt, outcome, quarantined: settled.quarantined,
          failureCode: settled.failureCode, runMs: Math.round(entry?.runMs ?? 0),
        });
        changed(settled);
        tell({ type: "end.settled", settled: { ...settled, watched: outcome === "retrying" && mayWatch() } });
      };
      const whole = entry?.origin && (end.kind === "completed" || end.kind === "failed") ? { ...end, origin: entry.origin } : end;
      turns.settle(guardOf(claim), cleanEnd(whole), { runMs: entry?.runMs, endedMs: entry?.endedMs }).then(heard, (error: unknown) => {
        report({ type: "outcome.waiting", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        tell({ type: "end.unheard" });
      });
    },

    letGo: forget,
    letGoNext: (claim) => runner.expectNoMore(claim.job.chatId),
    takeTurn: () => turns.take(),
    returnNext: (claim) => giveBack(claim, "draining"),
    returnClaim(claim) {
      mine(claim)?.leave();
      giveBack(claim, "draining");
    },
    returnClaims: (grants) => grants.forEach(({ claim }) => giveBack(claim, "draining")),

    abandonHead(claim) {
      mine(claim)?.leave();
      giveBack(claim, "crashed");
    },

    abandonChat(chatId, error) {
      report({ type: "actor.crashed", actorId: chatId, error: messageOf(error) });
      runner.expectNoMore(chatId);
      const entry = atWork.get(chatId);
      if (!entry) return;
      entry.leave();
      giveBack(entry.claim, "crashed");
    },
  };
}
