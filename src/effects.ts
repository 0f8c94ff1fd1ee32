/**
 * Everything that the machines may do to the world, in one place: `fillMachines` takes one value for every hole that
 * machines/ leaves open, and `createEffects` makes those values from the runner and the turns.
 */
import { fromCallback, fromPromise } from "xstate";
import { chatMachine } from "../machines/chat.machine.js";
import type { Grant } from "../machines/chat.machine.js";
import { jobMachine } from "../machines/job.machine.js";
import type { AttemptOutcome, JobEvent, Settlement } from "../machines/job.machine.js";
import { supervisorMachine } from "../machines/supervisor.machine.js";
import { cleanEnd } from "./clean.js";
import type { Clock } from "./clock.js";
import type { Runner } from "./job.js";
import { messageOf } from "./report.js";
import type { Reporter } from "./report.js";
import { shownLane } from "./store/scope.js";
import type { Claim, Ending, Settled } from "./store/store.js";
import { guardOf } from "./turns.js";
import type { Turns } from "./turns.js";

/** Every hole in the machines. */
export interface MachineEffects {
  /** Runs an attempt; tells `attempted` once, when nothing of it runs any more. Returns how to stop it at once. */
  attempt(claim: Claim, attempted: (outcome: AttemptOutcome) => void): { abort(): void };
  /** Offers an attempt's end to the store; rejects when the database is away. */
  settle(claim: Claim, end: Ending["end"]): Promise<Settlement>;
  letGo(claim: Claim): void;
  takeTurn(): void;
  returnClaims(grants: Grant[]): void;
  abandonHead(claim: Claim): void;
  abandonChat(actorId: string, error: unknown): void;
}

export function fillMachines(effects: MachineEffects) {
  const job = jobMachine.provide({
    actors: {
      attempt: fromCallback<{ type: "attempt.aborted" }, { claim: Claim }>(({ input, sendBack, receive }) => {
        const attempt = effects.attempt(input.claim, (outcome) => sendBack({ type: "attempt.ended", outcome } satisfies JobEvent));
        receive(() => attempt.abort());
        return () => attempt.abort();
      }),
      settle: fromPromise<Settlement, { claim: Claim; end: Ending["end"] }>(({ input }) => effects.settle(input.claim, input.end)),
    },
    actions: { letGo: (_, { claim }) => effects.letGo(claim) },
  });
  const chat = chatMachine.provide({ actors: { job }, actions: { abandonHead: (_, { claim }) => effects.abandonHead(claim) } });
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
  abort(): void;
}

interface Needs {
  runner: Runner;
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
  const forget = (claim: Claim) => {
    if (atWork.get(claim.job.chatId)?.claim.claimId === claim.claimId) atWork.delete(claim.job.chatId);
  };

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

    attempt(claim, attempted) {
      const { job } = claim;
      const controller = new AbortController();
      let over = false;
      // Aborting costs an exception with a stack, so not for each attempt that has ended by itself.
      const abort = () => void (over || controller.abort());
      atWork.set(job.chatId, { claim, settling: false, abort });
      report({ type: "attempt.started", jobId: job.id, chatId: job.chatId, attempt: job.attempt, waitMs: Math.max(0, clock.now() - Date.parse(claim.startedAt)) });
      const broken = (error: unknown): AttemptOutcome => {
        if (controller.signal.aborted) return { kind: "aborted" };
        report({ type: "runner.broken", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        return { kind: "broken", message: "The worker could not be reached." };
      };
      // A runner that throws at once is treated like one that rejects.
      void Promise.resolve()
        .then(() => runner.run({ ...job, ...shownLane(job.chatId) }, { signal: controller.signal, attempt: job.attempt }))
        .then((outcome): AttemptOutcome => outcome, broken)
        .then((outcome) => {
          over = true;
          const entry = atWork.get(job.chatId);
          if (entry?.claim === claim) entry.settling = true;
          attempted(outcome);
        });
      return { abort };
    },

    async settle(claim, end) {
      const { job, fence } = claim;
      const entry = atWork.get(job.chatId);
      if (entry?.claim === claim) entry.settling = true;
      let settled: Settled;
      try {
        settled = await turns.settle(guardOf(claim), cleanEnd(end));
      } catch (error) {
        report({ type: "outcome.waiting", jobId: job.id, chatId: job.chatId, error: messageOf(error) });
        throw error;
      }
      forget(claim);
      if (settled.kind === "notMine") {
        report({ type: "outcome.refused", jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence });
        return { ...settled, watched: false };
      }
      const outcome = settled.status === "pending" ? (end.kind === "released" ? "released" : "retrying") : (settled.status as "completed" | "failed");
      report({
        type: "attempt.ended", jobId: job.id, chatId: job.chatId, attempt: job.attempt, outcome, quarantined: settled.quarantined,
        failureCode: settled.failureCode, runMs: Math.max(0, clock.now() - Date.parse(claim.startedAt)),
      });
      changed(settled);
      return { ...settled, watched: outcome === "retrying" && mayWatch() };
    },

    letGo: forget,
    takeTurn: () => turns.take(),
    returnClaims: (grants) => grants.forEach(({ claim }) => giveBack(claim, "draining")),

    abandonHead(claim) {
      const entry = atWork.get(claim.job.chatId);
      if (entry?.claim.claimId === claim.claimId) entry.abort();
      giveBack(claim, "crashed");
    },

    abandonChat(actorId, error) {
      report({ type: "actor.crashed", actorId, error: messageOf(error) });
      const entry = atWork.get(actorId);
      if (!entry) return;
      entry.abort();
      giveBack(entry.claim, "crashed");
    },
  };
}
