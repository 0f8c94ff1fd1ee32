import fc from "fast-check";
import { createActor } from "xstate";
import type { AnyStateNode } from "xstate";
import { describe, expect, it } from "vitest";
import { jobMachine } from "../../machines/index.js";
import type { AttemptOutcome, JobEvent, RetryPolicy, Settlement } from "../../machines/job.machine.js";
import type { FailureCode } from "../../src/job.js";
import { createSimulatedClock } from "../../src/simulated-clock.js";
import type { Claim, Ending } from "../../src/store/store.js";

const policy: RetryPolicy = { retryBaseMs: 500, retryMaxMs: 30_000, killGraceMs: 2000, settleRetryMs: 250, watchMs: 2000 };
const timeoutMs = 10_000;

interface Plan {
  /** When the attempt ends by itself, and how; null: it never does. */
  ends: { afterMs: number; outcome: AttemptOutcome } | null;
  /** Whether it ends when it is told to. */
  obeys: boolean;
  signals: { atMs: number; type: "job.cancelRequested" | "job.givenBack" | "job.leaseLost" }[];
  /** How often the store is away before it answers. */
  away: number;
  refused: boolean;
  watched: boolean;
  /** Whether the lane is granted to this node again while it is watched. */
  claimedAgain: boolean;
  maxAttempts: number;
  spent: number;
  strikes: number;
  jitter: number;
}

const failure = (code: FailureCode, retryable: boolean): AttemptOutcome => ({ kind: "failed", failure: { code, message: code, retryable, diagnostics: [] }, error: code });
const built: AttemptOutcome = { kind: "built", result: "ok", sourceMap: null, warnings: [], externals: [] };

const claimOf = (plan: Plan, attempt: number): Claim => ({
  job: { id: "j", chatId: "c", messageId: "m", chatSeq: 1, code: "1", attempt, options: {}, priority: 0, maxAttempts: plan.maxAttempts, timeoutMs },
  spent: plan.spent, strikes: plan.strikes, fence: attempt, claimId: `claim${attempt}`, startedAt: new Date(0).toISOString(),
});

/** Runs the plan to the end; what was offered, which states were seen, and the final one. */
async function play(plan: Plan) {
  const clock = createSimulatedClock();
  const offers: Ending["end"][] = [];
  const seen = new Set<string>();
  let aborted = 0;
  let running = 0;
  let away = plan.away;
  let again = plan.claimedAgain;
  /** The attempt at work; it ends once, and nobody hears of it after it was left. */
  let attempt: { stop(): void; leave(): void } | null = null;
  function startAttempt(tell: (event: JobEvent) => void): void {
    let over = false;
    let left = false;
    running++;
    const end = (outcome: AttemptOutcome) => {
      if (over) return;
      over = true;
      running--;
      if (!left) tell({ type: "attempt.ended", outcome });
    };
    if (plan.ends) {
      const { afterMs, outcome } = plan.ends;
      clock.after(afterMs, () => end(outcome));
    }
    const outOfTime = clock.after(timeoutMs, () => !left && tell({ type: "attempt.outOfTime" }));
    const stop = () => {
      if (over) return;
      aborted++;
      if (plan.obeys) clock.after(5, () => end({ kind: "aborted" }));
    };
    const leave = () => {
      left = true;
      outOfTime.cancel();
      stop();
    };
    attempt = { stop, leave };
  }
  async function offerEnd(end: Ending["end"]): Promise<Settlement> {
    if (away-- > 0) throw new Error("database away");
    offers.push(end);
    if (plan.refused) return { kind: "notMine", jobId: "j", watched: false };
    const status = end.kind === "completed" ? "completed" : end.kind === "failed" ? "failed" : "pending";
    return { kind: "settled", jobId: "j", chatId: "c", status, runAt: null, quarantined: false, failureCode: "failure" in end ? end.failure.code : null, watched: plan.watched };
  }
  const actor = createActor(
    jobMachine.provide({
      actions: {
        // It runs alone here, without the chat that would hear it.
        sayBackingOff: () => {},
        startAttempt: ({ self }) => startAttempt((event) => self.send(event)),
        abortAttempt: () => attempt?.stop(),
        leaveAttempt: () => attempt?.leave(),
        offerEnd: ({ self }, { end }) => void offerEnd(end).then((settled) => self.send({ type: "end.settled", settled }), () => self.send({ type: "end.unheard" })),
      },
    }),
    { clock: clock.timers as never, input: { claim: claimOf(plan, 1), jitter: plan.jitter, policy } },
  );
  actor.subscribe((snapshot) => {
    seen.add(typeof snapshot.value === "string" ? snapshot.value : `running.${(snapshot.value as { running: string }).running}`);
    if (snapshot.matches("backingOff") && again) {
      again = false;
      clock.after(1, () => actor.send({ type: "job.claimed", claim: claimOf({ ...plan, spent: plan.spent + 1 }, 2), jitter: 0.5 }));
    }
  });
  for (const { atMs, type } of plan.signals) clock.after(atMs, () => actor.getSnapshot().status === "active" && actor.send({ type }));
  actor.start();
  for (let steps = 0; actor.getSnapshot().status === "active" && steps < 200; steps++) if (!(await clock.next())) break;
  return { final: actor.getSnapshot().value as string, status: actor.getSnapshot().status, offers, seen, aborted, running, elapsedMs: clock.monotonic() };
}

