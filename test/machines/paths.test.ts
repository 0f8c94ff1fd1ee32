/** The three charts from end to end: every state is reached, every transition taken, and none that P4 forbids exists. */
import { assign, fromCallback } from "xstate";
import type { AnyMachineSnapshot, AnyStateMachine, AnyStateNode, EventObject } from "xstate";
import { beforeAll, describe, expect, it } from "vitest";
import { chatMachine, jobMachine, supervisorMachine } from "../../machines/index.js";
import type { Grant } from "../../machines/chat.machine.js";
import type { AttemptOutcome, JobInput, RetryPolicy, Settlement } from "../../machines/job.machine.js";
import type { FailureCode } from "../../src/job.js";
import type { Claim } from "../../src/store/store.js";
import { explore, transitionsOf } from "./explore.js";
import type { Explored } from "./explore.js";

const policy: RetryPolicy = { retryBaseMs: 500, retryMaxMs: 30_000, killGraceMs: 2000, settleRetryMs: 250, watchMs: 2000 };
const nothing = () => {};

function claimOf(jobId: string, fence: number, { spent = 0, strikes = 0, maxAttempts = 3, chatId = "c", isAhead = false } = {}): Claim {
  return {
    job: { id: jobId, chatId, messageId: "m", chatSeq: 1, code: "1", attempt: fence, options: {}, priority: 0, maxAttempts, timeoutMs: 1000 },
    spent, strikes, fence, claimId: `claim${fence}`, startedAt: isAhead ? null : new Date(0).toISOString(),
  };
}
const leaves = (node: AnyStateNode): AnyStateNode[] => (Object.keys(node.states).length > 0 ? Object.values(node.states).flatMap(leaves) : [node]);
/** Left in the same step in which they are entered, so that no snapshot shows them. */
const passing = (machine: AnyStateMachine): string[] => leaves(machine.root).filter((node) => (node.always ?? []).some(({ guard }) => !guard)).map(({ id }) => id);
const activeLeaves = (snapshot: AnyMachineSnapshot): string[] => snapshot._nodes.filter((node) => Object.keys(node.states).length === 0).map(({ id }) => id);

const failure = (code: FailureCode, retryable: boolean): AttemptOutcome => ({ kind: "failed", failure: { code, message: code, retryable, diagnostics: [] }, error: code });
const settled = (status: "completed" | "failed" | "pending", watched = false): Settlement => ({ kind: "settled", jobId: "j", chatId: "c", status, runAt: null, quarantined: false, failureCode: null, watched });
const jobInput = (claim: Claim): JobInput => ({ claim, jitter: 0.5, policy });

const charts: { machine: AnyStateMachine; inputs: unknown[]; events: EventObject[]; key(snapshot: AnyMachineSnapshot): unknown }[] = [
  {
    machine: jobMachine.provide({ actions: { startAttempt: nothing, abortAttempt: nothing, leaveAttempt: nothing, offerEnd: nothing, letGo: nothing, returnClaim: nothing, sayBackingOff: nothing } }),
    inputs: [jobInput(claimOf("j", 1)), jobInput(claimOf("j", 1, { isAhead: true })), jobInput(claimOf("j", 1, { strikes: 1 })), jobInput(claimOf("j", 1, { spent: 2 }))],
    events: [
      ...[failure("build_failed", false), failure("worker_crashed", true), failure("out_of_memory", true), { kind: "built", result: "", sourceMap: null, warnings: [], externals: [] }, { kind: "aborted" }, { kind: "broken", message: "b" }].map((outcome) => ({ type: "attempt.ended", outcome })),
      ...["attempt.began", "attempt.outOfTime", "job.cancelRequested", "job.recalled", "job.givenBack", "job.leaseLost", "end.unheard"].map((type) => ({ type })),
      ...[{ kind: "notMine", jobId: "j", watched: false }, settled("completed"), settled("failed"), settled("pending"), settled("pending", true)].map((one) => ({ type: "end.settled", settled: one })),
      { type: "job.claimed", claim: claimOf("j", 2), jitter: 0.1 } as EventObject,
      ...["xstate.after.killGrace.job.running.stopping", "xstate.after.settleRetry.job.awaitingDatabase", "xstate.after.watchTime.job.backingOff"].map((type) => ({ type })),
    ],
    key: ({ value, context }) => [value, context.stopping, context.outcome?.kind, context.outcome?.failure?.code, context.end?.kind, context.end?.failure?.code, context.claim.fence, context.claim.startedAt],
  },
  {
    machine: chatMachine.provide({ actors: { job: fromCallback(nothing) as never }, actions: { abandonHead: nothing, returnNext: nothing, letGoNext: nothing } }),
    inputs: [{ chatId: "c", ...grantOf("j1", 1), policy }],
    events: [
      { type: "chat.granted", ...grantOf("j1", 2) } as EventObject,
      { type: "chat.granted", ...grantOf("j2", 3) } as EventObject,
      ...["job.backingOff", "chat.recalled", "chat.givenBack", "chat.leaseLost"].map((type) => ({ type })),
      { type: "chat.cancelRequested", jobId: "j1" } as EventObject,
      { type: "chat.cancelRequested", jobId: "somebody else's" } as EventObject,
      { type: "xstate.done.actor.head", output: undefined, actorId: "head" } as EventObject,
      { type: "xstate.error.actor.head", error: new Error("crash"), actorId: "head" } as EventObject,
    ],
    key: ({ value, context }) => [value, context.claim.fence, context.next?.claim.fence],
  },
  {
    // The ledger's own arithmetic without actors: those are in supervisor.test.ts.
    machine: supervisorMachine.provide({
      actions: {
        takeTurn: nothing, returnClaims: nothing, abandonChat: nothing, retireIdleChats: nothing as never, dropCrashedChat: nothing as never, tellCancel: nothing as never, recallAllLanes: nothing as never, recallLane: nothing as never, giveBackLane: nothing as never, giveBackAllLanes: nothing as never,
        grantLanes: assign(({ context }, { grants }: { grants: Grant[] }) => ({ held: new Map([...context.held, ...grants.map(({ claim }) => [claim.job.chatId, claim.fence] as const)]) })) as never,
        loseLane: assign(({ context }, { chatId }: { chatId: string }) => ({ held: new Map([...context.held].filter(([held]) => held !== chatId)) })) as never,
        loseAllLanes: assign({ held: new Map() }) as never,
      },
    }) as AnyStateMachine,
    inputs: [{ slots: 2, policy, drainMs: 1000, giveBackMs: 1000, idleMax: 5 }],
    events: [
      ...["lanes.ready", "lanes.recalled", "queue.paused", "queue.resumed", "lease.lost", "lease.renewed", "node.drained", "xstate.after.drainTime.supervisor.draining", "xstate.after.giveBackTime.supervisor.givingBack"].map((type) => ({ type })),
      { type: "turn.taken", ended: [], grants: [grantOf("j1", 1, "a"), grantOf("j2", 1, "b")] } as EventObject,
      { type: "turn.taken", ended: [{ chatId: "a", fence: 1 }, { chatId: "b", fence: 1 }], grants: [] } as EventObject,
      { type: "turn.taken", ended: [{ chatId: "a", fence: 1 }], grants: [grantOf("j1", 2, "a")] } as EventObject,
      { type: "job.cancelRequested", chatId: "a", jobId: "j1" } as EventObject,
      { type: "lane.recalled", chatId: "a" } as EventObject,
      { type: "lane.refused", chatId: "a" } as EventObject,
      { type: "lane.lost", chatId: "a" } as EventObject,
      { type: "xstate.error.actor.a", actorId: "a", error: new Error("crash") } as EventObject,
    ],
    key: ({ value, context }) => [value, [...context.held]],
  },
];

