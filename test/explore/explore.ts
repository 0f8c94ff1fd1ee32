/**
 * Every state that the small world can be in, breadth first. Two states are one when nothing that can still happen tells
 * them apart: times count by their order only, and a claim that the store refuses is like any other such claim. Each
 * step's outcome is checked before that, with its whole history.
 */
import { checkHistory } from "../../src/history/check.js";
import { createTables } from "../../src/store/memory/tables.js";
import type { Tables } from "../../src/store/memory/tables.js";
import { agingMs } from "../store/programs.js";
import { actionsOf, chats, finishes, firstState } from "./world.js";
import type { Budgets, State } from "./world.js";

export interface Explored {
  states: number;
  steps: number;
  /** Longest way to a state. */
  depth: number;
  /** States from which nothing can happen any more. */
  ends: number;
  /** The steps that lead to what is broken, and what that is. */
  broken: { steps: string[]; what: string[] } | null;
}

interface Way {
  step: string;
  before: Way | null;
}
const stepsOf = (way: Way | null): string[] => (way ? [...stepsOf(way.before), way.step] : []);

export function explore(jobsPerChat: Record<string, number>, budgets: Budgets, onProgress?: (explored: Explored) => void): Explored {
  const seen = new Set<string>();
  let front: { state: State; way: Way | null }[] = [{ state: firstState(createTables(), jobsPerChat, budgets), way: null }];
  const explored: Explored = { states: 0, steps: 0, depth: 0, ends: 0, broken: null };
  seen.add(nameOf((front[0] as { state: State }).state));
  while (front.length > 0) {
    const next: typeof front = [];
    for (const { state, way } of front) {
      explored.states++;
      const actions = actionsOf(state);
      if (actions.length === 0) explored.ends++;
      for (const action of actions) {
        explored.steps++;
        const after = action.take();
        const here: Way = { step: action.name, before: way };
        const what = wrong(after);
        if (what.length > 0) return { ...explored, broken: { steps: stepsOf(here), what } };
        const name = nameOf(after);
        if (seen.has(name)) continue;
        seen.add(name);
        next.push({ state: after, way: here });
      }
      // Last, for it uses the state up.
      if (!finishes(state)) return { ...explored, broken: { steps: stepsOf(way), what: ["From here not every job comes to its end."] } };
    }
    front = next;
    if (front.length > 0) explored.depth++;
    onProgress?.(explored);
  }
  return explored;
}

/** P1, P2, P4, P5 and numbers from the history; P6 and the tables' own consistency from the rows. */
function wrong({ tables }: State): string[] {
  const lanes = [...tables.lanes.values()];
  const rows = [...tables.jobs.values()].map(({ id, chatId, chatSeq, status, attempt, maxAttempts }) => ({ id, chatId, chatSeq, status, attempt, maxAttempts }));
  const checked = lanes.map(({ chatId, tail, eventTail, eventFloor, pending }) => ({ chatId, tail, eventTail, eventFloor, pending: pending.size }));
  const found = checkHistory(lanes.flatMap(({ events }) => events), rows, { agingMs, lanes: checked }).map(({ kind, message }) => `${kind}: ${message}`);
  for (const [nodeId, owned] of tables.owned) {
    // A node that lost an answer or its lease may hold in name what it does not run; running in fact is at most one.
    for (const lane of owned) if (lane.running?.held?.nodeId !== nodeId) found.push(`Node ${nodeId} holds chat ${lane.chatId} and does not run its head.`);
  }
  const running = rows.filter(({ status }) => status === "running").length;
  if (running !== tables.totals.running || running !== lanes.filter((lane) => lane.running).length) found.push("The running jobs, the running lanes and their count disagree.");
  return found;
}

/** What can still tell two states apart, as a text. The nodes are alike, so which is called first makes no difference. */
function nameOf(state: State): string {
  const [one, other] = [nameSeenFrom(state, state.nodes), nameSeenFrom(state, [state.nodes[1], state.nodes[0]])];
  return one < other ? one : other;
}

function nameSeenFrom({ tables, left, budgets, at }: State, nodes: State["nodes"]): string {
  // Where a lane stands in line; a rank that is not its lane's turn counts only when a cancel may make its job the head.
  const times = new Set<number>();
  for (const lane of tables.lanes.values()) {
    if (lane.state === "ready" || lane.state === "delayed") times.add(lane.turnAt);
    if (budgets.cancels > 0 && budgets.together > 0 && lane.pending.size > 0) for (const job of lane.pending) times.add(Math.max(job.rank, job.runAt, lane.settledAt ?? 0));
  }
  const order = new Map([...times].sort((a, b) => a - b).map((time, index) => [time, index]));
  const parts: unknown[] = [left["a"], left["b"], budgets.together === 0 ? 0 : Object.values(budgets)];
  for (const chatId of chats) {
    const lane = tables.lanes.get(chatId);
    parts.push(lane ? [lane.state, order.get(lane.turnAt), lane.state === "delayed" && lane.readyAt <= at] : 0);
    for (const job of tables.jobs.values()) {
      if (job.chatId !== chatId) continue;
      const open = job.status === "pending" || job.status === "running";
      const place = job.status === "pending" ? order.get(Math.max(job.rank, job.runAt, lane?.settledAt ?? 0)) : null;
      parts.push(open ? [job.status, job.spent, job.strikes, job.nodeLosses, place, job.runAt > at, job.cancelRequestedAt !== null, holderOf(job.held?.nodeId, nodes)] : job.status);
    }
  }
  const claimName = (claim: State["nodes"][0]["claim"]): unknown => claim && (isGood(tables, claim) ? claim.job.id : "stale");
  for (const node of nodes) parts.push((tables.nodes.get(node.id)?.leaseUntil ?? 0) > at, claimName(node.claim), node.waiting ? [claimName(node.waiting.claim)] : 0);
  return JSON.stringify(parts);
}

const isGood = (tables: Tables, claim: NonNullable<State["nodes"][0]["claim"]>): boolean => {
  const job = tables.jobs.get(claim.job.id);
  return job?.held?.claimId === claim.claimId && job.held.fence === claim.fence && job.attempt === claim.job.attempt;
};

/** Which of the living nodes holds it, or that a dead one does. */
const holderOf = (nodeId: string | undefined, nodes: State["nodes"]): number | null => (nodeId === undefined ? null : nodes.findIndex((node) => node.id === nodeId));