const outcomes = fc.constantFrom<AttemptOutcome>(
  built, { kind: "broken", message: "away" }, failure("build_failed", false), failure("import_refused", false), failure("worker_crashed", true), failure("out_of_memory", true), failure("output_too_large", false), failure("run_failed", true), failure("run_failed", false),
);
const plans: fc.Arbitrary<Plan> = fc.record({
  ends: fc.option(fc.record({ afterMs: fc.constantFrom(0, 1, 50, 9_999, 10_001, 20_000), outcome: outcomes }), { freq: 6 }),
  obeys: fc.boolean(),
  signals: fc.array(fc.record({ atMs: fc.constantFrom(0, 1, 40, 60, 10_000, 10_003, 11_000), type: fc.constantFrom("job.cancelRequested" as const, "job.givenBack" as const, "job.leaseLost" as const) }), { maxLength: 3 }),
  away: fc.integer({ min: 0, max: 3 }),
  refused: fc.boolean(),
  watched: fc.boolean(),
  claimedAgain: fc.boolean(),
  maxAttempts: fc.integer({ min: 1, max: 4 }),
  spent: fc.constantFrom(0, 1),
  strikes: fc.constantFrom(0, 1),
  jitter: fc.double({ min: 0, max: 0.999, noNaN: true }),
});

const calm: Plan = { ends: { afterMs: 10, outcome: built }, obeys: true, signals: [], away: 0, refused: false, watched: false, claimedAgain: false, maxAttempts: 3, spent: 0, strikes: 0, jitter: 0.5 };
const leaves = (node: AnyStateNode): string[] => (Object.keys(node.states).length > 0 ? Object.values(node.states).flatMap(leaves) : [node.path.join(".")]);

