/**
 * Supervisor, chats and jobs together, as `fillMachines` joins them, in a small world of their own: lanes with jobs, a
 * store that answers turns, runs that take their time, and things that go wrong.
 */
import fc from "fast-check";
import { SimulatedClock, createActor } from "xstate";
import type { ActorRefFrom } from "xstate";
import { describe, expect, it } from "vitest";
import type { Ended, SupervisorEvent } from "../../machines/supervisor.machine.js";
import type { Grant, chatMachine } from "../../machines/chat.machine.js";
import type { JobEvent, RetryPolicy, Settlement } from "../../machines/job.machine.js";
import { fillMachines } from "../../src/effects.js";
import { seededRandom } from "../../src/simulated-clock.js";
import type { Claim, Ending } from "../../src/store/store.js";

const policy: RetryPolicy = { retryBaseMs: 40, retryMaxMs: 100, killGraceMs: 50, settleRetryMs: 10, watchMs: 20 };

interface Job {
  id: string;
  chatId: string;
  runMs: number;
  /** What goes wrong with its first attempt. */
  trouble: "none" | "fails" | "headCrashes" | "chatCrashes" | "runCrashes";
}
interface Plan {
  slots: number;
  /** Lanes that a turn brings beyond free slots. */
  ahead: number;
  jobs: { chat: number; runMs: number; trouble: Job["trouble"] }[];
  signals: { atMs: number; what: "pause" | "resume" | "cancel" | "loseLease" | "loseLane" | "recall" }[];
  drainAtMs: number | null;
}

/** Idle chat actors that are kept. */
const idleMax = 2;

interface Lane {
  chatId: string;
  waiting: { job: Job; attempt: number; notBefore: number; spent: number }[];
  held: { job: Job; claim: Claim; cancelled: boolean } | null;
  fence: number;
}

