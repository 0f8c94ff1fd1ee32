/** One run from a seed: clients and faults, then calm until everything has come to rest, then every checker. */
import { createHash } from "node:crypto";
import { timeOf } from "../../src/history/check.js";
import type { Violation } from "../../src/history/check.js";
import { verify } from "../../src/history/verify.js";
import type { StoredJob } from "../../src/store/store.js";
import { createClients } from "./clients.js";
import { createFaults } from "./faults.js";
import type { Faults } from "./faults.js";
import { agingMs, createWorld } from "./world.js";
import type { World } from "./world.js";

export interface SimulationOptions {
  seed: number;
  nodes: number;
  chats: number;
  jobs: number;
  clients: number;
  /** Builds that may run at once over all nodes; unset: no cap. */
  clusterMax?: number | undefined;
  /** Mean time between two faults, milliseconds; infinity: none. */
  faultEveryMs: number;
  /** Told of everything as it happens. */
  onLine?: ((line: string) => void) | undefined;
}

export interface SimulationResult {
  violations: (Violation | string)[];
  /** SHA-256 of everything that happened: the same seed and options give the same. */
  trace: string;
  jobs: number;
  attempts: number;
  /** Heads whose wait was judged. */
  waits: number;
  /** Lanes that nodes took ahead of free slots. */
  takenAhead: number;
  faults: Faults["counts"];
  /** Simulated milliseconds from the last fault until nothing was left to do. */
  convergedMs: number;
  simulatedMs: number;
}

/** Most builds take a few milliseconds; one that took longer may have ended long before its end could be recorded. */
const sureMsMax = 100;
/** A lane may be in a node's hand for a moment, and an end for a moment on its way to the record, without a word in the history: others pass it meanwhile. */
const slackMs = 60;
const inHandMs = 50;
/** Everything must be done so long after the last fault, in simulated time. */
const calmMsMax = 600_000;
/** How often it is asked whether all is done, simulated milliseconds. */
const restLookMs = 1000;

export async function simulate({ seed, nodes, chats, jobs, clients, clusterMax, faultEveryMs, onLine }: SimulationOptions): Promise<SimulationResult> {
  const trace = createHash("sha256");
  const onReport = (nodeId: string, report: unknown): void => {
    const line = `${world.clock.monotonic().toFixed(1)} ${nodeId} ${JSON.stringify(report)}`;
    trace.update(line);
    onLine?.(line);
  };
  const world = createWorld({ seed, clusterMax, onReport });
  const { clock, store, watch } = world;
  for (let count = 0; count < nodes; count++) world.startNode();
  const people = createClients(world, { jobs, chats, clients });
  const faults = createFaults(world, { nodes, chats, everyMs: faultEveryMs, onFault: (kind, nodeId) => onLine?.(`${clock.monotonic().toFixed(1)} ${nodeId} ${kind}`) });
  const violations: (Violation | string)[] = [];

  let submitted = false;
  void people.submitAll().then(() => (submitted = true));
  if (Number.isFinite(faultEveryMs)) faults.start();
  await until(world, () => submitted, 3_600_000);
  await faults.end();
  const calmAt = clock.now();
  const rested = await restAfterFaults(world, chats);
  const convergedMs = clock.now() - calmAt;
  if (!submitted) violations.push("The clients never got all their answers.");
  if (!rested) violations.push(`Not everything was done ${calmMsMax / 1000} s after the last fault.`);
  await stopAll(world, violations);

  const promised = [...people.promised.keys()].filter((id) => !world.erased.has(id));
  const verdict = await store.readHistory(async (history) => {
    for await (const page of history.events("chat"))
      for (const event of page) {
        trace.update(JSON.stringify(event));
        if (event.type === "job.rescued" && timeOf(event) > (world.left.get(String(event.data["nodeId"])) ?? Number.POSITIVE_INFINITY)) violations.push(`Job ${event.jobId} was rescued from ${String(event.data["nodeId"])}, which had stopped cleanly.`);
      }
    return verify(history, { agingMs, atRest: true, sureMsMax, slackMs, inHandMs, clusterMax, promised });
  });
  violations.push(...watch.violations, ...people.violations, ...verdict.violations, ...checkCancels(await allJobs(store), people.cancelled));
  const untold = [...people.untold].filter((id) => !world.erased.has(id)).length;
  if (verdict.jobs !== promised.length + untold) violations.push(`${verdict.jobs} jobs exist, ${promised.length} were promised and not erased, and ${untold} accepted untold.`);
  if (verdict.attemptsWithSlots < verdict.attempts) violations.push(`The budget of ${verdict.attempts - verdict.attemptsWithSlots} attempts could not be judged.`);
  return { violations, trace: trace.digest("hex"), jobs: verdict.jobs, attempts: verdict.attempts, waits: verdict.waits, takenAhead: world.takenAhead, faults: faults.counts, convergedMs, simulatedMs: clock.monotonic() };
}

async function until({ clock }: World, done: () => boolean, msMax: number): Promise<boolean> {
  const end = clock.now() + msMax;
  while (!done() && clock.now() < end) await clock.advance(5);
  return done();
}

async function restAfterFaults(world: World, chats: number): Promise<boolean> {
  const { clock, store } = world;
  const end = clock.now() + calmMsMax;
  while (clock.now() < end) {
    const { totalQueued, totalRunning } = await store.stats("everyone");
    if (totalQueued + totalRunning === 0) return true;
    // Somebody looks after chats that are held for a failure.
    for (let chat = 0; chat < chats; chat++) await store.setChatPaused("everyone", `chat${chat}`, false);
    await clock.advance(restLookMs);
  }
  return false;
}

/** A clean stop ends, gives everything back, and leaves no timer behind. */
async function stopAll(world: World, violations: (Violation | string)[]): Promise<void> {
  const stopped = Promise.all(world.nodes.filter((node) => node.process.state !== "dead" && node.queue).map((node) => node.queue?.stop()));
  let done = false;
  void stopped.then(() => (done = true));
  if (!(await until(world, () => done, 60_000))) violations.push("A node's clean stop did not end within 60 s.");
  await world.clock.advance(15_000);
  if (world.clock.pendingTimers > 0) violations.push(`${world.clock.pendingTimers} timers were left when all nodes had stopped.`);
}

function checkCancels(rows: StoredJob[], cancelled: ReadonlySet<string>): string[] {
  return rows.flatMap((job) => (cancelled.has(job.id) && job.failure?.code !== "cancelled" && job.failure?.code !== "superseded" ? [`Job ${job.id} was cancelled and ended as ${job.failure?.code ?? job.status}.`] : []));
}

async function allJobs(store: World["store"]): Promise<StoredJob[]> {
  const rows: StoredJob[] = [];
  let cursor: string | undefined;
  do {
    const page = await store.list("everyone", { limit: 1000, include: { code: false, result: false }, ...(cursor ? { cursor } : {}) });
    rows.push(...page.jobs);
    cursor = page.nextCursor ?? undefined;
  } while (cursor);
  return rows;
}
