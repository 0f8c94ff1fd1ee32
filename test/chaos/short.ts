/**
 * Chaos where runs take no time, so that lanes are taken ahead of free slots all the while (src/hand.ts): nodes with runs of
 * their own on one PostgreSQL, a deep backlog, a share of runs that last, fail or are tried again, people who cancel and pause,
 * and faults by a seed. Afterwards `buildlane verify` judges what is on record, and `witness.ts` what the runs themselves saw.
 */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { appendFileSync, createReadStream } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { postgresCluster } from "../support/postgres-cluster.js";
import { tempFolder } from "../support/temp.js";
import { chance, faultsOf, startUntilUp, untilAnswered, verifyAtRest } from "./chaos.js";
import { judgeWitness } from "./witness.js";
import type { Testimony, WitnessedJob } from "./witness.js";

export interface ShortChaosOptions {
  seed: number;
  nodes: number;
  chats: number;
  /** Unfinished jobs that clients keep up. */
  backlog: number;
  /** Most runs take up to so long, milliseconds; 0: no time at all. */
  longestMs?: number;
  kills: number;
  stops: number;
  crashes: number;
  /** Times in which the database is away for longer than a lease. */
  outages: number;
  cuts: number;
  /** Of a node, for longer than its lease. */
  freezes: number;
  /** Of the whole queue. */
  pauses: number;
  /** Told of each fault as it is done. */
  onLine?: (line: string) => void;
}

export interface ShortChaosResult {
  faults: Record<string, number>;
  accepted: number;
  refused: number;
  unanswered: number;
  jobs: number;
  /** Jobs by status, and by failure code where they failed. */
  ends: Record<string, number>;
  /** Runs that went on record as started and ended at once: they began ahead of their record. */
  ranThrough: number;
  /** Starts that tell of a wait in a node's hand: in the one that began them, and in one that did not. */
  takenAt: number;
  inHandUntil: number;
  testimony: Testimony;
  restMs: number;
  verified: boolean;
  verdict: string;
}

type Fault = "kill" | "stop" | "freeze" | "crash" | "outage" | "cut" | "pause";
interface Node {
  name: string;
  child: ChildProcess;
  /** Rejects when the node is gone, or refuses. */
  ask(verb: string, ...args: unknown[]): Promise<any>;
  exited: Promise<number | NodeJS.Signals>;
}

const slots = 3;
const leaseMs = 2000;
const restMsMax = 60_000;
/** Batches are accepted into many lanes at once, which count as in line from before the commit; that may wait for the disk for so long beside other work. */
const slackMs = 2000;
const program = path.resolve(import.meta.dirname, "short-node.mjs");
/** Every fifth chat has priorities, and at times lets others pass while a job is tried again: there a job may go before one that is in hand already. */
const isOrdered = (chatId: string): boolean => Number(chatId.slice(4)) % 5 !== 0;

async function startNode(name: string, witness: string, databaseUrl: string, cap: number): Promise<Node> {
  const options = { databaseUrl, concurrency: slots, clusterConcurrency: cap, leaseMs, drainMs: 1000, maxPending: 1e6, maxPendingPerChat: 1e5, retryBaseMs: 20, retryMaxMs: 200, maxNodeLosses: 50, retention: "7d,10000000" };
  const child = fork(program, [JSON.stringify({ name, witness, options })], { stdio: ["ignore", "ignore", "pipe", "ipc"], execArgv: [] });
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => void (said += chunk.toString()));
  const exited = new Promise<number | NodeJS.Signals>((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal ?? 0)));
  const asked = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  void exited.then(() => asked.forEach(({ reject }) => reject(new Error("gone"))));
  let count = 0;
  await new Promise<void>((resolve, reject) => {
    child.on("message", (message: { ready?: true; id: number; value?: unknown; code?: string }) => {
      if (message.ready) return resolve();
      const one = asked.get(message.id);
      asked.delete(message.id);
      if (message.code === undefined) one?.resolve(message.value);
      else one?.reject(new Error(message.code));
    });
    void exited.then((code) => reject(new Error(`the node exited with ${code}: ${said.slice(-2000)}`)));
  });
  return {
    name, child, exited,
    ask: (verb, ...args) =>
      new Promise((resolve, reject) => {
        const id = ++count;
        if (!child.connected) return reject(new Error("gone"));
        asked.set(id, { resolve, reject });
        child.send({ id, verb, args }, (error) => error && reject(new Error("gone")));
      }),
  };
}

