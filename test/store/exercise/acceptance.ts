/** P1 at its root: order is fixed at acceptance, without gaps, whoever submits and however. */
import { expect } from "vitest";
import type { CallersTransaction } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { T0, ids, iso, scope, wide } from "./lab.js";
import type { Lab } from "./lab.js";

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
/** The chat's jobs in the order in which they run, as chatSeq. */
const runOrder = async (lab: Lab, chatId: string): Promise<number[]> => {
  const order = await lab.runAll(1e9);
  const jobs = await Promise.all(order.map((id) => lab.job(id)));
  return jobs.filter((job) => job.chatId === chatId).map((job) => job.chatSeq);
};
/** Runs work in a transaction of the caller's own, as Drizzle gives it. */
const within = <T>(lab: Lab, work: (tx: CallersTransaction) => Promise<T>): Promise<T> => {
  if (!lab.database) throw new Error("There is no database.");
  return lab.database.orm.transaction(work);
};

export const acceptance: Exercise = (check) => {
  check("a batch is numbered in its order, per chat, without gaps", async (lab) => {
    const specs = Array.from({ length: 60 }, (_, index) => ["a", "b", "c"][(index * index) % 3] as string);
    const jobs = await lab.accept(0, ...specs);
    expect(jobs.map((job) => job.chatId)).toEqual(specs);
    for (const chat of ["a", "b", "c"]) {
      const own = jobs.filter((job) => job.chatId === chat);
      expect(own.map((job) => job.chatSeq)).toEqual(upTo(own.length));
      expect(own.map((job) => job.queuePosition)).toEqual(upTo(own.length));
    }
    expect(await runOrder(lab, "a")).toEqual(upTo(specs.filter((chat) => chat === "a").length));
  });

  check("groups that arrive together are numbered in the order of their arrival", async (lab) => {
    const groups = Array.from({ length: 20 }, (_, index) => lab.group("a", index % 2 ? "b" : "a"));
    const answers = await lab.store.accept(groups, wide, T0);
    const jobs = answers.flatMap((answer) => (answer.kind === "accepted" ? answer.jobs : []));
    expect(ids(jobs)).toEqual(groups.flatMap((group) => ids(group.jobs)));
    for (const chat of ["a", "b"]) {
      const own = jobs.filter((job) => job.chatId === chat).map((job) => job.chatSeq);
      expect(own).toEqual(upTo(own.length));
    }
  });

  check("concurrent submitters get numbers without gaps, each his own in the order of his calls, and jobs run in that order", async (lab) => {
    const submitters = Array.from({ length: 8 }, (_, submitter) => async () => {
      const own: number[] = [];
      for (let call = 0; call < 6; call++) {
        const [answer] = await lab.store.accept([lab.group("a", `other${submitter % 3}`, "a", "a")], { ...wide, patient: true });
        if (answer?.kind !== "accepted") throw new Error(answer?.kind);
        own.push(...answer.jobs.filter((job) => job.chatId === "a").map((job) => job.chatSeq));
      }
      return own;
    });
    const numbers = await Promise.all(submitters.map((submit) => submit()));
    for (const own of numbers) expect(own).toEqual([...own].sort((x, y) => x - y));
    expect(numbers.flat().sort((x, y) => x - y)).toEqual(upTo(8 * 6 * 3));
    expect(await runOrder(lab, "a")).toEqual(upTo(8 * 6 * 3));
  });

  check("in one transaction many enqueues keep their order and exist when it commits", async (lab) => {
    await lab.accept(0, "a");
    const groups = upTo(15).map(() => lab.group("a", "b"));
    const numbers = await within(lab, async (tx) => {
      const found: number[] = [];
      for (const group of groups) {
        const [answer] = (await lab.store.acceptWithin?.(tx, [group], wide, false)) ?? [];
        if (answer?.kind === "accepted") found.push(...answer.jobs.filter((job) => job.chatId === "a").map((job) => job.chatSeq));
      }
      return found;
    });
    expect(numbers).toEqual(upTo(15).map((number) => number + 1));
    expect(await runOrder(lab, "a")).toEqual(upTo(16));
    expect((await lab.store.stats(scope, T0)).totalCompleted).toBe(31);
  });

  check("in one transaction that is rolled back nothing is accepted, and no number is left out", async (lab) => {
    await lab.accept(0, "a");
    const lost = lab.group("a", "new");
    await expect(
      within(lab, async (tx) => {
        await lab.store.acceptWithin?.(tx, [lost], wide, false);
        throw new Error("the caller's own");
      }),
    ).rejects.toThrow("the caller's own");
    expect(await Promise.all(lost.jobs.map((job) => lab.store.get(scope, job.id)))).toEqual([null, null]);
    const [next, first] = await lab.accept(1, "a", "new");
    expect([next?.chatSeq, first?.chatSeq]).toEqual([2, 1]);
    expect((await lab.events("a")).map((event) => event.number)).toEqual([1, 2]);
    expect((await lab.store.stats(scope, T0)).totalQueued).toBe(3);
  });

  check("in one transaction a refusal is an error, and the caller's own writes go with it", async (lab) => {
    const few = { ...wide, pendingPerChatMax: 2 };
    await expect(within(lab, async (tx) => lab.store.acceptWithin?.(tx, [lab.group("a", "a", "a")], few, false))).rejects.toMatchObject({ code: "chat_queue_full" });
    expect((await lab.store.stats(scope, T0)).totalQueued).toBe(0);
  });

  check("a job is kept as it was offered", async (lab) => {
    const files = { "src/ä.tsx": "export {}", "b.css": "a{}" };
    const [job] = await lab.accept(5, ["chat ü", { messageId: "m 1", code: null, files, entry: "src/ä.tsx", options: { minify: true, target: "es2022" }, priority: -3, maxAttempts: 7 }]);
    expect(job).toEqual({ id: "j1", chatId: "chat ü", messageId: "m 1", chatSeq: 1, status: "pending", queuePosition: 1, nextAttemptAt: null, chatPaused: false, chatReadyAt: null, createdAt: iso(5) });
    expect(await lab.job("j1")).toMatchObject({ code: null, files, entry: "src/ä.tsx", options: { minify: true, target: "es2022" }, priority: -3, maxAttempts: 7, attempt: 0, attempts: [], startedAt: null, completedAt: null, result: null, createdAt: iso(5) });
    expect((await lab.takeOne(6)).job).toEqual({ id: "j1", chatId: "chat ü", messageId: "m 1", chatSeq: 1, files, entry: "src/ä.tsx", options: { minify: true, target: "es2022" }, priority: -3, maxAttempts: 7, timeoutMs: 1000, traceparent: null, attempt: 1 });
  });

  check("acceptance never goes back in time inside a chat, even if the clock does", async (lab) => {
    const [first] = await lab.accept(1000, "a");
    const [second] = await lab.accept(400, "a");
    expect([first?.createdAt, second?.createdAt]).toEqual([iso(1000), iso(1000)]);
    expect(await lab.runAll(2000)).toEqual([first?.id, second?.id]);
  });

  check("a group with bytes that the database refuses does not hinder the others", async (lab) => {
    // The layer above offers each alone then.
    await expect(lab.store.accept([lab.group("a"), lab.group(["b", { code: "a\0b" }])], wide, T0)).rejects.toMatchObject({ name: "ContendedError" });
    await expect(lab.store.accept([lab.group(["b", { code: "a\0b" }])], wide, T0)).rejects.toThrow();
    expect((await lab.answer(0, ["a"])).kind).toBe("accepted");
    expect((await lab.store.stats(scope, T0)).totalQueued).toBe(1);
  });
};
