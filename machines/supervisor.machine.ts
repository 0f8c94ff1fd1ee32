/**
 * One per node: owns the slots. It asks the store for a turn whenever a slot is free, spawns a chat actor for each lane
 * it is granted, and survives the crash of any of them. Its ledger changes with each turn's answer only, so the running
 * builds never exceed the slots.
 */
import { assign, enqueueActions, setup } from "xstate";
import type { ActionFunction, ErrorActorEvent } from "xstate";
import type { ChatEvent, ChatInput, Grant, chatMachine } from "./chat.machine.js";
import type { RetryPolicy } from "./job.machine.js";

export interface SupervisorInput {
  slots: number;
  policy: RetryPolicy;
  /** How long a drain waits for running builds, and how long for those given back, milliseconds. */
  drainMs: number;
  giveBackMs: number;
  /** Chat actors, idle ones included, that are kept; more than the slots. */
  keptMax: number;
}


export interface Ended {
  chatId: string;
  fence: number;
}

type SupervisorContext = SupervisorInput & {
  /** Lanes that take a slot, by the latest turn's word: chat to fence. */
  held: Record<string, number>;
  /** Grants sent to each living chat actor; an idle one is stopped only when it has received them all. */
  granted: Record<string, number>;
};

export type SupervisorEvent =
  | { type: "lanes.ready" }
  | { type: "turn.taken"; ended: Ended[]; grants: Grant[] }
  | { type: "chat.idle"; chatId: string; received: number }
  | { type: "job.cancelRequested"; chatId: string; jobId: string }
  | { type: "lane.lost"; chatId: string }
  | { type: "queue.paused" }
  | { type: "queue.resumed" }
  | { type: "lease.lost" }
  | { type: "lease.renewed" }
  | { type: "node.drained" }
  | (ErrorActorEvent & { type: "xstate.error.actor.*" });

/** What the actions that reach several actors use of `enqueueActions`, whose own types do not compose with params. */
interface Batch {
  context: SupervisorContext;
  self: { getSnapshot(): unknown };
  enqueue: {
    assign(update: Partial<SupervisorContext>): void;
    sendTo(chatId: string, event: ChatEvent): void;
    spawnChild(src: "chat", options: { id: string; input: ChatInput }): void;
    stopChild(chatId: string): void;
  };
}
type Batched<P> = ActionFunction<SupervisorContext, SupervisorEvent, SupervisorEvent, P, never, never, never, never, never>;
const batched = <P = undefined>(run: (batch: Batch, params: P) => void): Batched<P> => enqueueActions(run as never) as unknown as Batched<P>;

