/**
 * One per node: owns the slots. It asks the store for a turn whenever a slot is free, spawns a chat actor for each lane
 * it is granted, and survives the crash of any of them. Its ledger changes with each turn's answer only, so the running
 * builds never exceed the slots.
 */
import { assign, enqueueActions, setup } from "xstate";
import type { ActionFunction, ActorRefFrom, ErrorActorEvent } from "xstate";
import type { ChatEvent, ChatInput, Grant, chatMachine } from "./chat.machine.js";
import type { RetryPolicy } from "./job.machine.js";

export interface SupervisorInput {
  slots: number;
  policy: RetryPolicy;
  /** How long a drain waits for running builds, and how long for those given back, milliseconds. */
  drainMs: number;
  giveBackMs: number;
  /** Idle chat actors that are kept for their next grant. */
  idleMax: number;
}

export interface Ended {
  chatId: string;
  fence: number;
}

type SupervisorContext = SupervisorInput & {
  /** Lanes that take a slot, or were taken ahead of one, by the latest turn's word: chat to fence. */
  held: ReadonlyMap<string, number>;
  /**
   * Chats that have an actor here: chat to the actor's id, the smallest number that is free. XState copies the object of
   * all children when one is stopped; with numbers as its keys that costs 2 µs, with chats' ids hundreds (bench/README.md).
   */
  berths: ReadonlyMap<string, string>;
};

export type SupervisorEvent =
  | { type: "lanes.ready" }
  | { type: "turn.taken"; ended: Ended[]; grants: Grant[] }
  | { type: "job.cancelRequested"; chatId: string; jobId: string }
  | { type: "lane.recalled"; chatId: string }
  | { type: "lanes.recalled" }
  | { type: "lane.refused"; chatId: string }
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
    assign(update: Partial<SupervisorContext> | ((made: { spawn(src: "chat", options: { id: string; input: ChatInput }): unknown }) => Partial<SupervisorContext>)): void;
    sendTo(berth: string, event: ChatEvent): void;
    stopChild(berth: string): void;
  };
}
type Batched<P> = ActionFunction<SupervisorContext, SupervisorEvent, SupervisorEvent, P, never, never, never, never, never>;
const batched = <P = undefined>(run: (batch: Batch, params: P) => void): Batched<P> => enqueueActions(run as never) as unknown as Batched<P>;

/** The chat actors that live, by berth; those of this very step are not yet among them. */
const chatsOf = (self: Batch["self"]): Record<string, ActorRefFrom<typeof chatMachine>> => (self.getSnapshot() as { children: Record<string, ActorRefFrom<typeof chatMachine>> }).children;

/** Its start is recorded with its claim; what was taken ahead of a slot has not begun. */
const isOnRecord = ({ claim }: Grant): boolean => claim.startedAt !== null;

/** The chat whose actor that is. */
const chatAt = ({ berths }: SupervisorContext, actorId: string): string => [...berths].find(([, berth]) => berth === actorId)?.[0] ?? actorId;

/** Chats whose attempt is over while its end is on no record yet: chat to fence. */
function unrecordedEnds({ berths }: SupervisorContext, living: ReturnType<typeof chatsOf>): ReadonlyMap<string, number> {
  const ends = new Map<string, number>();
  for (const [chatId, berth] of berths) {
    const chat = living[berth]?.getSnapshot();
    if (chat?.children.head?.getSnapshot().hasTag("awaitsRecord")) ends.set(chatId, chat.context.claim.fence);
  }
  return ends;
}

/** Tells one chat's actor, if there is one. */
const tellsChat = <P extends { chatId: string }>(eventOf: (params: P) => ChatEvent): Batched<P> =>
  batched(({ context, enqueue }, params) => {
    const berth = context.berths.get(params.chatId);
    if (berth !== undefined) enqueue.sendTo(berth, eventOf(params));
  });
const tellsAllChats = (event: ChatEvent): Batched<undefined> =>
  batched(({ context, enqueue }) => {
    for (const berth of context.berths.values()) enqueue.sendTo(berth, event);
  });
