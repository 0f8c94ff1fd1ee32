/**
 * How good the estimates are: what a submitter was told at acceptance, and how long it took until the start. Builds of
 * 20 to 120 ms, three slots, the memory store, three kinds of days. Of honest estimates the truth is within the median for
 * half of the jobs and within the ninetieth percentile for nine of ten. `npx tsx bench/estimates.ts`.
 */
import { createBuildQueue } from "../src/index.js";

const buildMs = () => 20 + 100 * Math.random() ** 2;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Told {
  chatId: string;
  seq: number;
  at: number;
  p50: number;
  p90: number;
}

async function day(name: string, submit: (enqueue: (chatId: string) => Promise<void>) => Promise<void>): Promise<void> {
  const told = new Map<string, Told>();
  const waits: { actual: number; p50: number; p90: number }[] = [];
  const starts = new Map<string, number>();
  const queue = await createBuildQueue({
    store: "memory", concurrency: 3, maxPendingPerChat: 10_000,
    run: async (job) => {
      starts.set(job.id, performance.now());
      await sleep(buildMs());
      return "ok";
    },
  });
  // Something has been measured before.
  for (let index = 0; index < 30; index++) await queue.enqueue({ chatId: `warm${index % 5}`, messageId: "m", code: "1" });
  while ((await queue.stats()).totalQueued + (await queue.stats()).totalRunning > 0) await sleep(20);
  const ids: string[] = [];
  await submit(async (chatId) => {
    const at = performance.now();
    const job = await queue.enqueue({ chatId, messageId: "m", code: "1" });
    ids.push(job.id);
    told.set(job.id, { chatId, seq: job.chatSeq, at, p50: job.estimatedWaitTime ?? 0, p90: job.estimatedWaitTimeP90 ?? 0 });
  });
  await Promise.all(ids.map((id) => queue.waitFor(id)));
  for (const [id, { at, p50, p90 }] of told) waits.push({ actual: (starts.get(id) ?? at) - at, p50, p90 });
  await queue.stop();
  const graceMs = 15;
  const within = (key: "p50" | "p90") => ((100 * waits.filter((one) => one.actual <= one[key] + graceMs).length) / waits.length).toFixed(0);
  const error = waits.map((one) => Math.abs(one.actual - one.p50)).sort((a, b) => a - b)[Math.floor(waits.length / 2)] ?? 0;
  const actual = waits.map((one) => one.actual).sort((a, b) => a - b)[Math.floor(waits.length / 2)] ?? 0;
  console.log(`${name}: ${waits.length} jobs, within p50 ${within("p50")} %, within p90 ${within("p90")} %; half wait more than ${actual.toFixed(0)} ms, and half of the medians are off by more than ${error.toFixed(0)} ms`);
}

await day("one chat, 60 at once", async (enqueue) => {
  for (let index = 0; index < 60; index++) await enqueue("a");
});
await day("twenty chats, 8 each at once", async (enqueue) => {
  for (let index = 0; index < 160; index++) await enqueue(`chat${index % 20}`);
});
await day("arrivals at three quarters of what the slots can do, 30 chats", async (enqueue) => {
  for (let index = 0; index < 400; index++) {
    await enqueue(`chat${Math.floor(Math.random() * 30)}`);
    await sleep(-Math.log(Math.random()) * 24);
  }
});