export const supervisorMachine = setup({
  types: {
    context: {} as SupervisorContext,
    input: {} as SupervisorInput,
    events: {} as SupervisorEvent,
    tags: {} as "claiming" | "draining",
  },
  actors: { chat: {} as unknown as typeof chatMachine },
  actions: {
    /** Filled in: asks for a turn; the answer comes as `turn.taken`. Asking again meanwhile is harmless. */
    takeTurn: () => {},
    /** Filled in: gives claims back that came too late to be run here. */
    returnClaims: (_, _params: { grants: Grant[] }) => {},
    /** Filled in: ends what a crashed chat left running, and gives its job back. */
    abandonChat: (_, _params: { actorId: string; error: unknown }) => {},
    // The fence tells apart a lane that ended from the same lane granted anew.
    forgetEnded: assign(({ context }, params: { ended: Ended[] }) => {
      const held = { ...context.held };
      for (const { chatId, fence } of params.ended) if (held[chatId] === fence) delete held[chatId];
      return { held };
    }),
    grantLanes: batched(({ context, enqueue, self }, params: { grants: Grant[] }) => {
      if (params.grants.length === 0) return;
      const held = { ...context.held };
      const granted = { ...context.granted };
      const living = (self.getSnapshot() as { children: Record<string, unknown> }).children;
      for (const { claim, jitter } of params.grants) {
        const { chatId } = claim.job;
        held[chatId] = claim.fence;
        const sent = granted[chatId];
        if (sent !== undefined && living[chatId]) {
          granted[chatId] = sent + 1;
          enqueue.sendTo(chatId, { type: "chat.granted", claim, jitter });
        } else {
          granted[chatId] = 1;
          enqueue.spawnChild("chat", { id: chatId, input: { chatId, claim, jitter, policy: context.policy } });
        }
      }
      enqueue.assign({ held, granted });
    }),
    // A grant may be on its way to an actor that has just said it is idle: then the counts differ, and it lives on.
    // Some idle actors are kept for their next grant: making one costs a quarter of a small job's time in this process.
    retireChat: batched(({ context, enqueue }, params: { chatId: string; received: number }) => {
      if (context.granted[params.chatId] !== params.received || Object.keys(context.granted).length <= context.keptMax) return;
      const { [params.chatId]: _retired, ...granted } = context.granted;
      enqueue.stopChild(params.chatId);
      enqueue.assign({ granted });
    }),
    dropCrashedChat: batched(({ context, enqueue }, params: { actorId: string }) => {
      const { [params.actorId]: _crashed, ...granted } = context.granted;
      enqueue.stopChild(params.actorId);
      enqueue.assign({ granted });
    }),
    tellCancel: batched(({ context, enqueue }, params: { chatId: string; jobId: string }) => {
      if (context.granted[params.chatId] !== undefined) enqueue.sendTo(params.chatId, { type: "chat.cancelRequested", jobId: params.jobId });
    }),
    loseLane: batched(({ context, enqueue }, params: { chatId: string }) => {
      if (context.granted[params.chatId] === undefined) return;
      const { [params.chatId]: _lost, ...held } = context.held;
      enqueue.sendTo(params.chatId, { type: "chat.leaseLost" });
      enqueue.assign({ held });
    }),
    loseAllLanes: batched(({ context, enqueue }) => {
      for (const chatId of Object.keys(context.granted)) enqueue.sendTo(chatId, { type: "chat.leaseLost" });
      enqueue.assign({ held: {} });
    }),
    giveBackAllLanes: batched(({ context, enqueue }) => {
      for (const chatId of Object.keys(context.granted)) enqueue.sendTo(chatId, { type: "chat.givenBack" });
    }),
  },
  guards: {
    hasFreeSlot: ({ context }) => Object.keys(context.held).length < context.slots,
    holdsNothing: ({ context }) => Object.keys(context.held).length === 0,
  },
  delays: {
    drainTime: ({ context }) => context.drainMs,
    giveBackTime: ({ context }) => context.giveBackMs,
  },
}).createMachine({
  id: "supervisor",
  description: "One per node. Owns the slots, takes turns at the store, and keeps a chat actor for each lane it was granted.",
  context: ({ input }) => ({ ...input, held: {}, granted: {} }),
  initial: "claiming",
  on: {
    "turn.taken": {
      actions: [
        { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
        { type: "grantLanes", params: ({ event }) => ({ grants: event.grants }) },
      ],
      description: "A turn's answer: attempts that ended free their slots, claimed lanes take them.",
    },
    "chat.idle": { actions: { type: "retireChat", params: ({ event }) => ({ chatId: event.chatId, received: event.received }) }, description: "A chat has nothing left to do: its actor is stopped when there are many." },
    "job.cancelRequested": { actions: { type: "tellCancel", params: ({ event }) => ({ chatId: event.chatId, jobId: event.jobId }) }, description: "Reaches the job through its chat." },
    "lane.lost": { actions: { type: "loseLane", params: ({ event }) => ({ chatId: event.chatId }) }, description: "The store says that another node has this lane." },
    "xstate.error.actor.*": {
      actions: [
        { type: "abandonChat", params: ({ event }) => ({ actorId: event.actorId, error: event.error }) },
        { type: "dropCrashedChat", params: ({ event }) => ({ actorId: event.actorId }) },
      ],
      description: "A chat actor crashed: its lane is given back, and the others go on.",
    },
  },
  states: {
    claiming: {
      description: "Takes turns whenever a slot is free and a lane may be ready.",
      tags: ["claiming"],
      entry: "takeTurn",
      on: {
        "lanes.ready": { guard: "hasFreeSlot", actions: "takeTurn", description: "Something may be in line." },
        "queue.paused": { target: "paused" },
        "lease.lost": { target: "leaseless" },
        "node.drained": { target: "draining" },
      },
    },
    paused: {
      description: "Running builds go on; nothing new is claimed. The store refuses claims too, on every node.",
      on: {
        "queue.resumed": { target: "claiming" },
        "lease.lost": { target: "leaseless" },
        "node.drained": { target: "draining" },
      },
    },
    leaseless: {
      description: "The lease could not be renewed in time. Every build is stopped, nothing is written, nothing is claimed.",
      entry: "loseAllLanes",
      on: {
        "turn.taken": {
          actions: { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
          description: "An answer from before: its lanes are no longer ours to run.",
        },
        "lease.renewed": { target: "claiming" },
        "node.drained": { target: "draining" },
      },
    },
    draining: {
      description: "The node stops: running builds may finish, what is claimed too late goes back at once.",
      tags: ["draining"],
      always: { guard: "holdsNothing", target: "stopped" },
      after: { drainTime: { target: "givingBack" } },
      on: {
        "turn.taken": {
          actions: [
            { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
            { type: "returnClaims", params: ({ event }) => ({ grants: event.grants }) },
          ],
        },
        "lease.lost": { actions: "loseAllLanes" },
      },
    },
    givingBack: {
      description: "The time to drain is over: builds are stopped, and their jobs go back in line at no cost.",
      tags: ["draining"],
      entry: "giveBackAllLanes",
      always: { guard: "holdsNothing", target: "stopped" },
      after: { giveBackTime: { target: "stopped", description: "What is left is rescued when the lease ends." } },
      on: {
        "turn.taken": {
          actions: [
            { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
            { type: "returnClaims", params: ({ event }) => ({ grants: event.grants }) },
          ],
        },
        "lease.lost": { actions: "loseAllLanes" },
      },
    },
    stopped: { type: "final", description: "Nothing of this node runs any more." },
  },
});
