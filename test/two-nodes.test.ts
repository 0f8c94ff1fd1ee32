/** What people ask of one node holds on every other, and over restarts: pauses, supersession, an erasure. */
import { expect, it } from "vitest";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueueOptions } from "../src/index.js";
import { describePostgres, freshDatabase } from "./support/postgres.js";

describePostgres("two nodes on one database", () => {
  it("keep a pause of the queue and of a chat, whichever was asked, and through a restart of both", async () => {
    await using database = await freshDatabase();
    const open = () => createBuildQueue({ databaseUrl: database.url, run: () => "" });
    const [one, two] = await Promise.all([open(), open()]);
    await one.enqueue({ chatId: "held", messageId: "0", code: "1" }).then(({ id }) => two.waitFor(id));
    await one.pauseChat("held");
    await two.pause();
    const held = await one.enqueue({ chatId: "held", messageId: "1", code: "1" });
    const free = await two.enqueue({ chatId: "free", messageId: "1", code: "1" });
    await Promise.all([one.stop(), two.stop()]);

    const [three, four] = await Promise.all([open(), open()]);
    try {
      expect((await three.stats()).queuePaused).toBe(true);
      expect((await four.get(free.id)).status).toBe("pending");
      await four.resume();
      expect((await three.waitFor(free.id)).status).toBe("completed");
      expect((await three.get(held.id)).status).toBe("pending");
      expect(await four.why(held.id)).toMatchObject({ reason: "chat_paused" });
      await three.resumeChat("held");
      expect((await four.waitFor(held.id)).status).toBe("completed");
    } finally {
      await Promise.all([three.stop(), four.stop()]);
    }
  }, 120_000);

  it("stop a build, whichever has it, when it is superseded through the one or its chat erased through the other", async () => {
    await using database = await freshDatabase();
    const aborted: string[] = [];
    let running = () => {};
    let begun = new Promise<void>((resolve) => (running = resolve));
    const run: BuildQueueOptions["run"] = (job, { signal }) =>
      job.code !== "hold"
        ? "done"
        : new Promise((_, reject) => {
            signal.addEventListener("abort", () => {
              aborted.push(job.messageId);
              reject(signal.reason as Error);
            });
            running();
          });
    const worker = await createBuildQueue({ databaseUrl: database.url, run });
    const other = await createBuildQueue({ databaseUrl: database.url, run });
    try {
      const old = await other.enqueue({ chatId: "a", messageId: "old", code: "hold" });
      await begun;
      const newer = await worker.enqueue({ chatId: "a", messageId: "newer", code: "1", supersede: "running" });
      expect(await worker.waitFor(newer.id)).toMatchObject({ status: "completed" });
      expect(await worker.get(old.id)).toMatchObject({ status: "failed", supersededBy: newer.id, failure: { code: "superseded" } });
      begun = new Promise<void>((resolve) => (running = resolve));
      await worker.enqueue({ chatId: "a", messageId: "last", code: "hold" });
      await begun;
      expect(await other.erase("a")).toEqual({ jobs: 3 });
      expect(aborted).toEqual(["old", "last"]);
      expect(await worker.chat("a")).toMatchObject({ running: [], completed: [], failed: [] });
      expect(await worker.enqueue({ chatId: "a", messageId: "again", code: "1" })).toMatchObject({ chatSeq: 4 });
    } finally {
      await Promise.all([worker.stop(), other.stop()]);
    }
  }, 120_000);
});
