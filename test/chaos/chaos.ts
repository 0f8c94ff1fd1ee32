/**
 * Chaos for real: service processes on one PostgreSQL, clients that never stop submitting, and faults in an order and at
 * times that a seed decides. Afterwards everything must come to rest, and `buildlane verify` reads the whole history.
 * The seed fixes the faults, not the machine's timing: it finds the same weather again, not the same run.
 */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import postgres from "postgres";
import { commandLine } from "../support/command.js";
import { postgresCluster } from "../support/postgres-cluster.js";
import { startService } from "../support/service.js";
import type { Service } from "../support/service.js";
import { tempFolder } from "../support/temp.js";

export interface ChaosOptions {
  seed: number;
  nodes: number;
  clients: number;
  chats: number;
  /** The cluster's cap; a third less than all slots. */
  cap: number;
  kills: number;
  pauses: number;
  stops: number;
  crashes: number;
  restarts: number;
  cuts: number;
  /** Told of each fault as it is done. */
  onLine?: (line: string) => void;
}

export interface ChaosResult {
  faults: Record<string, number>;
  accepted: number;
  refused: number;
  unanswered: number;
  jobs: number;
  /** Milliseconds from a kill until all that the node had in hand ran elsewhere or was done. */
  rescueMs: number[];
  /** Milliseconds from the last fault until nothing was left to do. */
  restMs: number;
  /** Writes of nodes that no longer had the lane, and leases that ended in a living process. */
  refusedOutcomes: number;
  lostLeases: number;
  verified: boolean;
  verdict: string;
}

type Fault = "kill" | "pause" | "stop" | "crash" | "restart" | "cut";
const slots = 3;
const leaseMs = 4000;
const restMsMax = 60_000;

/** mulberry32: small, and the same on every machine. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Each kind as often as is said, in an order that `random` decides. */
export const faultsOf = <K extends string>(counts: Record<K, number>, random: () => number): K[] => shuffled(Object.entries<number>(counts).flatMap(([kind, count]) => Array.from({ length: count }, () => kind as K)), random);

function shuffled<T>(items: T[], random: () => number): T[] {
  const left = [...items];
  return items.map(() => left.splice(Math.floor(random() * left.length), 1)[0] as T);
}

/** Starts a node as a supervisor of processes would: the database may be away at the moment. */
export async function startUntilUp<T>(start: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await start();
    } catch (error) {
      if (!/database/.test(String(error))) throw error;
      await sleep(100);
    }
  }
}

/** Asks the database until it answers. */
export const untilAnswered = (admin: postgres.Sql) => async <T>(statement: string, args: string[] = []): Promise<T[]> => {
  for (;;) {
    try {
      return (await admin.unsafe(statement, args)) as unknown as T[];
    } catch {
      await sleep(50);
    }
  }
};

