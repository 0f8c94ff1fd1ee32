/** pg-boss with `key_strict_fifo`, its own per-key order; batches as large as the slots, fetched without a pause while there is work. */
import { PgBoss } from "pg-boss";

export async function open({ databaseUrl, slots, run, done, perChat = true }) {
  const boss = new PgBoss({ connectionString: databaseUrl, max: 10 });
  boss.on("error", () => {});
  await boss.start();
  await boss.createQueue("builds", perChat ? { policy: "key_strict_fifo", notify: true } : { notify: true });
  const seqs = new Map();
  const row = (chat, seq) => ({ data: { chat, seq, code: "export default 1" }, ...(perChat ? { singletonKey: chat } : {}) });
  return {
    hold: async () => {},
    async add(chat) {
      const seq = (seqs.get(chat) ?? 0) + 1;
      seqs.set(chat, seq);
      return boss.send("builds", row(chat, seq).data, perChat ? { singletonKey: chat } : {});
    },
    // One of a chat in each call: several in one call would run in any order.
    async addMany(jobs) {
      const layers = new Map();
      for (const { chat, seq } of jobs) layers.set(seq, [...(layers.get(seq) ?? []), row(chat, seq)]);
      for (const layer of layers.values()) for (let from = 0; from < layer.length; from += 1000) await boss.insert("builds", layer.slice(from, from + 1000));
    },
    start: () =>
      boss.work("builds", { batchSize: slots, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true, burstWhenReadyExceeds: 1 }, async (jobs) => {
        await Promise.all(jobs.map((job) => run(job.data.chat, job.data.seq, job)));
        for (const { id } of jobs) done?.(id);
      }),
    stop: () => boss.stop({ graceful: false }),
  };
}
