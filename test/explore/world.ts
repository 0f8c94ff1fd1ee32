/**
 * A small world around the memory store's verbs: two nodes with one slot each, a few jobs in two chats, and budgets for
 * what may go wrong. A state is everything that is, an action one atomic step of it; `actionsOf` lists all that are
 * possible. Each call of the store is two steps, so that everything may happen between what it does and its answer; an
 * answer may be lost, a lease may end at the store without its node's knowing (a frozen node, a cut network), a node may
 * crash at any step.
 */
import { accept } from "../../src/store/memory/accept.js";
import type { Tables } from "../../src/store/memory/tables.js";
import { leave, rescue, turn } from "../../src/store/memory/turn.js";
import { cancel, endLeases, pulse } from "../../src/store/memory/verbs.js";
import type { Claim, Ending } from "../../src/store/store.js";
import { ends, guardOf, limits, newJob, T0 } from "../store/programs.js";
import { copyTables } from "./copy-tables.js";

/** What may still go wrong. */
export interface Budgets {
  /** Ends of nodes: by a crash, or by a clean stop. */
  crashes: number;
  leaseEnds: number;
  lostAnswers: number;
  cancels: number;
  /** Attempts that end otherwise than completed. */
  failures: number;
  /** Of all these together. */
  together: number;
}

interface NodeState {
  /** Another after each crash. */
  id: string;
  /** What it builds or built. */
  claim: Claim | null;
  /** A call was made and its answer is on the way: the claim that it brings, if any. */
  waiting: { claim: Claim | null } | null;
}

export interface State {
  tables: Tables;
  /** Grows with each step, so that no two things happen at one time. */
  at: number;
  /** Claim ids and node ids given so far. */
  made: number;
  nodes: [NodeState, NodeState];
  /** Jobs not yet accepted, by chat. */
  left: Record<string, number>;
  budgets: Budgets;
}

export const chats = ["a", "b"];
const lossesMax = 2;
const jobId = (chatId: string, n: number): string => `${chatId}${n}`;
const leaseMs = 1e12;
const delayMs = 1e6;

export function firstState(tables: Tables, jobsPerChat: Record<string, number>, budgets: Budgets): State {
  const state: State = { tables, at: T0, made: 0, nodes: [{ id: "n0", claim: null, waiting: null }, { id: "n1", claim: null, waiting: null }], left: { ...jobsPerChat }, budgets };
  for (const node of state.nodes) pulse(tables, { nodeId: node.id, leaseMs, slots: 1, draining: false }, state.at);
  return state;
}

const copyState = ({ tables, nodes, left, budgets, ...state }: State): State => ({
  ...state, tables: copyTables(tables), nodes: [{ ...nodes[0] }, { ...nodes[1] }], left: { ...left }, budgets: { ...budgets },
});

export interface Action {
  name: string;
  /** The state after it; the one before is left as it was. */
  take(): State;
}

const endKinds = { completed: ends.completed, failed: ends.failed, timedOut: { ...ends.timedOut, delayMs }, released: ends.released } satisfies Record<string, Ending["end"]>;
type EndKind = keyof typeof endKinds;

/** Everything that may happen next. */
export function actionsOf(state: State): Action[] {
  const actions: Action[] = [];
  const { tables, budgets } = state;
  const may = (name: string, change: (next: State) => void, spends?: keyof Budgets): void => {
    if (spends && (budgets[spends] === 0 || budgets.together === 0)) return;
    actions.push({
      name,
      take() {
        const next = copyState(state);
        next.at++;
        if (spends) next.budgets[spends]--;
        if (spends) next.budgets.together--;
        change(next);
        return next;
      },
    });
  };

  for (const chatId of chats) {
    const done = [...tables.jobs.keys()].filter((id) => id.startsWith(chatId)).length;
    const left = state.left[chatId] ?? 0;
    const offer = (next: State, n: number) => void accept(next.tables, [{ jobs: [newJob(jobId(chatId, n), chatId)], idempotency: { scope: "", key: jobId(chatId, n), requestHash: "same" } }], limits, next.at);
    if (left > 0) may(`accept ${jobId(chatId, done + 1)}`, (next) => {
      offer(next, done + 1);
      next.left[chatId] = left - 1;
    });
    // The answer was lost and the submitter asks again.
    if (done > 0) may(`accept ${jobId(chatId, done)} again`, (next) => offer(next, done), "lostAnswers");
  }
  for (const job of tables.jobs.values())
    if (job.status === "pending" || (job.status === "running" && job.cancelRequestedAt === null)) may(`cancel ${job.id}`, (next) => void cancel(next.tables, "everyone", job.id, next.at), "cancels");
  if (tables.delayed.first && tables.delayed.first.readyAt > state.at) may("time passes", (next) => void (next.at = tables.delayed.first?.readyAt ?? next.at));
  state.nodes.forEach((_, index) => nodeActions(state, index as 0 | 1, may));
  return actions;
}