function play(plan: Plan) {
  // No promise in this world: a whole run is one synchronous step after another.
  const time = new SimulatedClock();
  const clock = { now: () => time.now(), after: (delayMs: number, callback: () => void) => time.setTimeout(callback, delayMs), random: seededRandom(1) };
  const lanes = new Map<string, Lane>();
  const starts: { chatId: string; jobId: string; fence: number }[] = [];
  const ends: Record<string, string[]> = {};
  const running = new Map<string, Claim>();
  const problems: string[] = [];
  const startedFences = new Set<string>();
  const attempts = new Map<string, { end(kind: "built" | "failed" | "broken" | "aborted"): void; leave(): void }>();
  let abandons = 0;
  let leaseless = false;
  let paused = false;
  let most = 0;
  let returned = 0;

  for (const [index, { chat, runMs, trouble }] of plan.jobs.entries()) {
    const chatId = `c${chat}`;
    const lane = lanes.get(chatId) ?? { chatId, waiting: [], held: null, fence: 0 };
    lanes.set(chatId, lane);
    lane.waiting.push({ job: { id: `j${index}`, chatId, runMs, trouble }, attempt: 0, notBefore: 0, spent: 0 });
  }

  // The store: one turn in flight, endings and the wish for lanes together.
  let offers: { claim: Claim; end: Ending["end"]; tell: ((event: JobEvent) => void) | null }[] = [];
  let asked = false;
  let flying = false;
  let promised = 0;
  function turn(): void {
    if (flying || (!asked && offers.length === 0)) return;
    flying = true;
    asked = false;
    const batch = offers;
    offers = [];
    const snapshot = supervisor.getSnapshot();
    const mayClaim = snapshot.status === "active" && snapshot.hasTag("claiming");
    const left = snapshot.context.held.size - batch.length;
    const want = mayClaim ? Math.max(0, plan.slots - left) : 0;
    const ahead = mayClaim ? Math.max(0, plan.slots + plan.ahead - left - want) : 0;
    promised = want;
    clock.after(1, () => {
      const answers = batch.map(({ claim, end }) => settle(claim, end));
      const grants = paused || leaseless ? [] : claimUpTo(want, ahead);
      const ended: Ended[] = batch.map(({ claim }) => ({ chatId: claim.job.chatId, fence: claim.fence }));
      if (supervisor.getSnapshot().status === "active") tell({ type: "turn.taken", ended, grants });
      else giveBack(grants);
      batch.forEach(({ tell: hear }, index) => hear?.({ type: "end.settled", settled: answers[index] as Settlement }));
      flying = false;
      promised = 0;
      admit();
      if ([...lanes.values()].some(({ held, waiting }) => !held && waiting[0] && waiting[0].notBefore <= clock.now())) tell({ type: "lanes.ready" });
      turn();
    });
  }
  function settle({ job, fence }: Claim, end: Ending["end"]): Settlement {
    const lane = lanes.get(job.chatId) as Lane;
    if (lane.held?.claim.fence !== fence) return { kind: "notMine", jobId: job.id, watched: false };
    const { job: held, claim, cancelled } = lane.held;
    lane.held = null;
    if (end.kind === "returned") {
      if (begun.has(claim.claimId)) problems.push(`${claim.claimId} was returned as if it had not begun`);
      lane.waiting.unshift({ job: held, attempt: job.attempt - 1, notBefore: 0, spent: claim.spent });
      return { kind: "notMine", jobId: held.id, watched: false };
    }
    const status = cancelled || end.kind === "failed" ? "failed" : end.kind === "completed" ? "completed" : "pending";
    const delayMs = end.kind === "retrying" ? end.delayMs : 0;
    if (status === "pending") lane.waiting.unshift({ job: held, attempt: job.attempt, notBefore: clock.now() + delayMs, spent: claim.spent + (end.kind === "retrying" ? 1 : 0) });
    else (ends[held.id] ??= []).push(status);
    return { kind: "settled", jobId: job.id, chatId: job.chatId, status, runAt: null, quarantined: false, failureCode: null, watched: end.kind === "retrying" };
  }
  function claimUpTo(want: number, ahead: number): Grant[] {
    const grants: Grant[] = [];
    for (const lane of lanes.values()) {
      const head = lane.waiting[0];
      if (grants.length >= want + ahead || lane.held || !head || head.notBefore > clock.now()) continue;
      lane.waiting.shift();
      const attempt = head.attempt + 1;
      const claim: Claim = {
        job: { id: head.job.id, chatId: lane.chatId, messageId: "m", chatSeq: 1, code: "1", attempt, options: {}, priority: 0, maxAttempts: 4, timeoutMs: 1000 },
        spent: head.spent, strikes: 0, fence: ++lane.fence, claimId: `${lane.chatId}/${lane.fence}`, startedAt: grants.length < want ? new Date(0).toISOString() : null,
      };
      lane.held = { job: head.job, claim, cancelled: false };
      grants.push({ claim, jitter: clock.random() });
    }
    return grants;
  }
  const giveBack = (grants: Grant[]) => {
    returned += grants.length;
    for (const { claim } of grants) settle(claim, unbegun(claim));
  };
  const unbegun = (claim: Claim): Ending["end"] => ({ kind: claim.startedAt === null && !begun.has(claim.claimId) ? "returned" : "released" });
  const offerRelease = (claim: Claim) => {
    offers.push({ claim, end: unbegun(claim), tell: null });
    turn();
  };
  /** Those taken ahead, until a slot is theirs. */
  const begun = new Set<string>();
  let inHand: { claim: Claim; begin(): void }[] = [];
  function admit(): void {
    clock.after(0, () => {
      // What was claimed for a slot, and waits for its actor, has that slot.
      const owed = [...lanes.values()].filter(({ held }) => held && held.claim.startedAt !== null && !startedFences.has(held.claim.claimId)).length;
      if (running.size + owed + promised >= plan.slots || inHand.length === 0) return;
      inHand.shift()?.begin();
      admit();
    });
  }

  function begin(claim: Claim, trouble: Job["trouble"] | undefined, hear: (event: JobEvent) => void): void {
    const { chatId } = claim.job;
    if (startedFences.has(claim.claimId)) problems.push(`${claim.claimId} was started twice`);
    startedFences.add(claim.claimId);
    if (running.has(chatId)) problems.push(`${claim.job.id} starts while ${running.get(chatId)?.job.id} runs`);
    starts.push({ chatId, jobId: claim.job.id, fence: claim.fence });
    running.set(chatId, claim);
    most = Math.max(most, running.size);
    let heard = true;
    const end = (kind: "built" | "failed" | "broken" | "aborted") => {
      if (running.get(chatId) !== claim) return;
      running.delete(chatId);
      admit();
      if (!heard) return;
      const outcome =
        kind === "built" ? { kind, result: "", sourceMap: null, warnings: [], externals: [] }
        : kind === "failed" ? { kind, failure: { code: "build_failed" as const, message: "no", retryable: false, diagnostics: [] }, error: "no" }
        : kind === "broken" ? { kind, message: "broken" } : { kind };
      hear({ type: "attempt.ended", outcome });
    };
    attempts.set(claim.claimId, {
      end,
      leave() {
        heard = false;
        end("aborted");
      },
    });
    clock.after(lanes.get(chatId)?.held?.job.runMs ?? 1, () => end(trouble === "fails" ? "failed" : trouble === "runCrashes" ? "broken" : "built"));
  }

  const supervisor = createActor(
    fillMachines({
      startAttempt(claim, hear) {
        const trouble = claim.job.attempt === 1 ? lanes.get(claim.job.chatId)?.held?.job.trouble : "none";
        if (trouble === "headCrashes" || trouble === "chatCrashes") {
          startedFences.add(claim.claimId);
          starts.push({ chatId: claim.job.chatId, jobId: claim.job.id, fence: claim.fence });
          throw new Error(trouble);
        }
        if (claim.startedAt !== null) return begin(claim, trouble, hear);
        inHand.push({
          claim,
          begin() {
            begun.add(claim.claimId);
            begin(claim, trouble, hear);
            hear({ type: "attempt.began" });
          },
        });
        admit();
      },
      abortAttempt: (claim) => void clock.after(1, () => attempts.get(claim.claimId)?.end("aborted")),
      leaveAttempt(claim) {
        inHand = inHand.filter((one) => one.claim !== claim);
        attempts.get(claim.claimId)?.leave();
      },
      offerEnd(claim, end, hear) {
        offers.push({ claim, end, tell: hear });
        turn();
      },
      letGo: nothing,
      letGoNext: nothing,
      returnClaim(claim) {
        inHand = inHand.filter((one) => one.claim !== claim);
        offerRelease(claim);
      },
      takeTurn() {
        asked = true;
        turn();
      },
      returnClaims: giveBack,
      returnNext: offerRelease,
      abandonHead(claim) {
        abandons++;
        if (claim.job.attempt === 1 && lanes.get(claim.job.chatId)?.held?.job.trouble === "chatCrashes") throw new Error("the chat itself crashes");
        offerRelease(claim);
      },
      abandonChat(chatId) {
        abandons++;
        const held = lanes.get(chatId)?.held;
        if (held) offerRelease(held.claim);
      },
    }),
    { clock: time, input: { slots: plan.slots, policy, drainMs: 200, giveBackMs: 100, idleMax } },
  );
  const tell = (event: SupervisorEvent) => supervisor.getSnapshot().status === "active" && supervisor.send(event);
  let crashed: unknown = null;
  let mostChats = 0;
  supervisor.subscribe({
    next: (snapshot) => {
      const { held, berths } = snapshot.context;
      const taken = held.size;
      mostChats = Math.max(mostChats, berths.size);
      // Each chat's actor is found by its chat, and there is no other.
      const living = Object.entries(snapshot.children).map(([berth, chat]) => [(chat as ActorRefFrom<typeof chatMachine>).getSnapshot().context.chatId, berth]);
      if (JSON.stringify(living.sort()) !== JSON.stringify([...berths].sort())) problems.push(`${JSON.stringify(living)} live, known are ${JSON.stringify([...berths])}`);
      const highest = Math.max(0, ...[...berths.values()].map(Number));
      if (highest >= mostChats + plan.slots + plan.ahead) problems.push(`number ${highest} is not the smallest that was free`);
      if (taken > plan.slots + plan.ahead) problems.push(`the ledger has ${taken} of ${plan.slots} slots`);
    },
    error: (error) => void (crashed = error),
  });
  supervisor.start();
  // The node's pulse: hints may be lost, this is not.
  const pulse = () => void clock.after(10, () => (tell({ type: "lanes.ready" }), pulse()));
  pulse();

  for (const { atMs, what } of plan.signals) {
    clock.after(atMs, () => {
      const [held] = [...lanes.values()].flatMap((lane) => (lane.held ? [lane.held] : []));
      if (what === "pause" && !leaseless) {
        paused = true;
        tell({ type: "queue.paused" });
      } else if (what === "resume") {
        paused = false;
        tell({ type: "queue.resumed" });
      } else if (what === "recall") tell({ type: "lanes.recalled" });
      else if (what === "cancel" && held) {
        held.cancelled = true;
        tell({ type: "job.cancelRequested", chatId: held.job.chatId, jobId: held.job.id });
      } else if (what === "loseLane" && held) {
        // Another node had it meanwhile, and gave it back.
        settle(held.claim, { kind: "released" });
        tell({ type: "lane.lost", chatId: held.job.chatId });
        if (running.has(held.job.chatId)) problems.push(`${held.job.id} runs on after its lane was lost`);
      } else if (what === "loseLease" && !leaseless) {
        leaseless = true;
        tell({ type: "lease.lost" });
        if (running.size > 0) problems.push(`${running.size} builds run without a lease`);
        for (const lane of lanes.values()) if (lane.held) settle(lane.held.claim, { kind: "released" });
        clock.after(30, () => {
          leaseless = false;
          tell({ type: "lease.renewed" });
          if (paused) tell({ type: "queue.paused" });
        });
      }
    });
  }
  const lastSignal = Math.max(0, ...plan.signals.map(({ atMs }) => atMs)) + 100;
  clock.after(lastSignal, () => {
    paused = false;
    tell({ type: "queue.resumed" });
  });
  const isDone = () => plan.jobs.every((_, index) => ends[`j${index}`]);
  if (plan.drainAtMs !== null) clock.after(plan.drainAtMs, () => tell({ type: "node.drained" }));
  for (let ms = 0; ms < 10_000 && crashed === null; ms++) {
    if (plan.drainAtMs === null ? isDone() && offers.length === 0 && !flying : supervisor.getSnapshot().status === "done" && !flying) break;
    time.increment(1);
  }
  const atEnd = { status: supervisor.getSnapshot().status, held: [...supervisor.getSnapshot().context.held.keys()], chats: Object.keys(supervisor.getSnapshot().children).length };
  supervisor.stop();
  return { starts, ends, problems, crashed, most, mostChats, abandons, returned, atEnd, running: running.size, lanes, isDone: isDone() };
}
const nothing = () => {};

