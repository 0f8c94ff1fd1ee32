/**
 * One lane that this node holds. The supervisor spawns it with a claim; it runs the claimed job, and the next one when
 * it is granted its lane again. It never ends by itself: when it is idle, the supervisor decides.
 */
import { assign, sendTo, setup } from "xstate";
import type { Claim } from "../src/store/store.js";
import type { JobInput, RetryPolicy, jobMachine } from "./job.machine.js";

export interface ChatInput {
  chatId: string;
  claim: Claim;
  jitter: number;
  policy: RetryPolicy;
}

/** A claimed lane, and the chance that its attempt's backoff may use. */
export interface Grant {
  claim: Claim;
  jitter: number;
}

type ChatContext = ChatInput & { next: Grant | null };

export type ChatEvent =
  | { type: "chat.granted"; claim: Claim; jitter: number }
  | { type: "job.backingOff" }
  | { type: "chat.cancelRequested"; jobId: string }
  | { type: "chat.recalled" }
  | { type: "chat.givenBack" }
  | { type: "chat.leaseLost" };

export const chatMachine = setup({
  types: {
    context: {} as ChatContext,
    input: {} as ChatInput,
    events: {} as ChatEvent,
    tags: {} as "idle" | "busy",
    children: {} as { head: "job" },
  },
  actors: { job: {} as unknown as typeof jobMachine },
  actions: {
    keepNext: assign((_, params: Grant) => ({ next: params })),
    takeNext: assign(({ context }) => (context.next ? { ...context.next, next: null } : {})),
    takeGrant: assign((_, params: Grant) => ({ ...params })),
    resumeHead: sendTo("head", ({ context }) => ({ type: "job.claimed" as const, claim: context.claim, jitter: context.jitter })),
    cancelHead: sendTo("head", { type: "job.cancelRequested" }),
    recallHead: sendTo("head", { type: "job.recalled" }),
    giveBackHead: sendTo("head", { type: "job.givenBack" }),
    loseHead: sendTo("head", { type: "job.leaseLost" }),
    // Its claim may be another node's by the time the head's end is known.
    dropNext: assign({ next: () => null }),
    /** Filled in: gives back a claim that was never begun. */
    returnNext: (_, _params: { claim: Claim | undefined }) => {},
    /** Filled in: a claim that waited is let go. */
    letGoNext: (_, _params: { claim: Claim | undefined }) => {},
    /** Filled in: ends what a crashed head left running, and gives its job back. */
    abandonHead: (_, _params: { claim: Claim }) => {},
  },
  guards: {
    hasNext: ({ context }) => context.next !== null,
    nextIsHead: ({ context }) => context.next !== null && context.next.claim.job.id === context.claim.job.id,
    isHead: ({ context }, params: { jobId: string }) => context.claim.job.id === params.jobId,
  },
}).createMachine({
  id: "chat",
  description: "A lane that this node holds. One job at a time; the order comes from the store, which grants the lane's head.",
  context: ({ input }) => ({ ...input, next: null }),
  initial: "serving",
  states: {
    serving: {
      description: "The head is at work, or watched while it backs off.",
      tags: ["busy"],
      invoke: {
        id: "head",
        src: "job",
        input: ({ context }): JobInput => ({ claim: context.claim, jitter: context.jitter, policy: context.policy }),
        onDone: [
          { guard: "hasNext", target: "serving", reenter: true, actions: "takeNext", description: "The lane was granted again meanwhile." },
          { target: "idle", description: "The lane is in line, empty, or another node's." },
        ],
        onError: [
          { guard: "hasNext", target: "serving", reenter: true, actions: [{ type: "abandonHead", params: ({ context }) => ({ claim: context.claim }) }, "takeNext"], description: "The job's machine crashed after its end was recorded: the lane was granted again meanwhile." },
          { target: "idle", actions: { type: "abandonHead", params: ({ context }) => ({ claim: context.claim }) }, description: "The job's machine crashed: end what it left running and give the job back." },
        ],
      },
      initial: "working",
      states: {
        working: {
          description: "The lane is held, and its head runs or is being recorded.",
          on: {
            "chat.granted": { actions: { type: "keepNext", params: ({ event }) => ({ claim: event.claim, jitter: event.jitter }) }, description: "The head's end is recorded; its machine is about to finish." },
            "job.backingOff": { target: "watching", description: "The row waits for its time; the lane is given up." },
          },
        },
        watching: {
          description: "The head backs off. Nothing is held; this only shows it and saves a new actor.",
          always: [
            { guard: "nextIsHead", target: "working", actions: ["takeNext", "resumeHead"], description: "Its time came at once." },
            { guard: "hasNext", target: "#chat.serving", reenter: true, actions: "takeNext", description: "Another job was granted already." },
          ],
          on: {
            "chat.granted": [
              {
                guard: { type: "isHead", params: ({ event }) => ({ jobId: event.claim.job.id }) },
                target: "working",
                actions: [{ type: "takeGrant", params: ({ event }) => ({ claim: event.claim, jitter: event.jitter }) }, "resumeHead"],
                description: "Its time has come.",
              },
              {
                target: "#chat.serving",
                reenter: true,
                actions: { type: "takeGrant", params: ({ event }) => ({ claim: event.claim, jitter: event.jitter }) },
                description: "Another job is the head now: the watched one was cancelled, or a priority went before it.",
              },
            ],
          },
        },
      },
      on: {
        "chat.cancelRequested": { guard: { type: "isHead", params: ({ event }) => ({ jobId: event.jobId }) }, actions: "cancelHead", description: "A person wants the running job ended." },
        "chat.recalled": [
          {
            guard: "hasNext",
            actions: ["recallHead", { type: "returnNext", params: ({ context }) => ({ claim: context.next?.claim }) }, "dropNext"],
            description: "What has not begun may run elsewhere at once, and what waits behind the head.",
          },
          { actions: "recallHead", description: "The node drains or pauses, or no slot came free: a head that has not begun may run elsewhere at once." },
        ],
        "chat.givenBack": { actions: "giveBackHead", description: "The node stops." },
        "chat.leaseLost": { actions: ["loseHead", { type: "letGoNext", params: ({ context }) => ({ claim: context.next?.claim }) }, "dropNext"], description: "Another node may have the lane." },
      },
    },
    idle: {
      description: "Nothing is left to do here. The supervisor keeps this actor for the lane's next grant, and stops it when it has many.",
      tags: ["idle"],
      on: {
        "chat.granted": { target: "serving", actions: { type: "takeGrant", params: ({ event }) => ({ claim: event.claim, jitter: event.jitter }) }, description: "This node got the lane again." },
      },
    },
  },
});
