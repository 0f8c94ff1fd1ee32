/**
 * One job that this node works on, from its claim to the end of its attempt. Its chat invokes it under the id `head`.
 * It runs the attempt, judges how it ended, and offers that to the store; the row, not this machine, is the truth.
 */
import { assign, sendParent, setup } from "xstate";
import type { Failure, Outcome } from "../src/job.js";
import type { Claim, Ending, Settled } from "../src/store/store.js";

/** What the machine needs besides the claim; chance comes in from outside. */
export interface JobInput {
  claim: Claim;
  /** In [0, 1): where in its full-jitter backoff this attempt's retry falls. */
  jitter: number;
  policy: RetryPolicy;
}
export interface RetryPolicy {
  retryBaseMs: number;
  retryMaxMs: number;
  /** How long a stopped attempt may take to be gone, milliseconds. */
  killGraceMs: number;
  /** Pause before an outcome is offered again after the database was away. */
  settleRetryMs: number;
  /** How long a backing-off job is watched past its due time. */
  watchMs: number;
}

/** `aborted`: stopped by us before it came to an end of its own. `broken`: the machinery failed, not the code. */
export type AttemptOutcome = Outcome | { kind: "aborted" } | { kind: "broken"; message: string };
export type Settlement = Settled & { /** Whether this node goes on watching a job that backs off. */ watched: boolean };

type JobContext = JobInput & {
  outcome: AttemptOutcome | null;
  stopping: "timedOut" | "cancelled" | "released" | null;
  end: Ending["end"] | null;
  runAt: string | null;
};

export type JobEvent =
  | { type: "attempt.began" }
  | { type: "attempt.ended"; outcome: AttemptOutcome }
  | { type: "attempt.outOfTime" }
  | { type: "end.settled"; settled: Settlement }
  | { type: "end.unheard" }
  | { type: "job.cancelRequested" }
  | { type: "job.givenBack" }
  | { type: "job.recalled" }
  | { type: "job.leaseLost" }
  | { type: "job.claimed"; claim: Claim; jitter: number };

/** Failures that one more attempt may heal, once. */
const onceMore = new Set(["timed_out", "out_of_memory"]);

const failureOf = ({ outcome, stopping, claim }: JobContext): { failure: Failure; error: string; blameless?: boolean } => {
  const plain = (code: Failure["code"], message: string, retryable: boolean) => ({ failure: { code, message, retryable, diagnostics: [] }, error: message });
  if (stopping === "timedOut") return plain("timed_out", `The build took longer than ${claim.job.timeoutMs} ms and was stopped.`, true);
  if (outcome?.kind === "failed") return { failure: outcome.failure, error: outcome.error };
  return { ...plain("worker_crashed", outcome?.kind === "broken" ? outcome.message : "The attempt ended without an outcome.", true), blameless: true };
};