const troubles = fc.constantFrom<Job["trouble"]>("none", "none", "none", "none", "fails", "headCrashes", "chatCrashes", "runCrashes");
const plans = (more: Partial<Record<keyof Plan, fc.Arbitrary<unknown>>> = {}): fc.Arbitrary<Plan> =>
  fc.record({
    slots: fc.integer({ min: 1, max: 4 }),
    ahead: fc.constantFrom(0, 0, 1, 5),
    jobs: fc.array(fc.record({ chat: fc.nat(9), runMs: fc.constantFrom(0, 1, 1, 7, 40), trouble: troubles }), { minLength: 1, maxLength: 40 }),
    signals: fc.array(fc.record({ atMs: fc.integer({ min: 0, max: 150 }), what: fc.constantFrom("pause", "resume", "cancel", "loseLease", "loseLane", "recall") }), { maxLength: 6 }),
    drainAtMs: fc.constant(null),
    ...more,
  }) as fc.Arbitrary<Plan>;

/** The chats' jobs in the order of their first starts. */
const firstStarts = (starts: { chatId: string; jobId: string }[]): Record<string, string[]> => {
  const found: Record<string, string[]> = {};
  for (const { chatId, jobId } of starts) if (!found[chatId]?.includes(jobId)) (found[chatId] ??= []).push(jobId);
  return found;
};