export async function shortChaos({ seed, nodes, chats, backlog, longestMs = 0, onLine = () => {}, ...wanted }: ShortChaosOptions): Promise<ShortChaosResult> {
  const random = chance(seed);
  const between = (from: number, to: number) => from + (to - from) * random();
  const oneOf = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const faults = faultsOf<Fault>({ kill: wanted.kills, stop: wanted.stops, freeze: wanted.freezes, crash: wanted.crashes, outage: wanted.outages, cut: wanted.cuts, pause: wanted.pauses }, random);
  // It binds while one node takes another's place, and as long as a dead one's lease lasts.
  const cap = nodes * slots;
  await using folder = await tempFolder();
  await using cluster = await postgresCluster({ durable: true });
  const admin = postgres(cluster.url, { max: 3, onnotice: () => {}, backoff: () => 0.05, fetch_types: false });
  const witness = path.join(folder.path, "witness");
  const say = (...words: string[]) => appendFileSync(witness, `${words.join(" ")}\n`);
  const all: Node[] = [];
  let named = 0;
  let living: Node[] = [];
  let isCalm = false;
  const start = async (): Promise<Node> => {
    const node = await startUntilUp(() => startNode(`n${named++}`, witness, cluster.url, cap));
    all.push(node);
    return node;
  };
  const query = untilAnswered(admin);
  /** Asks any node until one does it: whatever was paused must be resumed. */
  const insist = async (verb: string, ...args: unknown[]): Promise<void> => {
    for (;;) {
      const done = await oneOf(living)?.ask(verb, ...args).then(() => true, () => false);
      if (done) return;
      await sleep(50);
    }
  };

  const promised: string[] = [];
  const answers: Promise<void>[] = [];
  let refused = 0;
  let unanswered = 0;
  let unfinished = 0;
  let count = 0;
  function request(): Record<string, unknown> {
    const chatId = `chat${Math.floor(random() * chats)}`;
    const kind = random();
    const code = kind < 0.89 ? (longestMs > 0 ? `wait ${Math.round(between(0, longestMs))}` : "quick") : kind < 0.93 ? `wait ${Math.round(between(1, 40))}` : kind < 0.932 ? `wait ${Math.round(between(300, 1500))}` : kind < 0.935 ? `busy ${Math.round(between(5, 150))}` : kind < 0.985 ? `fail ${1 + Math.floor(random() * 2)}` : "final";
    return {
      chatId, messageId: `m${count++}`, code,
      ...(isOrdered(chatId) || random() < 0.7 ? {} : { priority: Math.round(between(-3, 3)) }),
      ...(random() < 0.01 ? { delayMs: Math.round(between(10, 400)) } : {}),
      ...(random() < 0.005 ? { supersede: random() < 0.5 ? "pending" : "running" } : {}),
    };
  }
  /** Keeps the backlog up, by one and by many. */
  async function client(): Promise<void> {
    while (!isCalm) {
      const node = oneOf(living);
      if (!node || unfinished > backlog) {
        await sleep(10);
        continue;
      }
      const requests = Array.from({ length: random() < 0.3 ? 1 : 1 + Math.floor(random() * 60) }, request);
      const answer = (requests.length === 1 ? node.ask("enqueue", requests[0]).then((job: { id: string }) => [job]) : node.ask("enqueueMany", requests).then(({ jobs }: { jobs: { id: string }[] }) => jobs)).then(
        (jobs: { id: string }[]) => {
          promised.push(...jobs.map(({ id }) => id));
          unfinished += jobs.length;
        },
        (error: Error) => void (error.message === "gone" ? unanswered++ : refused++),
      );
      answers.push(answer);
      // A node may be frozen: the others are asked meanwhile.
      await Promise.race([answer, sleep(300)]);
    }
  }
  /** Cancels what is new, and pauses chats for a moment. */
  async function meddler(): Promise<void> {
    while (!isCalm) {
      await sleep(between(5, 60));
      const chatId = `chat${Math.floor(random() * chats)}`;
      if (random() < 0.8) await oneOf(living)?.ask("cancel", promised[promised.length - 1 - Math.floor(random() * Math.min(200, promised.length))]).catch(() => {});
      else if (random() < 0.2) await oneOf(living)?.ask("cancelChat", chatId).catch(() => {});
      else if (!isOrdered(chatId)) await oneOf(living)?.ask("setPolicy", chatId, { whileRetrying: random() < 0.5 ? "yield" : "block" }).catch(() => {});
      else {
        await oneOf(living)?.ask("pauseChat", chatId).catch(() => {});
        await sleep(between(5, 200));
        // Even when nobody answered: it may have been done.
        await insist("resumeChat", chatId);
      }
    }
  }
  /** Says which ends are on record, whoever recorded them. */
  async function clerk(): Promise<void> {
    while (!isCalm) {
      await sleep(200);
      const rows = await query<{ id: string }>("select id from build_jobs where status in ('completed', 'failed') and completed_at > clock_timestamp() - interval '400 milliseconds' and failure_code is distinct from 'cancelled' and failure_code is distinct from 'superseded'");
      for (const { id } of rows) say("recorded", id);
      unfinished = (await query<{ n: number }>("select count(*)::int as n from build_jobs where status in ('pending', 'running')"))[0]?.n ?? 0;
    }
  }

  async function end(node: Node, signal: NodeJS.Signals): Promise<void> {
    living = living.filter((one) => one !== node);
    node.child.kill(signal);
    const how = await node.exited;
    if (signal === "SIGTERM" && how !== 0) throw new Error(`node ${node.name} ended with ${how} when it was asked to stop`);
    say(signal === "SIGTERM" ? "left" : "killed", node.name);
  }
  async function replace(signal: NodeJS.Signals): Promise<void> {
    const node = oneOf(living);
    if (!node) return;
    const [next] = await Promise.all([random() < 0.5 ? start() : null, end(node, signal)]);
    living.push(next ?? (await start()));
  }
  async function away(ms: number): Promise<void> {
    await cluster.stop("immediate");
    await sleep(ms);
    await cluster.start();
  }
  const done: Record<Fault, () => Promise<unknown>> = {
    kill: () => replace("SIGKILL"),
    stop: () => replace("SIGTERM"),
    async freeze() {
      const node = oneOf(living);
      if (!node) return;
      node.child.kill("SIGSTOP");
      // By then it stands.
      await sleep(50);
      say("frozen", node.name);
      await sleep(leaseMs + between(200, 1000));
      node.child.kill("SIGCONT");
    },
    crash: () => away(between(50, 700)),
    outage: () => away(leaseMs * between(1, 1.7)),
    cut: () => query("select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'buildlane' and random() < 0.5"),
    async pause() {
      await oneOf(living)?.ask("pause").catch(() => {});
      await sleep(between(20, 400));
      await insist("resume");
    },
  };

  try {
    living = await Promise.all(Array.from({ length: nodes }, start));
    const people = [...Array.from({ length: 3 }, client), meddler(), meddler(), clerk()];
    const counts: Record<string, number> = {};
    for (const fault of faults) {
      await sleep(between(100, 900));
      const from = performance.now();
      await done[fault]();
      counts[fault] = (counts[fault] ?? 0) + 1;
      onLine(`${fault} (${Math.round(performance.now() - from)} ms), ${promised.length} accepted, ${unfinished} unfinished`);
    }
    await sleep(500);
    const calmAt = performance.now();
    isCalm = true;
    await Promise.all(people);
    await Promise.all(answers);
    const left = async () => (await query<{ n: number }>("select count(*)::int as n from build_jobs where status in ('pending', 'running')"))[0]?.n ?? 0;
    while ((await left()) > 0 && performance.now() - calmAt < restMsMax) await sleep(50);
    const restMs = performance.now() - calmAt;
    await Promise.all(living.map((node) => end(node, "SIGTERM")));

    const jobs = await query<WitnessedJob>(`select id, chat_id as "chatId", status, failure_code as "failureCode", coalesce(result, error) as result from build_jobs`);
    const ends: Record<string, number> = {};
    for (const { status, failureCode } of jobs) ends[failureCode ?? status] = (ends[failureCode ?? status] ?? 0) + 1;
    const lines: string[] = [];
    for await (const line of createInterface({ input: createReadStream(witness) })) lines.push(line);
    const testimony = judgeWitness(lines, jobs, { slots, cap, isOrdered });
    const [ahead] = await query<{ ranThrough: number; takenAt: number; inHandUntil: number }>(`select
      (select count(*)::int from job_events s join job_events c on c.chat_id = s.chat_id and c.number = s.number + 1 and c.xmin = s.xmin where s.type = 'job.started' and c.type = 'job.completed') as "ranThrough",
      count(*) filter (where data ? 'takenAt')::int as "takenAt", count(*) filter (where data ? 'inHandUntil')::int as "inHandUntil" from job_events where type = 'job.started'`);
    const verdict = await verifyAtRest(cluster.url, promised, folder.path, ["--slack-ms", String(slackMs)]);
    return { faults: counts, accepted: promised.length, refused, unanswered, jobs: jobs.length, ends, ...(ahead as NonNullable<typeof ahead>), testimony, restMs, ...verdict };
  } finally {
    isCalm = true;
    for (const node of all) node.child.kill("SIGKILL");
    await Promise.all(all.map((node) => node.exited));
    await admin.end({ timeout: 1 });
  }
}