function nodeActions(state: State, index: 0 | 1, may: (name: string, change: (next: State) => void, spends?: keyof Budgets) => void): void {
  const { tables } = state;
  const { id, claim, waiting } = state.nodes[index];
  const holds = tables.owned.get(id)?.size ?? 0;
  const lapsed = (tables.nodes.get(id)?.leaseUntil ?? 0) <= state.at;
  const own = (next: State): NodeState => next.nodes[index];
  const call = (next: State, endings: Ending[], want: number): Claim | null => turn(next.tables, { nodeId: id, claimId: `c${next.made++}`, endings, want, nodeLossesMax: lossesMax }, next.at).claims[0] ?? null;
  const due = tables.ready.size > 0 || (tables.delayed.first !== undefined && tables.delayed.first.readyAt <= state.at);

  if (waiting) {
    may(`${id} hears`, (next) => Object.assign(own(next), { claim: waiting.claim, waiting: null }));
    may(`${id} never hears`, (next) => Object.assign(own(next), { waiting: null }), "lostAnswers");
  } else if (!claim && due && !lapsed) {
    may(`${id} claims`, (next) => Object.assign(own(next), { waiting: { claim: call(next, [], 1) } }));
  } else if (claim) {
    for (const [kind, end] of Object.entries(endKinds) as [EndKind, Ending["end"]][])
      // The build is over; its end goes to the store with the wish for the next lane. Unheard, it is offered again.
      may(`${id} ends ${claim.job.id} ${kind}`, (next) => Object.assign(own(next), { waiting: { claim: call(next, [{ ...guardOf(claim), end }], 1) } }), kind === "completed" ? undefined : "failures");
  }
  // What a pulse changes: it renews a lease, tells what was lost, and what nobody here knows of is given back.
  const held = [...(tables.owned.get(id) ?? [])].flatMap(({ running }) => (running?.held ? [running] : []));
  const lost = claim && !waiting && !held.some((job) => job.id === claim.job.id && job.held?.claimId === claim.claimId);
  const strangers = waiting ? [] : held.filter((job) => job.held?.claimId !== claim?.claimId);
  if (lapsed || lost || strangers.length > 0)
    may(`${id} pulses`, (next) => {
      pulse(next.tables, { nodeId: id, leaseMs, slots: 1, draining: false }, next.at);
      if (lost) own(next).claim = null;
      for (const { id: strangeId, chatId, attempt, held: by } of strangers)
        if (by) turn(next.tables, { nodeId: id, claimId: `c${next.made++}`, endings: [{ jobId: strangeId, chatId, attempt, fence: by.fence, claimId: by.claimId, end: ends.released }], want: 0, nodeLossesMax: lossesMax }, next.at);
    });
  if (!lapsed) may(`${id}'s lease ends`, (next) => endLeases(next.tables, { nodeId: id }, next.at), "leaseEnds");
  /** Its successor is another node. */
  const succeed = (next: State): void => {
    const successor = `n${2 + next.made++}`;
    Object.assign(own(next), { id: successor, claim: null, waiting: null });
    pulse(next.tables, { nodeId: successor, leaseMs, slots: 1, draining: false }, next.at);
  };
  if (holds > 0 || claim || waiting) {
    may(`${id} crashes`, (next) => {
      succeed(next);
      // The lease of the dead one ends when it ends.
      endLeases(next.tables, { nodeId: id }, next.at);
    }, "crashes");
    // Whatever it runs, or was on its way to it, goes back at once.
    may(`${id} leaves`, (next) => {
      succeed(next);
      leave(next.tables, { nodeId: id }, next.at);
    }, "crashes");
  }
  const others = [...tables.owned.keys()].some((owner) => owner !== id && (tables.nodes.get(owner)?.leaseUntil ?? 0) <= state.at);
  if (others) may(`${id} rescues`, (next) => void rescue(next.tables, { nodeId: id, nodeLossesMax: lossesMax, limit: 10 }, next.at));
}

/** From here on nothing goes wrong: whether a healthy node brings every job to its end. Changes the state. */
export function finishes(state: State): boolean {
  const { tables } = state;
  let { at } = state;
  for (const [chatId, left] of Object.entries(state.left))
    for (let n = 0; n < left; n++) accept(tables, [{ jobs: [newJob(`late${chatId}${n}`, chatId)], idempotency: null }], limits, ++at);
  for (const { id } of state.nodes) endLeases(tables, { nodeId: id }, at);
  for (let round = 0; round < 40 && tables.totals.pending + tables.totals.running > 0; round++) {
    at += delayMs;
    pulse(tables, { nodeId: "calm", leaseMs, slots: 1, draining: false }, at);
    rescue(tables, { nodeId: "calm", nodeLossesMax: lossesMax, limit: 10 }, at);
    const { claims } = turn(tables, { nodeId: "calm", claimId: `calm${round}`, endings: [], want: 1, nodeLossesMax: lossesMax }, at);
    turn(tables, { nodeId: "calm", claimId: `end${round}`, endings: claims.map((claim) => ({ ...guardOf(claim), end: ends.completed })), want: 0, nodeLossesMax: lossesMax }, ++at);
  }
  return tables.totals.pending + tables.totals.running === 0;
}
