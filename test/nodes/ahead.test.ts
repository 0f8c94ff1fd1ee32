import { expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { verify } from "../../src/history/verify.js";
import { systemClock } from "../../src/clock.js";
import { openForReading } from "../../src/store/open.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

describePostgres("runs that take less time than a turn", () => {
  it("begin ahead of their record, and on record no slot has two at a time, to the microsecond (P2, P6)", async () => {
    await using database = await freshDatabase();
    const seen: string[] = [];
    let runs = 0;
    const queue = await createBuildQueue({
      databaseUrl: database.url, concurrency: 3, maxPending: 10_000, maxPendingPerChat: 1000,
      async run(job) {
        // One in a while asks how it stands itself.
        if (++runs % 40 === 0) seen.push((await queue.get(job.id)).status);
        return "built";
      },
    });
    await queue.pause();
    const { jobs } = await queue.enqueueMany(Array.from({ length: 1000 }, (_, index) => ({ chatId: `chat${index % 40}`, messageId: "m", code: "1" })));
    await queue.resume();
    for (const { id } of jobs) expect((await queue.waitFor(id)).status).toBe("completed");
    await queue.stop();
    expect(runs).toBe(1000);
    expect(seen).toContain("pending");

    const store = await openForReading({ databaseUrl: database.url, dataDir: ".", clock: systemClock });
    const verdict = await store.readHistory((history) => verify(history, { atRest: true, promised: jobs.map(({ id }) => id), inHandMs: 50, slackMs: 500 }));
    await store.close();
    expect([verdict.violations.slice(0, 3), verdict.attemptsWithSlots]).toEqual([[], 1000]);
  }, 60_000);
});