/** The lease is lost; what is held from then on. */
const losesLanes = (heldThen: (context: SupervisorContext, living: ReturnType<typeof chatsOf>) => ReadonlyMap<string, number>): Batched<undefined> =>
  batched(({ context, enqueue, self }) => {
    for (const berth of context.berths.values()) enqueue.sendTo(berth, { type: "chat.leaseLost" });
    enqueue.assign({ held: heldThen(context, chatsOf(self)) });
  });

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
    abandonChat: (_, _params: { chatId: string; error: unknown }) => {},
    // The fence tells apart a lane that ended from the same lane granted anew.
    forgetEnded: assign(({ context }, params: { ended: Ended[] }) => {
      const held = new Map(context.held);
      for (const { chatId, fence } of params.ended) if (held.get(chatId) === fence) held.delete(chatId);
      return { held };
    }),
    // All new chats in one assignment: each spawn of its own would copy the list of all that live.
    grantLanes: batched(({ context, enqueue, self }, params: { grants: Grant[] }) => {
      if (params.grants.length === 0) return;
      const living = chatsOf(self);
      const held = new Map(context.held);
      const fresh: [chatId: string, berth: string, grant: Grant][] = [];
      let next = 0;
      for (const grant of params.grants) {
        const { chatId } = grant.claim.job;
        held.set(chatId, grant.claim.fence);
        const berth = context.berths.get(chatId);
        if (berth !== undefined) {
          enqueue.sendTo(berth, { type: "chat.granted", ...grant });
          continue;
        }
        while (living[next]) next++;
        fresh.push([chatId, String(next++), grant]);
      }
      if (fresh.length === 0) return enqueue.assign({ held });
      const berths = new Map(context.berths);
      enqueue.assign(({ spawn }) => {
        for (const [chatId, id, { claim, jitter }] of fresh) {
          spawn("chat", { id, input: { chatId, claim, jitter, policy: context.policy } });
          berths.set(chatId, id);
        }
        return { held, berths };
      });
    }),
    // Idle actors are kept for their next grant, those that were made last. One has nothing on its way to it but a grant of
    // this very turn, and then its lane is held.
    retireIdleChats: batched(({ context, enqueue, self }) => {
      let extra = context.berths.size - context.held.size - context.idleMax;
      if (extra <= 0) return;
      const living = chatsOf(self);
      const berths = new Map(context.berths);
      for (const [chatId, berth] of context.berths) {
        if (context.held.has(chatId) || !living[berth]?.getSnapshot().hasTag("idle")) continue;
        enqueue.stopChild(berth);
        berths.delete(chatId);
        if (--extra === 0) break;
      }
      enqueue.assign({ berths });
    }),
    dropCrashedChat: batched(({ context, enqueue }, params: { chatId: string; actorId: string }) => {
      const berths = new Map(context.berths);
      berths.delete(params.chatId);
      enqueue.stopChild(params.actorId);
      enqueue.assign({ berths });
    }),
    tellCancel: tellsChat(({ jobId }: { chatId: string; jobId: string }) => ({ type: "chat.cancelRequested", jobId })),
    giveBackLane: tellsChat(() => ({ type: "chat.givenBack" })),
    recallLane: tellsChat(() => ({ type: "chat.recalled" })),
    loseLane: batched(({ context, enqueue }, params: { chatId: string }) => {
      const berth = context.berths.get(params.chatId);
      if (berth === undefined) return;
      const held = new Map(context.held);
      held.delete(params.chatId);
      enqueue.sendTo(berth, { type: "chat.leaseLost" });
      enqueue.assign({ held });
    }),
    loseAllLanes: losesLanes(() => new Map()),
    // An end that waits for the database may still be recorded when that is back, if nobody has taken the lane over.
    loseAllButEnds: losesLanes(unrecordedEnds),
    recallAllLanes: tellsAllChats({ type: "chat.recalled" }),
    giveBackAllLanes: tellsAllChats({ type: "chat.givenBack" }),
  },
  guards: {
    hasFreeSlot: ({ context }) => context.held.size < context.slots,
    holdsNothing: ({ context }) => context.held.size === 0,
  },
  delays: {
    drainTime: ({ context }) => context.drainMs,
    giveBackTime: ({ context }) => context.giveBackMs,
  },
}).createMachine({
  id: "supervisor",
  description: "One per node. Owns the slots, takes turns at the store, and keeps a chat actor for each lane it was granted.",
  context: ({ input }) => ({ ...input, held: new Map(), berths: new Map() }),
  initial: "claiming",
  on: {
    "turn.taken": {
      actions: [
        { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
        { type: "grantLanes", params: ({ event }) => ({ grants: event.grants }) },
        "retireIdleChats",
      ],
      description: "A turn's answer: attempts that ended free their slots, claimed lanes take them. Idle chats are stopped when there are many.",
    },
    "job.cancelRequested": { actions: { type: "tellCancel", params: ({ event }) => ({ chatId: event.chatId, jobId: event.jobId }) }, description: "Reaches the job through its chat." },
    "lane.recalled": { actions: { type: "recallLane", params: ({ event }) => ({ chatId: event.chatId }) }, description: "It was taken ahead, and no slot came free for it in time." },
    "lane.refused": { actions: { type: "giveBackLane", params: ({ event }) => ({ chatId: event.chatId }) }, description: "The start of what was taken ahead may not go on record: it is stopped, and its lane goes back." },
    "lanes.recalled": { actions: "recallAllLanes", description: "The queue is being paused: what was taken ahead and has not begun goes back." },
    "lane.lost": { actions: { type: "loseLane", params: ({ event }) => ({ chatId: event.chatId }) }, description: "The store says that another node has this lane." },
    "xstate.error.actor.*": {
      actions: [
        { type: "abandonChat", params: ({ context, event }) => ({ chatId: chatAt(context, event.actorId), error: event.error }) },
        { type: "dropCrashedChat", params: ({ context, event }) => ({ chatId: chatAt(context, event.actorId), actorId: event.actorId }) },
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
        "queue.paused": { target: "paused", description: "A person paused the whole queue." },
        "lease.lost": { target: "leaseless", description: "It may end elsewhere any moment: others may take the lanes." },
        "node.drained": { target: "draining", description: "Somebody stops the node." },
      },
    },
    paused: {
      description: "Running builds go on; nothing new is claimed. The store refuses claims too, on every node.",
      entry: "recallAllLanes",
      on: {
        "turn.taken": {
          actions: [
            { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
            { type: "grantLanes", params: ({ event }) => ({ grants: event.grants.filter(isOnRecord) }) },
            { type: "returnClaims", params: ({ event }) => ({ grants: event.grants.filter((grant) => !isOnRecord(grant)) }) },
            "retireIdleChats",
          ],
          description: "What was claimed before the pause runs; what was taken ahead of a slot goes back.",
        },
        "queue.resumed": { target: "claiming", description: "A person resumed it." },
        "lease.lost": { target: "leaseless", description: "It may end elsewhere any moment: others may take the lanes." },
        "node.drained": { target: "draining", description: "Somebody stops the node." },
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
        "lease.renewed": { target: "claiming", description: "The database answered: fresh claims are good again." },
        "node.drained": { target: "draining", actions: "loseAllButEnds", description: "Ends that wait to be recorded are waited for." },
      },
    },
    draining: {
      description: "The node stops: running builds may finish, what is not begun goes back at once.",
      tags: ["draining"],
      entry: "recallAllLanes",
      always: { guard: "holdsNothing", target: "stopped", description: "Nothing is left to wait for." },
      after: { drainTime: { target: "givingBack", description: "Builds still run when the time to drain is over." } },
      on: {
        "turn.taken": {
          actions: [
            { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
            { type: "returnClaims", params: ({ event }) => ({ grants: event.grants }) },
          ],
          description: "Builds that ended leave; what was claimed too late goes back.",
        },
        "lease.lost": { actions: "loseAllButEnds", description: "Every build is stopped; ends that wait to be recorded may still be." },
      },
    },
    givingBack: {
      description: "The time to drain is over: builds are stopped, and their jobs go back in line at no cost.",
      tags: ["draining"],
      entry: "giveBackAllLanes",
      always: { guard: "holdsNothing", target: "stopped", description: "Nothing is left to wait for." },
      after: { giveBackTime: { target: "stopped", description: "What is left is rescued when the lease ends." } },
      on: {
        "turn.taken": {
          actions: [
            { type: "forgetEnded", params: ({ event }) => ({ ended: event.ended }) },
            { type: "returnClaims", params: ({ event }) => ({ grants: event.grants }) },
          ],
          description: "Builds that ended leave; what was claimed too late goes back.",
        },
        "lease.lost": { actions: "loseAllButEnds", description: "Every build is stopped; ends that wait to be recorded may still be." },
      },
    },
    stopped: { type: "final", description: "Nothing of this node runs any more." },
  },
});
