/**
 * What inspection costs: 20,000 jobs with a run that does nothing, on the memory store, in one process. `never`: nobody
 * ever looked; `left`: somebody looked and went; `watched`: somebody reads everything. `npx tsx bench/inspect.ts [rounds]`.
 */
import { cpus } from "node:os";
import { createBuildQueue } from "../src/index.js";

const rounds = Number(process.argv[2] ?? 5);
const jobs = 20_000;
const chats = 100;

async function round(watch: "never" | "left" | "watched"): Promise<number> {
  let left = jobs;
  let finished!: () => void;
  const done = new Promise<void>((resolve) => (finished = resolve));
  const queue = await createBuildQueue({
    store: "memory", inspect: true, concurrency: 50, maxPending: jobs * 2, maxPendingPerChat: jobs, run: () => "ok",
    onReport: (report) => void (report.type === "attempt.ended" && --left === 0 && finished()),
  });
  const stop = new AbortController();
  const reading = (async () => {
    for await (const _event of queue.inspect({ signal: stop.signal })) if (watch === "left") break;
  })();
  if (watch === "never") stop.abort();
  await (watch === "watched" ? undefined : reading);
  await queue.pause();
  for (let from = 0; from < jobs; from += 1000) await queue.enqueueMany(Array.from({ length: 1000 }, (_, index) => ({ chatId: `chat${(from + index) % chats}`, messageId: "m", code: "1" })));
  const from = process.cpuUsage();
  await queue.resume();
  await done;
  const { user, system } = process.cpuUsage(from);
  stop.abort();
  await queue.stop();
  return (user + system) / jobs;
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const taken: Record<"never" | "left" | "watched", number[]> = { never: [], left: [], watched: [] };
for (let index = 0; index < rounds; index++) for (const watch of ["never", "left", "watched"] as const) taken[watch].push(await round(watch));
for (const [watch, values] of Object.entries(taken)) console.log(`${watch}: ${median(values).toFixed(0)} µs of CPU a job (${values.map((value) => value.toFixed(0)).join(", ")})`);
console.log(`median of ${rounds}; Node ${process.version}, ${cpus().length} cores`);
