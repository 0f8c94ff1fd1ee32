/**
 * Any kind of job: `run` takes the place of the build, and every chat still gets its jobs done one after another, with
 * retries, timeouts and cancellation. `npx tsx examples/own-run.ts`
 */
import { createBuildQueue } from "buildlane";

const queue = await createBuildQueue({
  store: "memory",
  retryBaseMs: 10,
  run: async (job, { signal, attempt }) => {
    // Hand the signal on: it aborts at the timeout, at a cancel, and when the node loses its lease.
    signal.throwIfAborted();
    if (job.messageId === "flaky" && attempt === 1) throw new Error("the first try fails");
    // Says that another try would not help.
    if (job.messageId === "wrong") throw Object.assign(new Error("no such thing"), { retryable: false });
    return { summary: `${job.code?.length} characters`, attempt };
  },
});

const { jobs } = await queue.enqueueMany(["plain", "flaky", "wrong", "last"].map((messageId) => ({ chatId: "c1", messageId, code: `text of ${messageId}` })));
for (const { id } of jobs) {
  const job = await queue.waitFor(id);
  console.log(`${job.messageId}: ${job.status === "completed" ? job.result : job.failure.message}`);
}
await queue.stop();
