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
import type { Clock } from "./clock.js";
import type { Origin } from "./job.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import type { SlottedRunner } from "./slots.js";
import { stopSignal } from "./stop-signal.js";
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
  /** Gives back a claim that was never begun. */
  returnNext(claim: Claim): void;
  takeTurn(): void;
  returnClaims(grants: Grant[]): void;
  abandonHead(claim: Claim): void;
  abandonChat(actorId: string, error: unknown): void;
}

/** Whoever lost its lane meanwhile has come to its end, and hears no more. */
const teller = (job: { getSnapshot(): { status: string }; send(event: JobEvent): void }) => (event: JobEvent): void => {
  if (job.getSnapshot().status === "active") job.send(event);
};

export function fillMachines(effects: MachineEffects) {
  // Actions and events, not invoked actors: one actor less for each attempt and one less for each end halves a job's cost
  // in the machines (bench/README.md). What an invocation would stop by itself, `leaveAttempt` on the way out stops.
  const job = jobMachine.provide({
    actions: {
      startAttempt: ({ self }, { claim }) => effects.startAttempt(claim, teller(self)),
      abortAttempt: (_, { claim }) => effects.abortAttempt(claim),
      leaveAttempt: (_, { claim }) => effects.leaveAttempt(claim),
      offerEnd: ({ self }, { claim, end }) => effects.offerEnd(claim, end, teller(self)),
      letGo: (_, { claim }) => effects.letGo(claim),
    },
  });
  const chat = chatMachine.provide({
    actors: { job },
    actions: {
      abandonHead: (_, { claim }) => effects.abandonHead(claim),
      returnNext: (_, { claim }) => claim && effects.returnNext(claim),
    },
  });
  return supervisorMachine.provide({
    actors: { chat },
    actions: {
      takeTurn: () => effects.takeTurn(),
      returnClaims: (_, { grants }) => effects.returnClaims(grants),
      abandonChat: (_, { actorId, error }) => effects.abandonChat(actorId, error),
    },
  });
}

/** One attempt that this node has in hand, from its start to its recorded end. */
export interface AtWork {
  claim: Claim;
  /** Its end is being offered: its absence from the store's list means nothing. */
  settling: boolean;
  /** Of the outcome that its run had; the machines know nothing of it. */
  origin?: Origin | undefined;
  /** How long its run took, once that is over. */
  runMs?: number | undefined;
  abort(): void;
  /** Aborts it, and nobody hears of it any more. */
  leave(): void;
}

interface Needs {
  runner: SlottedRunner;
  turns: Turns;
  clock: Clock;
  report: Reporter;
  /** Tells that a chat has news. */
  changed(settled: Extract<Settled, { kind: "settled" }>): void;
  /** Whether one more backing-off job may be watched. */
  mayWatch(): boolean;
}

/** What the machines do, and what this node has at work, by chat. */
export function createEffects({ runner, turns, clock, report, changed, mayWatch }: Needs): MachineEffects & { atWork: ReadonlyMap<string, AtWork> } {
  const atWork = new Map<string, AtWork>();
  const mine = (claim: Claim): AtWork | undefined => {
    const entry = atWork.get(claim.job.chatId);
    return entry?.claim.claimId === claim.claimId ? entry : undefined;
  };
  const forget = (claim: Claim) => void (mine(claim) && atWork.delete(claim.job.chatId));

  /** Gives a claim back; when the database is away, the lease's end does the same. */
  function giveBack(claim: Claim, reason: "draining" | "crashed"): void {
    report({ type: "lane.returned", chatId: claim.job.chatId, jobId: claim.job.id, reason });
    turns
      .settle(guardOf(claim), { kind: "released" })
      .then((settled) => settled.kind === "settled" && changed(settled))
      .catch((error: unknown) => report({ type: "outcome.waiting", jobId: claim.job.id, chatId: claim.job.chatId, error: messageOf(error) }))
      .finally(() => forget(claim));
  }

  return {
    atWork,

    startAttempt(claim, tell) {
      const { job } = claim;
      const stop = stopSignal();
      const from = clock.monotonic();
      let over = false;
      let left = false;
      const outOfTime = clock.after(job.timeoutMs, () => !left && tell({ type: "attempt.outOfTime" }));
      atWork.set(job.chatId, {
        claim,
        settling: false,
        // Aborting costs an exception with a stack, so not for each attempt that has ended by itself.
        abort: () => void (over || stop.abort()),
        leave() {
          left = true;
          outOfTime.cancel();
          if (!over) stop.abort();
        },
      });
      report({ type: "attempt.started", jobId: job.id, chatId: job.chatId, attempt: job.attempt, waitMs: Math.max(0, clock.now() - Date.parse(claim.startedAt)) });
      const ended = (outcome: AttemptOutcome): void => {
        over = true;
        const entry = atWork.get(job.chatId);
        if (entry?.claim === claim) {
          entry.settling = true;
          entry.runMs = Math.round(clock.monotonic() - from);
          entry.origin = "origin" in outcome ? outcome.origin : undefined;
        }
        if (!left) tell({ type: "attempt.ended", outcome });
      };
      const broken = (error: unknown): void => {
        if (stop.aborted) return ended({ kind: "aborted" });
        report({ type: "runner.broken", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        ended({ kind: "broken", message: "The worker could not be reached." });
      };
      // Not before the machines are at rest; and a runner that throws at once is treated like one that rejects.
      void Promise.resolve()
        .then(() => runner.run({ ...job, ...shownLane(job.chatId) }, { stop, attempt: job.attempt }))
        .then(ended, broken);
    },
    abortAttempt: (claim) => mine(claim)?.abort(),
    leaveAttempt: (claim) => mine(claim)?.leave(),

    offerEnd(claim, end, tell) {
      const { job, fence } = claim;
      const entry = mine(claim);
      if (entry) entry.settling = true;
      const heard = (settled: Settled): void => {
        forget(claim);
        if (settled.kind === "notMine") {
          report({ type: "outcome.refused", jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence });
          return tell({ type: "end.settled", settled: { ...settled, watched: false } });
        }
        const outcome = settled.status === "pending" ? (end.kind === "released" ? "released" : "retrying") : (settled.status as "completed" | "failed");
        report({
          type: "attempt.ended", jobId: job.id, chatId: job.chatId, attempt: job.attempt, outcome, quarantined: settled.quarantined,
          failureCode: settled.failureCode, runMs: Math.max(0, clock.now() - Date.parse(claim.startedAt)),
        });
        changed(settled);
        tell({ type: "end.settled", settled: { ...settled, watched: outcome === "retrying" && mayWatch() } });
      };
      const whole = entry?.origin && (end.kind === "completed" || end.kind === "failed") ? { ...end, origin: entry.origin } : end;
      turns.settle(guardOf(claim), cleanEnd(whole), entry?.runMs).then(heard, (error: unknown) => {
        report({ type: "outcome.waiting", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        tell({ type: "end.unheard" });
      });
    },

    letGo: forget,
    takeTurn: () => turns.take(),
    returnNext: (claim) => giveBack(claim, "draining"),
    returnClaims: (grants) => grants.forEach(({ claim }) => giveBack(claim, "draining")),

    abandonHead(claim) {
      mine(claim)?.leave();
      giveBack(claim, "crashed");
    },

    abandonChat(actorId, error) {
      report({ type: "actor.crashed", actorId, error: messageOf(error) });
      const entry = atWork.get(actorId);
      if (!entry) return;
      entry.leave();
      giveBack(entry.claim, "crashed");
    },
  };
}