export async function chaos({ seed, nodes, clients, chats, cap, onLine = () => {}, ...wanted }: ChaosOptions): Promise<ChaosResult> {
  const random = chance(seed);
  const between = (from: number, to: number) => from + (to - from) * random();
  const faults = faultsOf<Fault>({ kill: wanted.kills, pause: wanted.pauses, stop: wanted.stops, crash: wanted.crashes, restart: wanted.restarts, cut: wanted.cuts }, random);
  await using folder = await tempFolder();
  await using cluster = await postgresCluster({ durable: true });
  const admin = postgres(cluster.url, { max: 2, onnotice: () => {}, backoff: () => 0.05, fetch_types: false });
  const env = { DATABASE_URL: cluster.url, LOG_LEVEL: "info", BUILDLANE_CONCURRENCY: String(slots), BUILDLANE_CLUSTER_CONCURRENCY: String(cap), BUILDLANE_MAX_PENDING_PER_CHAT: "100000", BUILDLANE_MAX_PENDING: "1000000" };
  const services: Service[] = [];
  const logs: string[] = [];
  let living: Service[] = [];
  const start = async (): Promise<Service> => {
    const service = await startUntilUp(() => startService(env));
    services.push(service);
    return service;
  };
  const idOf = (service: Service): string => /"nodeId":"(\w+)"/.exec(service.output())?.[1] ?? "";
  const ask = untilAnswered(admin);
  const pick = (): Service => living[Math.floor(random() * living.length)] as Service;

  const promised: string[] = [];
  let refused = 0;
  let unanswered = 0;
  let submitting = true;
  async function client(index: number): Promise<void> {
    for (let count = 0; submitting; count++) {
      const service = living[(index + count) % living.length];
      if (service) {
        // Some take a while, some do not build, some go first.
        const code = count % 4 === 0 ? `export const a = [${"{ x: [1, 2, 3] },".repeat(25_000)}];` : count % 11 === 0 ? "const = ;" : `export const v: number = ${count};`;
        const extra = { ...(count % 13 === 0 ? { priority: (count % 3) - 1 } : {}), options: { minify: count % 4 === 0 } };
        try {
          const response = await fetch(`${service.url}/api/builds`, {
            method: "POST", signal: AbortSignal.timeout(8000), headers: { "content-type": "application/json" },
            body: JSON.stringify({ chatId: `chat${(index * 5 + count) % chats}`, messageId: `c${index}m${count}`, code, ...extra }),
          });
          const { data } = (await response.json()) as { data: { id: string } };
          if (response.status === 202) promised.push(data.id);
          else refused++;
        } catch {
          unanswered++;
        }
      }
      await sleep(150);
    }
  }

  const rescueMs: number[] = [];
  async function replace(dead: Service): Promise<void> {
    await dead.exited;
    const next = await start();
    living = [...living.filter((one) => one !== dead), next];
  }
  async function kill(): Promise<void> {
    const victim = pick();
    const nodeId = idOf(victim);
    // In the middle of work, if it has any within two seconds.
    for (const until = performance.now() + 2000; performance.now() < until; ) {
      if ((await ask<{ n: number }>("select count(*)::int as n from chat_lanes where owner = $1", [nodeId]))[0]?.n) break;
    }
    victim.kill("SIGKILL");
    const from = performance.now();
    living = living.filter((one) => one !== victim);
    const back = replace(victim);
    await sleep(20);
    const held = await ask<{ id: string; attempt: number }>("select id, attempt from build_jobs where owner = $1 and status = 'running'", [nodeId]);
    const still = () =>
      ask<{ n: number }>(
        "select count(*)::int as n from build_jobs j join unnest(string_to_array($1, ',')) as h (id) using (id) where not (j.status in ('completed', 'failed') or j.status = 'running' and j.owner <> $2)",
        [held.map((job) => job.id).join(","), nodeId],
      );
    if (held.length > 0) {
      while ((await still())[0]?.n) await sleep(25);
      rescueMs.push(performance.now() - from);
    }
    await back;
  }
  const done: Record<Fault, () => Promise<unknown>> = {
    kill,
    async pause() {
      const frozen = pick();
      frozen.kill("SIGSTOP");
      await sleep(leaseMs + between(300, 1500));
      frozen.kill("SIGCONT");
    },
    async stop() {
      const leaving = pick();
      living = living.filter((one) => one !== leaving);
      leaving.kill("SIGTERM");
      await replace(leaving);
    },
    async crash() {
      await cluster.stop("immediate");
      await sleep(between(100, 1500));
      await cluster.start();
    },
    restart: () => cluster.restart("fast"),
    cut: () => ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'buildlane' and random() < 0.5"),
  };

  try {
    living = await Promise.all(Array.from({ length: nodes }, start));
    const people = Array.from({ length: clients }, (_, index) => client(index));
    const counts: Record<string, number> = {};
    for (const fault of faults) {
      await sleep(between(100, 900));
      const from = performance.now();
      await done[fault]();
      counts[fault] = (counts[fault] ?? 0) + 1;
      onLine(`${fault} (${Math.round(performance.now() - from)} ms), ${promised.length} accepted`);
    }
    const calmAt = performance.now();
    submitting = false;
    await Promise.all(people);
    const unfinished = async () => (await ask<{ n: number }>("select count(*)::int as n from build_jobs where status in ('pending', 'running')"))[0]?.n ?? 0;
    while ((await unfinished()) > 0 && performance.now() - calmAt < restMsMax) await sleep(50);
    const restMs = performance.now() - calmAt;
    const jobs = (await ask<{ n: number }>("select count(*)::int as n from build_jobs"))[0]?.n ?? 0;
    const verdict = await verifyAtRest(cluster.url, promised, folder.path, ["--cluster-max", String(cap)]);
    logs.push(...services.map((service) => service.output()));
    const said = (event: string) => logs.join("").split(`"event":"${event}"`).length - 1;
    return { faults: counts, accepted: promised.length, refused, unanswered, jobs, rescueMs, restMs, refusedOutcomes: said("outcome.refused"), lostLeases: said("lease.lost"), ...verdict };
  } finally {
    submitting = false;
    for (const service of services) service.kill("SIGKILL");
    await Promise.all(services.map((service) => service.exited));
    await admin.end({ timeout: 1 });
  }
}

/** What `buildlane verify` says of the whole history, and of each id that was answered. */
export async function verifyAtRest(databaseUrl: string, promised: string[], folder: string, more: string[] = []): Promise<{ verified: boolean; verdict: string }> {
  const list = path.join(folder, "promised");
  await writeFile(list, promised.join("\n"));
  return await promisify(execFile)(process.execPath, commandLine("verify", "--at-rest", "--promised", list, ...more), { env: { PATH: process.env["PATH"] ?? "", DATABASE_URL: databaseUrl }, maxBuffer: 1e8 }).then(
    ({ stdout }) => ({ verified: true, verdict: stdout }),
    (error: { stdout?: string; stderr?: string }) => ({ verified: false, verdict: `${error.stdout ?? ""}${error.stderr ?? String(error)}` }),
  );
}

export const middle = (numbers: number[]): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
