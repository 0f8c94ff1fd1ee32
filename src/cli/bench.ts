/** `buildlane bench`: loads a running service with builds of its own, and tells how fast and in which order they were done. */
import { setMaxListeners } from "node:events";
import type { Command } from "commander";
import { ClientError } from "../client/index.js";
import type { BuildRequest, Client, JobSummary } from "../client/index.js";
import { sleep, systemClock } from "../clock.js";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { print, printJson, say, seconds } from "./talk.js";

interface Flags extends ClientFlags {
  jobs: number;
  chats: number;
  parallel: number;
  keep?: boolean;
}

const pollMs = 100;
const chatJobsMax = 100;

export const benchCommand = (): Command =>
  clientCommand("bench", "Load a running service with small builds in chats of their own, check their order, and erase them again.", ["bench", "bench --jobs 1000 --chats 100 --parallel 32", "bench --url https://builds.example --json"])
    .option("--jobs <n>", "how many", wholeNumber(1, 20_000), 200)
    .option("--chats <n>", `over how many chats, of at most ${chatJobsMax} jobs each`, wholeNumber(1, 5000), 20)
    .option("--parallel <n>", "requests at once", wholeNumber(1, 256), 16)
    .option("--keep", "leave the chats there")
    .action((flags: Flags) => withClient(flags, (client, signal) => bench(client, flags, signal)));

async function bench(client: Client, { jobs, chats, parallel, keep, json }: Flags, signal: AbortSignal): Promise<void> {
  if (jobs > chats * chatJobsMax) throw new Exit(exitCodes.usage, `Expected at most ${chatJobsMax} jobs a chat, got ${jobs} jobs for ${chats} chats.`);
  const run = systemClock.id().slice(0, 8);
  const names = Array.from({ length: Math.min(chats, jobs) }, (_, index) => `bench-${run}-${index}`);
  // Each is code of its own: what was built before would not be built again.
  const requests = Array.from({ length: jobs }, (_, index): BuildRequest => ({ chatId: names[index % names.length] as string, messageId: `m${index}`, code: `export const Part${index} = () => <b>${run} {${index}}</b>;` }));
  // Of every request that is under way.
  setMaxListeners(0, signal);
  // Where nobody answers it is told once.
  await client.stats({ signal });
  const offered = new Set<string>();
  try {
    say(`${jobs} builds in ${names.length} chats, ${parallel} requests at once.`);
    const from = systemClock.monotonic();
    await atOnce(requests, parallel, (request) => {
      offered.add(request.chatId);
      return client.submit(request, { signal });
    });
    const acceptedMs = systemClock.monotonic() - from;
    const done = (await atOnce(names, parallel, (chatId) => finished(client, chatId, signal))).flat();
    const doneMs = systemClock.monotonic() - from;
    const figures = judge(done, { acceptedMs, doneMs });
    if (json) printJson(figures);
    else print(lines(figures));
    if (figures.failed > 0 || figures.outOfOrder > 0 || figures.jobs !== jobs) throw new Exit(exitCodes.failed, "Not every build was completed in order.");
  } finally {
    if (!keep) await atOnce([...offered], parallel, (chatId) => erase(client, chatId));
  }
}

async function erase(client: Client, chatId: string): Promise<void> {
  try {
    await client.eraseChat(chatId, { reason: "buildlane bench is over" });
  } catch (error) {
    // Nothing of it was accepted.
    if (error instanceof ClientError && error.code === "not_found") return;
    say(`Chat ${chatId} is left there: ${(error as Error).message}`);
  }
}

/** Works through the items in order, so many at a time. */
async function atOnce<T, R>(items: readonly T[], parallel: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index] as T);
  };
  await Promise.all(Array.from({ length: Math.min(parallel, items.length) }, worker));
  return results;
}

/** All jobs of a chat, when none is left to do. */
async function finished(client: Client, chatId: string, signal: AbortSignal): Promise<JobSummary[]> {
  for (;;) {
    const { pending, running, completed, failed } = await client.chat(chatId, { limit: 2 * chatJobsMax, signal });
    if (pending.length + running.length === 0) return [...completed, ...failed];
    await sleep(systemClock, pollMs);
    signal.throwIfAborted();
  }
}

const at = (time: string | null): number => Date.parse(time ?? "");
const percentile = (sorted: number[], fraction: number): number => sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? 0;

function judge(jobs: JobSummary[], { acceptedMs, doneMs }: { acceptedMs: number; doneMs: number }) {
  const inOrder = [...jobs].sort((a, b) => (a.chatId === b.chatId ? a.chatSeq - b.chatSeq : a.chatId < b.chatId ? -1 : 1));
  const spread = (times: number[]) => {
    const sorted = times.filter(Number.isFinite).sort((a, b) => a - b);
    return { p50: percentile(sorted, 0.5), p95: percentile(sorted, 0.95), p99: percentile(sorted, 0.99) };
  };
  return {
    jobs: jobs.length,
    failed: jobs.filter(({ status }) => status === "failed").length,
    /** Jobs that started before the one ahead of them in their chat had ended. */
    outOfOrder: inOrder.filter((job, index) => inOrder[index - 1]?.chatId === job.chatId && at(job.startedAt) < at((inOrder[index - 1] as JobSummary).completedAt)).length,
    acceptedPerSecond: Math.round((jobs.length / acceptedMs) * 1000),
    builtPerSecond: Math.round((jobs.length / doneMs) * 1000),
    tookMs: Math.round(doneMs),
    waitingMs: spread(jobs.map((job) => at(job.startedAt) - at(job.createdAt))),
    buildingMs: spread(jobs.map((job) => at(job.completedAt) - at(job.startedAt))),
  };
}

const lines = ({ jobs, failed, outOfOrder, acceptedPerSecond, builtPerSecond, tookMs, waitingMs, buildingMs }: ReturnType<typeof judge>): string =>
  [
    ["accepted", `${acceptedPerSecond} a second`],
    ["built", `${builtPerSecond} a second, ${jobs} in ${seconds(tookMs)}`],
    ["waiting", `p50 ${seconds(waitingMs.p50)}, p95 ${seconds(waitingMs.p95)}, p99 ${seconds(waitingMs.p99)}`],
    ["building", `p50 ${seconds(buildingMs.p50)}, p95 ${seconds(buildingMs.p95)}, p99 ${seconds(buildingMs.p99)}`],
    ["failed", String(failed)],
    ["out of order", String(outOfOrder)],
  ].map(([name, value]) => `${(name as string).padEnd(14)}${value}`).join("\n");
