/** Buildlane as its users embed it: the built package, a run of our own, PostgreSQL. */
import { createBuildQueue } from "../../dist/src/index.js";

export async function open({ databaseUrl, slots, run, done, settings = {} }) {
  const seqs = new Map();
  const queue = await createBuildQueue({
    databaseUrl, concurrency: slots, maxPending: 10_000_000, maxPendingPerChat: 1_000_000, drainMs: 0, ...settings,
    ...(run ? { run: (job) => run(job.chatId, job.chatSeq, job) } : {}),
    onReport: (report) => report.type === "attempt.ended" && done?.(report.jobId),
  });
  return {
    queue,
    hold: () => queue.pause(),
    async add(chat, body = { code: "export default 1" }) {
      const seq = (seqs.get(chat) ?? 0) + 1;
      seqs.set(chat, seq);
      return (await queue.enqueue({ chatId: chat, messageId: `m${seq}`, ...body })).id;
    },
    addMany: (jobs) => Promise.all(jobs.map(({ chat, seq }) => queue.enqueue({ chatId: chat, messageId: `m${seq}`, code: "export default 1" }))),
    start: () => queue.resume(),
    stop: () => queue.stop(),
  };
}
