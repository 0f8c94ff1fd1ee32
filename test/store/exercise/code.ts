/** What is known of code by its hash: quarantine, and outcomes that another job of the same code has had. */
import { expect } from "vitest";
import type { Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ends, iso, scope, agingMs } from "./lab.js";
import type { Lab } from "./lab.js";

const stamp = "stamp";
const made = { ...ends.completed, origin: { stamp, from: null } };
const question = (jobId: string, extra = {}) => ({ codeHash: "same", stamp, ageMs: 1000, jobId, ...extra });

/** Accepts a job of the same code and ends it; its id. */
async function build(lab: Lab, ms: number, chat: string, end: Parameters<Lab["end"]>[2] = made): Promise<string> {
  const [job] = await lab.accept(ms, [chat, { codeHash: "same" }]);
  await lab.end(ms + 2, await lab.takeOne(ms + 1), end);
  return job?.id as string;
}

export const code: Exercise = (check) => {
  check("code that crashed twice is listed as quarantined, newest first, until it is lifted; then it runs again", async (lab) => {
    for (const [index, hash] of ["old", "new"].entries()) {
      const [job] = await lab.accept(index * 100, [`c${index}`, { codeHash: hash }]);
      await lab.end(index * 100 + 2, await lab.takeOne(index * 100 + 1), ends.crashed);
      await lab.end(index * 100 + 9000, await lab.takeOne(index * 100 + 8999), ends.crashed);
      expect(await lab.job(job?.id as string)).toMatchObject({ status: "failed", failure: { quarantined: true } });
    }
    expect(await lab.store.quarantined(10)).toEqual([
      { codeHash: "new", cause: "worker_crashed", crashes: 2, quarantinedAt: iso(9100) },
      { codeHash: "old", cause: "worker_crashed", crashes: 2, quarantinedAt: iso(9000) },
    ]);
    expect(await lab.store.quarantined(1)).toHaveLength(1);
    const [refused] = await lab.accept(9200, ["d", { codeHash: "new" }]);
    expect(await lab.take(9201)).toEqual([]);
    expect(await lab.job(refused?.id as string)).toMatchObject({ status: "failed", attempt: 0, failure: { quarantined: true } });

    expect([await lab.store.code.lift("new"), await lab.store.code.lift("new"), await lab.store.code.lift("nobody's")]).toEqual([true, false, false]);
    expect(await lab.store.quarantined(10)).toMatchObject([{ codeHash: "old" }]);
    await lab.store.redrive(scope, refused?.id as string, { agingMs }, T0 + 9300);
    expect((await lab.take(9301)).map(({ job }) => job.id)).toEqual([refused?.id]);
  });

  check("one crash alone is neither listed nor lifted", async (lab) => {
    await lab.accept(0, ["a", { codeHash: "once" }]);
    await lab.end(2, await lab.takeOne(1), ends.crashed);
    expect(await lab.store.quarantined(10)).toEqual([]);
    expect(await lab.store.code.lift("once")).toBe(false);
  });

  check("an outcome is known to jobs of the same code and stamp, the latest one, and not for longer than asked", async (lab) => {
    const first = await build(lab, 0, "a");
    expect(await lab.store.code.ask(question("x"), T0 + 10)).toEqual({ kind: "known", outcome: { kind: "built", result: "ok", sourceMap: null, warnings: [], externals: ["react"], origin: { stamp, from: first } } });
    const second = await build(lab, 100, "b", { ...made, result: "ok again" });
    expect(await lab.store.code.ask(question("x"), T0 + 110)).toMatchObject({ outcome: { result: "ok again", origin: { from: second } } });
    for (const other of [{ codeHash: "other" }, { stamp: "other" }]) expect(await lab.store.code.ask(question("x", other), T0 + 110)).toEqual({ kind: "unknown" });
    expect(await lab.store.code.ask(question("x"), T0 + 1102)).toEqual({ kind: "unknown" });
  });

  check("a failure is known when it is the code's own, and nothing without a stamp is", async (lab) => {
    await build(lab, 0, "a", ends.completed);
    expect(await lab.store.code.ask(question("x"), T0 + 10)).toEqual({ kind: "unknown" });
    const failed = await build(lab, 20, "b", { ...ends.failed, origin: { stamp, from: null } });
    expect(await lab.store.code.ask(question("x"), T0 + 30)).toEqual({ kind: "known", outcome: { kind: "failed", failure: ends.failed.failure, error: ends.failed.error, origin: { stamp, from: failed } } });
    await lab.store.redrive(scope, failed, { agingMs }, T0 + 40);
    expect(await lab.store.code.ask(question("x"), T0 + 41)).toEqual({ kind: "unknown" });
  });

  check("a job says from which one its outcome was taken over, and passes that on", async (lab) => {
    const first = await build(lab, 0, "a");
    const copied = await build(lab, 10, "b", { ...made, origin: { stamp, from: first } });
    expect(await lab.job(first)).toMatchObject({ cached: false, cachedFrom: null });
    expect(await lab.job(copied)).toMatchObject({ cached: true, cachedFrom: first });
    expect(await lab.store.code.ask(question("x"), T0 + 20)).toMatchObject({ outcome: { origin: { from: first } } });
  });

  check("a cancelled job's outcome is nobody's", async (lab) => {
    const [job] = await lab.accept(0, ["a", { codeHash: "same" }]);
    const claim = await lab.takeOne(1);
    await lab.store.cancel(scope, job?.id as string, T0 + 2);
    await lab.end(3, claim, made);
    expect(await lab.store.code.ask(question("x"), T0 + 4)).toEqual({ kind: "unknown" });
    expect(await lab.job(job?.id as string)).toMatchObject({ cached: false, failure: { code: "cancelled" } });
  });

  check("a failure that was taken over and that a cancel replaced says nothing of where it came from", async (lab) => {
    const [job] = await lab.accept(0, ["a", { codeHash: "same" }]);
    const claim = await lab.takeOne(1);
    await lab.store.cancel(scope, job?.id as string, T0 + 2);
    await lab.end(3, claim, { ...ends.failed, origin: { stamp, from: "another" } });
    expect(await lab.job(job?.id as string)).toMatchObject({ cached: false, cachedFrom: null, failure: { code: "cancelled" } });
  });

  check("of jobs of one code that run at once, each is told of the one that started first, and that one of none", async (lab) => {
    const same = { codeHash: "same" };
    const [a] = await lab.accept(0, ["a", same]);
    await lab.takeOne(1);
    const [b, c, theirs] = await lab.accept(2, ["b", same], ["c", same], ["them\u001fa", same]);
    await lab.take(3);
    expect(await lab.store.code.ask(question(a?.id as string), T0 + 4)).toEqual({ kind: "unknown" });
    for (const job of [b, c]) expect(await lab.store.code.ask(question(job?.id as string), T0 + 4)).toEqual({ kind: "running", jobId: a?.id });
    // Another tenant's builds are not waited for.
    expect(await lab.store.code.ask(question(theirs?.id as string), T0 + 4)).toEqual({ kind: "unknown" });
  });

  check("what the claim told of a job's code is an answer without asking, once, unless a job of that code was built here since", async (lab) => {
    const old = 1e12;
    // Claims tell it once somebody has asked.
    await lab.store.code.ask(question("x", { ageMs: old }));
    await lab.accept(0, ["a", { codeHash: "same" }], ["b", { codeHash: "same" }], ["c", { codeHash: "same" }], ["d", { codeHash: "same" }]);
    const [a, b, c] = (await lab.take(1, 3)) as [Claim, Claim, Claim];
    await lab.end(3, a, made);
    const knows = async (claim: Claim, isBuiltHere?: boolean) => (await lab.store.code.ask(question(claim.job.id, { ageMs: old, isBuiltHere }))).kind;
    // Memory is asked at no cost.
    const told = lab.store.kind === "memory" ? "known" : "unknown";
    expect([await knows(b), await knows(b), await knows(c, true)]).toEqual([told, "known", "known"]);
    // This one's claim saw what had ended, and c at work.
    expect(await knows(await lab.takeOne(4))).toBe("known");
  });
};