function grantOf(jobId: string, fence: number, chatId = "c"): Grant {
  return { claim: claimOf(jobId, fence, { chatId }), jitter: 0.5 };
}

const known = new Map<string, Explored>();
const exploredOnce = (chart: (typeof charts)[number]): Explored => {
  const found = known.get(chart.machine.id) ?? explore(chart.machine, chart);
  known.set(chart.machine.id, found);
  return found;
};

describe.each(charts.map((chart) => [chart.machine.id, chart] as const))("the paths of the %s machine", (_, chart) => {
  const { machine, ...world } = chart;
  let explored: Explored;
  beforeAll(() => void (explored = exploredOnce(chart)));

  it("reach every state", () => {
    const seen = new Set([...explored.states.values()].flatMap(activeLeaves));
    expect([...seen, ...passing(machine)].sort()).toEqual(leaves(machine.root).map(({ id }) => id).sort());
  });

  it("take every transition", () => {
    expect(transitionsOf(machine).length).toBeGreaterThan(10);
    expect(explored.missed).toEqual([]);
  });

  it("never leave a final state, and reach one from everywhere if there is any", () => {
    const key = (snapshot: AnyMachineSnapshot) => JSON.stringify(world.key(snapshot));
    expect(explored.edges.filter(({ from }) => from.status === "done")).toEqual([]);
    if (![...explored.states.values()].some(({ status }) => status === "done")) return;
    // Backwards from the final states, edge by edge.
    const ends = new Set([...explored.states].filter(([, { status }]) => status === "done").map(([name]) => name));
    for (let grew = true; grew; ) {
      grew = false;
      for (const { from, to } of explored.edges) {
        if (!ends.has(key(to)) || ends.has(key(from))) continue;
        ends.add(key(from));
        grew = true;
      }
    }
    expect([...explored.states.keys()].filter((name) => !ends.has(name))).toEqual([]);
  });

  it("survive every event in every state", () => {
    expect([...explored.states.values()].filter(({ status }) => status === "error")).toEqual([]);
  });
});

describe("what P4 says of a job", () => {
  const [chart] = charts as [(typeof charts)[number]];
  /** The status that a state stands for; `lost` is somebody else's. */
  const statusOf = (snapshot: AnyMachineSnapshot): string =>
    snapshot.value === "completed" || snapshot.value === "failed" || snapshot.value === "lost" ? (snapshot.value as string) : snapshot.hasTag("holdsSlot") ? "running" : "pending";

  it("holds on every path: only legal changes of status, and an end that the store confirmed", () => {
    const legal = ["pending pending", "pending lost", "pending running", "running running", "running pending", "running completed", "running failed", "running lost"];
    const { edges } = exploredOnce(chart);
    const seen = new Set(edges.map(({ from, to }) => `${statusOf(from)} ${statusOf(to)}`));
    expect([...seen].sort()).toEqual([...legal].sort());
    for (const { event, to } of edges.filter((edge) => ["completed", "failed"].includes(statusOf(edge.to)))) {
      expect(event).toMatchObject({ type: "end.settled", settled: { kind: "settled", status: statusOf(to) } });
    }
  });
});
