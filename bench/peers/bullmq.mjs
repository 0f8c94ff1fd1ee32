/** BullMQ, free edition, on Redis: a queue and a worker for each chat is its only way to keep a chat's order; slots by p-limit. */
import { Queue, Worker } from "bullmq";
import IORedis from "ioredis";
import pLimit from "p-limit";

export async function open({ redisPort, slots, run, done, perChat = true }) {
  const connection = new IORedis(redisPort, "127.0.0.1", { maxRetriesPerRequest: null });
  connection.setMaxListeners(0);
  const limit = pLimit(slots);
  const queues = new Map();
  const workers = [];
  let started = false;
  const work = (queue) => {
    const worker = new Worker(queue.name, perChat ? (job) => limit(() => run(job.data.chat, job.data.seq, job)) : (job) => run(job.data.chat, job.data.seq, job), { connection, concurrency: perChat ? 1 : slots });
    worker.on("completed", (job) => done?.(job.id));
    worker.on("error", () => {});
    workers.push(worker);
    return worker.waitUntilReady();
  };
  const seqs = new Map();
  async function queueOf(chat) {
    const name = perChat ? chat : "all";
    let queue = queues.get(name);
    if (!queue) {
      queues.set(name, (queue = new Queue(name, { connection, defaultJobOptions: { removeOnComplete: false } })));
      if (started) await work(queue);
    }
    return queue;
  }
  return {
    hold: async () => {},
    async add(chat) {
      const seq = (seqs.get(chat) ?? 0) + 1;
      seqs.set(chat, seq);
      return (await (await queueOf(chat)).add("build", { chat, seq, code: "export default 1" })).id;
    },
    async addMany(jobs) {
      const byQueue = new Map();
      for (const { chat, seq } of jobs) {
        const queue = await queueOf(chat);
        const bulk = byQueue.get(queue) ?? [];
        byQueue.set(queue, bulk);
        bulk.push({ name: "build", data: { chat, seq, code: "export default 1" } });
      }
      await Promise.all([...byQueue].map(([queue, bulk]) => queue.addBulk(bulk)));
    },
    async start() {
      started = true;
      await Promise.all([...queues.values()].map(work));
    },
    async stop() {
      await Promise.all(workers.map((worker) => worker.close(true)));
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      connection.disconnect();
    },
  };
}