describe("the job machine", () => {
  it("ends in every world, within its time limits, offering legal ends only", async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const run = await play(plan);
        run.seen.forEach((state) => seen.add(state));
        expect(run.status).toBe("done");
        // Time limit, kill grace and the store's absences for two attempts, and the watch of one backoff.
        expect(run.elapsedMs).toBeLessThanOrEqual(2 * (timeoutMs + policy.killGraceMs) + 4 * policy.settleRetryMs + policy.retryMaxMs + policy.watchMs);
        for (const end of run.offers) {
          if (end.kind !== "retrying") continue;
          expect(end.failure.retryable).toBe(true);
          expect(end.delayMs).toBeGreaterThanOrEqual(0);
          expect(end.delayMs).toBeLessThanOrEqual(policy.retryMaxMs);
          expect(plan.spent + run.offers.length).toBeLessThan(plan.maxAttempts + 1);
        }
        // An end is offered once for each attempt, and an attempt that obeys leaves nothing running.
        expect(run.offers.length).toBeLessThanOrEqual(2);
        if (plan.obeys && !plan.signals.some(({ type }) => type === "job.leaseLost")) expect(run.running).toBe(0);
      }),
      { numRuns: 600, seed: 11 },
    );
    // `pending` and `judging` are left in the same step, so no snapshot shows them.
    expect([...seen].sort()).toEqual(leaves(jobMachine.root).filter((state) => !["pending", "judging"].includes(state)).sort());
  });

  it.each([
    ["build_failed", false, 0, "failed"],
    ["import_refused", false, 0, "failed"],
    ["output_too_large", false, 0, "failed"],
    ["worker_crashed", true, 0, "retrying"],
    ["out_of_memory", true, 0, "retrying"],
    ["out_of_memory", true, 1, "failed"],
    ["run_failed", true, 0, "retrying"],
    ["run_failed", false, 0, "failed"],
  ] as const)("answers %s (retryable %s, %i strikes) by %s", async (code, retryable, strikes, kind) => {
    const { offers } = await play({ ...calm, strikes, ends: { afterMs: 1, outcome: failure(code, retryable) } });
    expect(offers.map((end) => end.kind)).toEqual([kind]);
  });

  it("tries again no more than maxAttempts times", async () => {
    const crash = { afterMs: 1, outcome: failure("worker_crashed", true) };
    expect((await play({ ...calm, spent: 1, ends: crash })).offers[0]?.kind).toBe("retrying");
    expect((await play({ ...calm, spent: 2, ends: crash })).offers[0]?.kind).toBe("failed");
  });

  it("stops an attempt at its time limit, tries once more, and then fails as timed_out", async () => {
    const endless = { ...calm, ends: null };
    const first = await play(endless);
    expect(first.offers).toMatchObject([{ kind: "retrying", failure: { code: "timed_out" } }]);
    expect(first.aborted).toBe(1);
    expect((await play({ ...endless, strikes: 1 })).offers).toMatchObject([{ kind: "failed", failure: { code: "timed_out" } }]);
  });

  it("counts an attempt that was stopped at its limit as timed out, even if it ends well while it is stopped", async () => {
    const { offers } = await play({ ...calm, obeys: false, ends: { afterMs: timeoutMs + 100, outcome: built } });
    expect(offers).toMatchObject([{ kind: "retrying", failure: { code: "timed_out" } }]);
  });

  it("does not wait for ever for a run that ignores its signal", async () => {
    const { final, elapsedMs } = await play({ ...calm, obeys: false, ends: null, maxAttempts: 1 });
    expect(final).toBe("failed");
    expect(elapsedMs).toBe(timeoutMs + policy.killGraceMs);
  });

  it("ends as cancelled when a person wants it, and it costs no dead letter", async () => {
    const { final, offers, aborted } = await play({ ...calm, ends: null, signals: [{ atMs: 40, type: "job.cancelRequested" }] });
    expect([final, aborted]).toEqual(["failed", 1]);
    expect(offers).toMatchObject([{ kind: "failed", failure: { code: "cancelled" } }]);
  });

  it("gives its attempt back when the node stops", async () => {
    const { final, offers } = await play({ ...calm, ends: null, signals: [{ atMs: 40, type: "job.givenBack" }] });
    expect([final, offers]).toEqual(["released", [{ kind: "released" }]]);
  });

  it("writes nothing once the lease is lost, and stops its attempt", async () => {
    const { final, offers, aborted } = await play({ ...calm, ends: null, signals: [{ atMs: 40, type: "job.leaseLost" }] });
    expect([final, offers, aborted]).toEqual(["lost", [], 1]);
  });

  it("keeps its outcome while the database is away", async () => {
    const { final, offers } = await play({ ...calm, away: 3 });
    expect([final, offers.length]).toEqual(["completed", 1]);
  });

  it("treats a refused outcome as somebody else's lane", async () => {
    expect((await play({ ...calm, refused: true })).final).toBe("lost");
  });

  it("is watched while it backs off, and goes on when this node gets its lane again", async () => {
    const { final, seen, offers } = await play({ ...calm, ends: { afterMs: 1, outcome: failure("worker_crashed", true) }, watched: true, claimedAgain: true, maxAttempts: 2 });
    expect(seen).toContain("backingOff");
    expect([final, offers.map((end) => end.kind)]).toEqual(["failed", ["retrying", "failed"]]);
  });
});
