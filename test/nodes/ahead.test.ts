import { expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { verify } from "../../src/history/verify.js";
import { sleep, systemClock } from "../../src/clock.js";
import { openForReading } from "../../src/store/open.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

describePostgres("runs that begin ahead of their record", () => {
  it.each([
    ["no time", 0, 1000],
    ["longer than a turn, some longer than starts wait for their record", 24, 600],
  ])("have a slot of their own on record, to the microsecond, where they take %s (P2, P6)", async (_, longestMs, count) => {
    await using database = await freshDatabase();
    const seen: string[] = [];
    let runs = 0;
    const queue = await createBuildQueue({
      databaseUrl: database.url, concurrency: 3, maxPending: 10_000, maxPendingPerChat: 1000,
      async run(job) {
        // One in a while asks how it stands itself.
        if (++runs % 40 === 0) seen.push((await queue.get(job.id)).status);
        else if (longestMs > 0) await sleep(systemClock, (job.chatSeq * 7) % longestMs);
        return "built";
      },
    });
    await queue.pause();
    const { jobs } = await queue.enqueueMany(Array.from({ length: count }, (_, index) => ({ chatId: `chat${index % 40}`, messageId: "m", code: "1" })));
    await queue.resume();
    for (const { id } of jobs) expect((await queue.waitFor(id)).status).toBe("completed");
    await queue.stop();
    expect(runs).toBe(count);
    expect(seen).toContain("pending");

    const store = await openForReading({ databaseUrl: database.url, dataDir: ".", clock: systemClock });
    const verdict = await store.readHistory((history) => verify(history, { atRest: true, promised: jobs.map(({ id }) => id), inHandMs: 50, slackMs: 500 }));
    await store.close();
    expect([verdict.violations.slice(0, 3), verdict.attemptsWithSlots]).toEqual([[], count]);
  }, 60_000);
});
