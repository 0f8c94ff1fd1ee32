/** graphile-worker with a named queue for each chat, without its local queue, with which named queues run several jobs at once. */
import { Logger, makeWorkerUtils, run as runWorker } from "graphile-worker";

export async function open({ databaseUrl, slots, run, done, perChat = true }) {
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ connectionString: databaseUrl, logger });
  await utils.migrate();
  const seqs = new Map();
  const spec = (chat, seq) => ({ identifier: "build", payload: { chat, seq, code: "export default 1" }, ...(perChat ? { queueName: chat } : {}) });
  let runner;
  return {
    hold: async () => {},
    async add(chat) {
      const seq = (seqs.get(chat) ?? 0) + 1;
      seqs.set(chat, seq);
      const { identifier, payload, ...rest } = spec(chat, seq);
      return String((await utils.addJob(identifier, payload, rest)).id);
    },
    async addMany(jobs) {
      for (let from = 0; from < jobs.length; from += 1000) await utils.addJobs(jobs.slice(from, from + 1000).map(({ chat, seq }) => spec(chat, seq)));
    },
    async start() {
      runner = await runWorker({ connectionString: databaseUrl, concurrency: slots, maxPoolSize: 12, pollInterval: 500, noHandleSignals: true, logger, taskList: { build: (payload) => run(payload.chat, payload.seq, payload) } });
      runner.events.on("job:success", ({ job }) => done?.(String(job.id)));
    },
    async stop() {
      await runner?.stop();
      await utils.release();
    },
  };
}