describe("supervisor, chats and jobs together", () => {
  it("end every job once, in order, within the slots, whatever crashes, is cancelled, paused or lost", () => {
    let [abandoned, cancelled] = [0, 0];
    fc.assert(
      fc.property(plans(), (plan) => {
        const run = play(plan);
        expect([run.crashed, run.problems]).toEqual([null, []]);
        expect(run.isDone).toBe(true);
        for (const outcomes of Object.values(run.ends)) expect(outcomes).toHaveLength(1);
        expect(run.most).toBeLessThanOrEqual(plan.slots);
        expect([run.running, run.atEnd.held]).toEqual([0, []]);
        for (const [chatId, order] of Object.entries(firstStarts(run.starts))) {
          expect(order).toEqual(plan.jobs.flatMap(({ chat }, index) => (`c${chat}` === chatId ? [`j${index}`] : [])));
        }
        abandoned += run.abandons;
        cancelled += Object.values(run.ends).flat().filter((status) => status === "failed").length;
      }),
      { numRuns: 200, seed: 5 },
    );
    expect(abandoned).toBeGreaterThan(100);
    expect(cancelled).toBeGreaterThan(100);
  }, 120_000);

  it("lose no grant to the retirement of idle chats, and keep few of them", () => {
    const many: Plan = { slots: 3, ahead: 0, jobs: Array.from({ length: 600 }, (_, index) => ({ chat: (index * 7) % 120, runMs: index % 3, trouble: "none" as const })), signals: [], drainAtMs: null };
    const run = play(many);
    expect([run.crashed, run.problems, run.isDone]).toEqual([null, [], true]);
    // Those just granted live beside them until the next look.
    expect(run.mostChats).toBeLessThanOrEqual(idleMax + 3 + 3);
    expect(run.most).toBe(3);
  });

  it("stop at a drain: what runs is finished or given back in time, and nothing new is started", () => {
    let [gaveBack, late] = [0, 0];
    fc.assert(
      fc.property(plans({ drainAtMs: fc.integer({ min: 0, max: 80 }), signals: fc.constant([]), jobs: fc.array(fc.record({ chat: fc.nat(9), runMs: fc.constantFrom(1, 20, 100, 5000), trouble: troubles }), { minLength: 1, maxLength: 30 }) }), (plan) => {
        const run = play(plan);
        expect([run.crashed, run.problems]).toEqual([null, []]);
        expect(run.atEnd).toEqual({ status: "done", held: [], chats: expect.any(Number) });
        expect(run.running).toBe(0);
        // Every lane is free, and every job is done or waits in its old place.
        for (const lane of run.lanes.values()) {
          expect(lane.held).toBeNull();
          const own = plan.jobs.flatMap(({ chat }, index) => (`c${chat}` === lane.chatId ? [`j${index}`] : []));
          expect([...own.filter((id) => run.ends[id]), ...lane.waiting.map(({ job }) => job.id)]).toEqual(own);
          if (lane.waiting.some(({ attempt }) => attempt > 0)) gaveBack++;
        }
        late += run.returned;
      }),
      { numRuns: 150, seed: 6 },
    );
    expect(gaveBack).toBeGreaterThan(20);
    expect(late).toBeGreaterThan(0);
  });
});