export const jobMachine = setup({
  types: {
    context: {} as JobContext,
    input: {} as JobInput,
    events: {} as JobEvent,
    tags: {} as "queued" | "holdsSlot" | "awaitsRecord" | "retrying" | "final",
  },
  actions: {
    /** Filled in: begins the attempt, as soon as a slot is free. It answers `attempt.began` where it was taken ahead, `attempt.ended` once, when nothing of it runs any more, and `attempt.outOfTime` at its time limit. */
    startAttempt: (_, _params: { claim: Claim }) => {},
    /** Filled in: stops the attempt as fast as can be; its end is still awaited. */
    abortAttempt: (_, _params: { claim: Claim }) => {},
    /** Filled in: the attempt is no longer listened to; whatever of it still runs is stopped. */
    leaveAttempt: (_, _params: { claim: Claim }) => {},
    /** Filled in: offers the end to the store. It answers `end.settled`, or `end.unheard` when the database is away. */
    offerEnd: (_, _params: { claim: Claim; end: Ending["end"] }) => {},
    keepOutcome: assign((_, params: { outcome: AttemptOutcome }) => ({ outcome: params.outcome })),
    noteTimedOut: assign({ stopping: () => "timedOut" as const }),
    noteCancelled: assign({ stopping: () => "cancelled" as const }),
    noteReleased: assign({ stopping: () => "released" as const }),
    decideCompleted: assign({
      end: ({ context: { outcome } }) =>
        outcome?.kind === "built" ? { kind: "completed" as const, result: outcome.result, sourceMap: outcome.sourceMap, warnings: outcome.warnings, externals: outcome.externals } : null,
    }),
    decideCancelled: assign({
      end: () => ({ kind: "failed" as const, failure: { code: "cancelled" as const, message: "Cancelled while it ran.", retryable: false, diagnostics: [] }, error: "Cancelled while it ran." }),
    }),
    decideReleased: assign({ end: () => ({ kind: "released" as const }) }),
    // Exponential backoff with full jitter: anywhere between nothing and the doubled base, so that retries spread.
    decideRetry: assign({
      end: ({ context }) => ({
        kind: "retrying" as const,
        ...failureOf(context),
        delayMs: context.jitter * Math.min(context.policy.retryMaxMs, context.policy.retryBaseMs * 2 ** Math.min(30, context.claim.spent)),
      }),
    }),
    decideFailed: assign({ end: ({ context }) => ({ kind: "failed" as const, ...failureOf(context) }) }),
    keepRunAt: assign((_, params: { runAt: string | null }) => ({ runAt: params.runAt })),
    /** Filled in: this node has the lane no more; what the store still says it has goes back in line. */
    letGo: (_, _params: { claim: Claim }) => {},
    /** Filled in: gives a lane back that was taken ahead and not begun; its attempt no longer waits for a slot. */
    returnClaim: (_, _params: { claim: Claim }) => {},
    sayBackingOff: sendParent({ type: "job.backingOff" }),
    takeClaim: assign((_, params: { claim: Claim; jitter: number }) => ({ ...params, outcome: null, stopping: null, end: null, runAt: null })),
  },
  guards: {
    isOnRecord: ({ context }) => context.claim.startedAt !== null,
    wasCancelled: ({ context }) => context.stopping === "cancelled",
    wasBuilt: ({ context }) => context.outcome?.kind === "built" && context.stopping !== "timedOut",
    wasGivenBack: ({ context }) => context.stopping === "released" && context.outcome?.kind !== "failed",
    mayTryAgain: ({ context }) => {
      const { failure } = failureOf(context);
      if (!failure.retryable || context.claim.spent + 1 >= context.claim.job.maxAttempts) return false;
      return !onceMore.has(failure.code) || context.claim.strikes === 0;
    },
    isNotMine: (_, params: { settled: Settlement }) => params.settled.kind === "notMine",
    isCompleted: (_, params: { settled: Settlement }) => params.settled.kind === "settled" && params.settled.status === "completed",
    isFailed: (_, params: { settled: Settlement }) => params.settled.kind === "settled" && params.settled.status === "failed",
    isWatched: ({ context }, params: { settled: Settlement }) => context.end?.kind === "retrying" && params.settled.watched,
  },
  delays: {
    killGrace: ({ context }) => context.policy.killGraceMs,
    settleRetry: ({ context }) => context.policy.settleRetryMs,
    watchTime: ({ context }) => (context.end?.kind === "retrying" ? context.end.delayMs : 0) + context.policy.watchMs,
  },
}).createMachine({
  id: "job",
  description: "One job from its claim to the end of its attempt. The row in the database is the truth; this machine decides what to offer it.",
  context: ({ input }) => ({ ...input, outcome: null, stopping: null, end: null, runAt: null }),
  initial: "pending",
  states: {
    pending: {
      description: "Accepted and waiting: only a row, until a node claims its lane. This actor starts with the claim. One for a free slot runs at once; one that was taken ahead waits here for a slot.",
      tags: ["queued"],
      entry: { type: "startAttempt", params: ({ context }) => ({ claim: context.claim }) },
      always: { guard: "isOnRecord", target: "running", description: "Claimed for a free slot; the row says running." },
      on: {
        "attempt.began": { target: "running", description: "A slot came free; the next turn puts the start on record." },
        "job.recalled": { target: "released", actions: { type: "returnClaim", params: ({ context }) => ({ claim: context.claim }) }, description: "No slot came free in time, or the node pauses or drains: somebody else may have it." },
        "job.cancelRequested": { target: "released", actions: { type: "returnClaim", params: ({ context }) => ({ claim: context.claim }) }, description: "Its row has failed already." },
        "job.givenBack": { target: "released", actions: { type: "returnClaim", params: ({ context }) => ({ claim: context.claim }) }, description: "The node stops." },
        "job.leaseLost": { target: "lost", actions: [{ type: "leaveAttempt", params: ({ context }) => ({ claim: context.claim }) }, { type: "letGo", params: ({ context }) => ({ claim: context.claim }) }], description: "Another node may have the lane." },
      },
    },
    running: {
      description: "The lane is ours, and the row says running or will with the next turn. One worker runs the attempt.",
      tags: ["holdsSlot"],
      exit: { type: "leaveAttempt", params: ({ context }) => ({ claim: context.claim }) },
      initial: "building",
      states: {
        building: {
          description: "The worker builds, within its time limit.",
          on: {
            "attempt.outOfTime": { target: "stopping", actions: "noteTimedOut", description: "Longer than its time limit." },
            "job.cancelRequested": { target: "stopping", actions: "noteCancelled", description: "A person wants it ended." },
            "job.givenBack": { target: "stopping", actions: "noteReleased", description: "The node stops and gives its lanes back." },
          },
        },
        stopping: {
          description: "The worker is being killed. The slot stays taken until it is gone.",
          entry: { type: "abortAttempt", params: ({ context }) => ({ claim: context.claim }) },
          after: { killGrace: { target: "#job.judging", description: "It does not go; a run of somebody's own may ignore its signal." } },
          on: { "job.cancelRequested": { actions: "noteCancelled", description: "A cancel outweighs what stopped it." } },
        },
      },
      on: {
        "attempt.ended": { target: "judging", actions: { type: "keepOutcome", params: ({ event }) => ({ outcome: event.outcome }) }, description: "Nothing of the attempt runs any more." },
        "job.leaseLost": { target: "lost", actions: { type: "letGo", params: ({ context }) => ({ claim: context.claim }) }, description: "Another node may have the lane: stop, and write nothing." },
      },
    },
    judging: {
      description: "Decides, in this order, how the attempt counts.",
      tags: ["holdsSlot"],
      always: [
        { guard: "wasCancelled", target: "recording", actions: "decideCancelled", description: "Ends the job, and it is no dead letter." },
        { guard: "wasBuilt", target: "recording", actions: "decideCompleted", description: "The bundle is the result." },
        { guard: "wasGivenBack", target: "recording", actions: "decideReleased", description: "Costs no attempt; it keeps its place." },
        { guard: "mayTryAgain", target: "recording", actions: "decideRetry", description: "Another attempt may end otherwise, and one is left." },
        { target: "recording", actions: "decideFailed", description: "Failed for good." },
      ],
    },
    recording: {
      description: "Offers the end to the store, which takes it only if job, attempt, node, fence and claim still match.",
      tags: ["holdsSlot", "awaitsRecord"],
      entry: { type: "offerEnd", params: ({ context }) => ({ claim: context.claim, end: context.end ?? { kind: "released" as const } }) },
      on: {
        "end.settled": [
          { guard: { type: "isNotMine", params: ({ event }) => ({ settled: event.settled }) }, target: "lost", description: "Refused: no longer ours." },
          { guard: { type: "isCompleted", params: ({ event }) => ({ settled: event.settled }) }, target: "completed", description: "Recorded: built." },
          { guard: { type: "isFailed", params: ({ event }) => ({ settled: event.settled }) }, target: "failed", description: "Recorded: failed for good, or cancelled." },
          {
            guard: { type: "isWatched", params: ({ event }) => ({ settled: event.settled }) },
            target: "backingOff",
            actions: { type: "keepRunAt", params: ({ event }) => ({ runAt: event.settled.kind === "settled" ? event.settled.runAt : null }) },
            description: "Recorded: another attempt follows, and this node watches for its time.",
          },
          { target: "released", description: "Pending again: given back, or backing off unwatched." },
        ],
        "end.unheard": { target: "awaitingDatabase", description: "The database is away; the outcome is kept." },
      },
    },
    awaitingDatabase: {
      description: "Keeps the outcome until the database answers again.",
      tags: ["holdsSlot", "awaitsRecord"],
      after: { settleRetry: { target: "recording", description: "Offered again." } },
    },
    backingOff: {
      description: "Pending until its time comes. The row holds the chat's place; no slot and no lane is held here, this only watches.",
      tags: ["queued", "retrying"],
      entry: "sayBackingOff",
      after: { watchTime: { target: "released", description: "Somebody else took it, or it was cancelled." } },
      on: {
        "job.claimed": { target: "pending", actions: { type: "takeClaim", params: ({ event }) => ({ claim: event.claim, jitter: event.jitter }) }, description: "This node got the lane again." },
        "job.givenBack": { target: "released", description: "The node stops; the row waits by itself." },
        "job.leaseLost": { target: "released", description: "The row waits by itself." },
      },
    },
    completed: { type: "final", tags: ["final"], description: "Built; the result is stored." },
    failed: { type: "final", tags: ["final"], description: "Failed for good; a dead letter unless cancelled or superseded." },
    released: { type: "final", tags: ["queued"], description: "Pending again, in its old place, for whichever node takes the lane." },
    lost: { type: "final", description: "The lane is another node's, or the outcome was recorded before. Nothing was written." },
  },
});
