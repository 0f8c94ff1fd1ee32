/** Clients that submit all the time, never believe a lost answer, and remember what they were promised. */
import { BuildlaneError } from "../../src/errors.js";
import type { AcceptedJob, BuildRequest } from "../../src/job.js";
import type { BuildQueue } from "../../src/queue-api.js";
import type { AttemptPlan } from "./builds.js";
import type { World } from "./world.js";

export interface Clients {
  /** Submits until `jobs` were promised; resolves when the last was. */
  submitAll(): Promise<void>;
  readonly promised: Map<string, AcceptedJob>;
  /** Jobs whose cancel was answered with yes and that nobody redrove since. */
  readonly cancelled: Set<string>;
  /** Jobs that were accepted and that no answer ever named. */
  readonly untold: Set<string>;
  readonly violations: string[];
}

export interface Load {
  jobs: number;
  chats: number;
  /** Submitters at once. */
  clients: number;
}

/** How long a client waits for an answer before it asks another node. */
const patienceMs = 4000;

export function createClients(world: World, { jobs, chats, clients }: Load): Clients {
  const { clock } = world;
  const promised = new Map<string, AcceptedJob>();
  const cancelled = new Set<string>();
  /** How often somebody asked for its redrive. */
  const redrives = new Map<string, number>();
  const untold = new Set<string>();
  const violations: string[] = [];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(clock.random() * list.length)] as T;
  const chance = (part: number) => clock.random() < part;
  const pause = (ms: number) => new Promise<void>((resolve) => void clock.after(ms, resolve));
  let offered = 0;
  /** In every other run most builds are shorter than a turn, so that nodes take lanes ahead of free slots. */
  const isQuick = chance(0.5);

  function plan(): AttemptPlan {
    const draw = clock.random();
    const end = draw < 0.86 ? "built" : draw < 0.9 ? "build_failed" : draw < 0.95 ? "run_failed" : draw < 0.97 ? "worker_crashed" : draw < 0.98 ? "out_of_memory" : draw < 0.99 ? "broken" : "never";
    // Some outlast a lease, so that its loss meets builds.
    return { ms: chance(0.01) ? 3000 + Math.floor(3000 * clock.random()) : chance(0.03) ? 300 + Math.floor(900 * clock.random()) : isQuick ? clock.random() : 1 + Math.floor(30 * clock.random()), end, lingerMs: chance(0.2) ? Math.floor(150 * clock.random()) : 0 };
  }
  /** A few texts are submitted over and over, so that what crashes is met again. */
  const texts = Array.from({ length: Math.ceil(jobs / 4) }, () => JSON.stringify([plan(), plan(), plan()]));
  const request = (chatId: string): BuildRequest => ({
    chatId, messageId: "m", code: pick(texts),
    ...(chance(0.1) ? { priority: Math.floor(21 * clock.random()) - 10 } : {}),
    ...(chance(0.004) ? { supersede: chance(0.5) ? ("pending" as const) : ("running" as const) } : {}),
    ...(chance(0.03) ? { delayMs: Math.floor(2000 * clock.random()) } : {}),
  });

  /** Asks nodes until one answers; null when it says no for good, and why. */
  async function ask<T>(what: (queue: BuildQueue) => Promise<T>, refused: (error: unknown) => void = () => {}): Promise<T | null> {
    for (;;) {
      const open = world.open();
      if (open.length > 0) {
        const answer = await Promise.race([
          what(pick(open).queue as BuildQueue).then((value) => ({ value }), (error: unknown) => ({ error })),
          pause(patienceMs).then(() => null),
        ]);
        if (answer && "value" in answer) return answer.value;
        if (answer && !(answer.error instanceof BuildlaneError && answer.error.retryable)) {
          refused(answer.error);
          return null;
        }
      }
      await pause(100 + 400 * clock.random());
    }
  }

  async function submit(key: string): Promise<void> {
    const size = chance(0.2) ? 1 + Math.floor(8 * clock.random()) : 1;
    const home = `chat${Math.floor(chats * clock.random() ** 2)}`;
    const requests = Array.from({ length: size }, () => request(chance(0.8) ? home : `chat${Math.floor(chats * clock.random())}`));
    offered += size;
    let why: unknown;
    const answer = await ask((queue) => queue.enqueueMany(requests, { idempotencyKey: key }), (error) => (why = error));
    if (!answer && why instanceof BuildlaneError && why.code === "job_not_found") {
      // Its answer was lost, and until it was asked for again, a chat of its had been erased: what is left of it nobody was told of.
      const ids = world.acceptedBy.get(key) ?? [];
      if (!ids.some((id) => world.erased.has(id))) violations.push(`Submission ${key} was said to be removed, and nothing of it was erased.`);
      for (const id of ids) untold.add(id);
      return;
    }
    if (!answer) return void violations.push(`Submission ${key} was refused: ${String(why)}`);
    const latest = new Map<string, number>();
    for (const job of answer.jobs) {
      if (promised.has(job.id)) violations.push(`Job ${job.id} was promised twice.`);
      promised.set(job.id, job);
      if (job.chatSeq <= (latest.get(job.chatId) ?? 0)) violations.push(`Job ${job.id} of chat ${job.chatId} was accepted out of the batch's order.`);
      latest.set(job.chatId, job.chatSeq);
    }
    if (chance(0.05)) await meddle([...promised.values()], home);
  }

  async function meddle(jobs: AcceptedJob[], chatId: string): Promise<void> {
    const { id } = (chance(0.5) ? jobs.at(-1) : pick(jobs)) as AcceptedJob;
    const draw = clock.random();
    if (draw < 0.42) {
      const before = redrives.get(id);
      const answer = await ask((queue) => queue.cancel(id));
      // By the time a slow answer is here, somebody else may have redriven what it ended.
      if (answer && redrives.get(id) === before) cancelled.add(id);
    } else if (draw < 0.7) {
      // Even a no may mean that it was redriven: the first answer was lost, and the second call found it pending.
      redrives.set(id, (redrives.get(id) ?? 0) + 1);
      await ask((queue) => queue.retry(id));
      cancelled.delete(id);
    } else if (draw < 0.88) {
      await ask((queue) => queue.setPolicy(chatId, chance(0.5) ? { whileRetrying: chance(0.7) ? "yield" : "block" } : { afterFailure: chance(0.5) ? "hold" : "skip" }));
    } else if (draw < 0.93) await ask((queue) => queue.resumeChat(chatId));
    else if (draw < 0.97) await ask((queue) => queue.cancelChat(chatId));
    else await ask((queue) => queue.erase(chatId));
  }

  async function client(name: string): Promise<void> {
    for (let count = 0; offered < jobs; count++) {
      await submit(`${name}:${count}`);
      await pause(20 * clock.random());
    }
  }

  return {
    promised, cancelled, untold, violations,
    submitAll: async () => void (await Promise.all(Array.from({ length: clients }, (_, index) => client(`client${index}`)))),
  };
}
