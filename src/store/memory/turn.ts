/** turn and rescue: attempts end, lanes go back in line, and the heads of the first in line start. */
import type { AcceptAnswer, AcceptGroup, AcceptLimits, Claim, Ending, Rescued, Settled, StartRequest, TurnAnswer, TurnRequest } from "../store.js";
import type { Failure } from "../../job.js";
import { accept } from "./accept.js";
import { nextLanes } from "./next-lanes.js";
import { copy, enterFinished, enterPending, failedData, failPending, failureOf, hold, iso, laneOf, leavePending, lineUp, lineUpDue, supersededMessage, write } from "./tables.js";
import type { JobRow, Lane, Tables } from "./tables.js";

/** How an attempt ends, as a node offers it or as its loss is found. */
type Offered = Omit<Ending, "end"> & { nodeId: string; end: Ending["end"] | { kind: "rescued"; nodeLossesMax: number } };

/** Crashes of the same code after which it is quarantined. */
const crashesMax = 2;
/** The code's own doing: the machinery's failures are `blameless`. */
const isCrash = (end: Offered["end"]): end is Extract<Offered["end"], { failure: Failure }> =>
  "failure" in end && !end.blameless && (end.failure.code === "worker_crashed" || end.failure.code === "out_of_memory");

export function turn(tables: Tables, request: TurnRequest, at: number): TurnAnswer {
  const { nodeId, endings, want, begun = [] } = request;
  const onRecord = recordAhead(tables, request, at);
  const settled = endAttempts(tables, endings.map((ending) => ({ ...ending, nodeId })), at);
  const mayClaim = tables.queuePausedAt === null && isAlive(tables, nodeId, at);
  const claims = mayClaim ? claim(tables, request, at) : [];
  // Where a start needs more than its turn in line, a permit of the cluster's or a tenant's share, nothing is taken ahead of it.
  const mayTake = mayClaim && claims.length === want && !tables.capBinds && tables.shares.next.size === 0;
  return { settled, claims: mayTake ? [...claims, ...takeAhead(tables, request, at)] : claims, onRecord, refused: begun.flatMap(({ jobId }) => (onRecord.includes(jobId) ? [] : [jobId])), atMs: at };
}

const isAlive = (tables: Tables, nodeId: string, at: number): boolean => (tables.nodes.get(nodeId)?.leaseUntil ?? Number.NEGATIVE_INFINITY) > at;
/** A time that a node reckoned; never a later one than this. */
const reckoned = (ms: number | undefined, at: number): number => Math.min(at, ms ?? at);
/** What lies within is not worth a word, milliseconds. */
const momentMs = 25;

/** What a node says of lanes that it took ahead: runs that began start on record, and what goes back does. Which of those begun are on record now. */
function recordAhead(tables: Tables, { nodeId, begun = [], endings, handMs = 0 }: TurnRequest, at: number): string[] {
  const mayStart = isAlive(tables, nodeId, at) && !tables.capBinds;
  const over = endings.flatMap(({ startedMs, ...ending }) => (startedMs === undefined || ending.end.kind === "returned" ? [] : [{ ...ending, startedMs }]));
  for (const { jobId, chatId, attempt, fence, claimId, startedMs } of [...begun, ...over]) {
    const lane = tables.lanes.get(chatId);
    const job = tables.jobs.get(jobId);
    if (!lane || !job || !mayStart || lane.pending.first !== job || job.attempt + 1 !== attempt || !isInHand(lane, fence, claimId) || (lane.state !== "ready" && lane.state !== "delayed")) continue;
    if (tables.queuePausedAt !== null && reckoned(startedMs, at) > tables.queuePausedAt) continue;
    // What began before it was cancelled and redriven is the run of what was cancelled.
    if (job.runAt > job.createdAt && reckoned(startedMs, at) < job.runAt) continue;
    const takenAt = (lane.taken?.until ?? at) - handMs;
    const startedAt = Math.max(reckoned(startedMs, at), lane.settledAt ?? Number.NEGATIVE_INFINITY, job.createdAt);
    start(tables, lane, job, { nodeId, fence, claimId }, startedAt, startedAt > takenAt + momentMs ? { takenAt: iso(takenAt) } : {});
  }
  for (const { chatId, fence, claimId, startedMs, end } of endings) {
    const lane = startedMs !== undefined || end.kind === "returned" ? tables.lanes.get(chatId) : undefined;
    // What is over is anybody's at once; that it was in hand until now is told with its start. A run that is refused goes on for a moment: its lane stays in hand.
    if (lane && isInHand(lane, fence, claimId)) lane.taken = { until: at, claimId: null };
  }
  return begun.flatMap(({ jobId, fence, claimId }) => {
    const held = tables.jobs.get(jobId)?.held;
    return held?.fence === fence && held.claimId === claimId ? [jobId] : [];
  });
}

const isInHand = (lane: Lane, fence: number, claimId: string): boolean => lane.running === null && lane.fence === fence && lane.taken?.claimId === claimId;

/** Takes the next lanes in line, up to one that must wait for a slot of its own. */
function takeAhead(tables: Tables, { nodeId, claimId, lineFrom, ahead = 0, handMs = 0 }: TurnRequest, at: number): Claim[] {
  if (ahead === 0) return [];
  const nodes = [...tables.nodes.values()].filter(({ leaseUntil }) => leaseUntil > at).length;
  // Where others claim too, a turn takes no more than its node's part of half of a long line, and nothing of a short one: so whoever is in a hand has its turn
  // before the others are through with the rest, and nobody has two turns meanwhile (P8).
  lineUpDue(tables, at);
  const share = nodes > 1 ? Math.floor(tables.ready.size / (2 * nodes)) : Number.POSITIVE_INFINITY;
  if (share < 2 * (tables.nodes.get(nodeId)?.slots ?? 0)) return [];
  const lanes = nextLanes(tables, Math.min(ahead, share), at, lineFrom);
  const apart = lanes.findIndex(({ taken, pending: { first } }) => taken !== null || !first || first.attempt > 0 || first.priority !== 0 || isQuarantined(tables, first));
  return lanes.slice(0, apart < 0 ? lanes.length : apart).map((lane) => {
    lane.taken = { until: at + handMs, claimId };
    const job = lane.pending.first as JobRow;
    return claimOf({ ...job, attempt: job.attempt + 1 }, { fence: ++lane.fence, claimId }, null);
  });
}

/** Accepts, and starts what a turn would then, unless something was refused or is there already. */
export function acceptAndStart(tables: Tables, groups: AcceptGroup[], limits: AcceptLimits, start: StartRequest, at: number): { answers: AcceptAnswer[]; claims: Claim[] } {
  const answers = accept(tables, groups, limits, at);
  const isNew = answers.every(({ kind }) => kind === "accepted");
  return { answers, claims: isNew ? turn(tables, { ...start, endings: [] }, at).claims : [] };
}

/** Puts the lanes of nodes whose lease is over back in line. */
export function rescue(tables: Tables, { nodeId, nodeLossesMax, limit }: { nodeId: string; nodeLossesMax: number; limit: number }, at: number): Rescued[] {
  const lost = [...tables.owned].filter(([owner]) => owner !== nodeId && (tables.nodes.get(owner)?.leaseUntil ?? Number.NEGATIVE_INFINITY) <= at);
  const held = (isDraining: boolean) => lost.filter(([owner]) => (tables.nodes.get(owner)?.draining ?? false) === isDraining).flatMap(([, owned]) => [...owned]);
  // A node that drained had its clean stop begun: that its last words did not arrive is no loss of a node.
  const offered = [...inHand(held(true), { kind: "released" }), ...inHand(held(false), { kind: "rescued", nodeLossesMax })];
  return endAttempts(tables, offered.slice(0, limit), at).flatMap((one): Rescued[] => (one.kind === "settled" ? [{ jobId: one.jobId, chatId: one.chatId, status: one.status as Rescued["status"] }] : []));
}

/** A node's clean stop: its lanes go back in line, and its lease is over. */
export function leave(tables: Tables, { nodeId }: { nodeId: string }, at: number): void {
  const node = tables.nodes.get(nodeId);
  if (node) node.leaseUntil = Math.min(node.leaseUntil, at);
  endAttempts(tables, inHand([...(tables.owned.get(nodeId) ?? [])], { kind: "released" }), at);
}

/** The attempts that run in these lanes, by chat. */
const inHand = (lanes: Lane[], end: Offered["end"]): Offered[] =>
  lanes
    .sort((a, b) => (a.chatId < b.chatId ? -1 : 1))
    .flatMap(({ running }) => (running?.held ? [{ jobId: running.id, chatId: running.chatId, attempt: running.attempt, ...running.held, end }] : []));

/** Records the ends whose guard holds. */
function endAttempts(tables: Tables, endings: Offered[], at: number): Settled[] {
  // Crashes first, for all that end together: the second of two crashes counts for the first one's job as well.
  for (const ending of new Map(endings.map((one) => [one.jobId, one])).values()) {
    const job = guarded(tables, ending);
    if (job) countCrash(tables, job, ending, at);
  }
  return endings.map((ending) => {
    const job = guarded(tables, ending);
    return job ? endAttempt(tables, job, ending, at) : { kind: "notMine", jobId: ending.jobId };
  });
}

/** The fence (P5): whatever differs, the lane is somebody else's by now. */
function guarded(tables: Tables, { jobId, chatId, attempt, nodeId, fence, claimId, end }: Offered): JobRow | null {
  const job = tables.jobs.get(jobId);
  const holds = end.kind !== "returned" && job?.status === "running" && job.chatId === chatId && job.attempt === attempt && job.held?.nodeId === nodeId && job.held.fence === fence && job.held.claimId === claimId;
  return holds ? job : null;
}

/** Two crashed workers, or too many lost nodes, and the code itself is refused from now on. */
function countCrash(tables: Tables, job: JobRow, { end }: Offered, at: number): void {
  const lost = end.kind === "rescued" && job.nodeLosses + 1 >= end.nodeLossesMax;
  const crashed = isCrash(end);
  if (job.cancelRequestedAt !== null || !(lost || crashed)) return;
  const cause = "failure" in end ? end.failure.code : "node_lost";
  const crashes = tables.crashes.get(job.codeHash) ?? { count: 0, cause, crashedAt: at, quarantinedAt: null };
  tables.crashes.set(job.codeHash, crashes);
  if (crashed) crashes.count++;
  crashes.crashedAt = Math.max(crashes.crashedAt, at);
  if (crashes.quarantinedAt !== null) return;
  crashes.cause = cause;
  if (lost || crashes.count >= crashesMax) crashes.quarantinedAt = at;
}

const isQuarantined = (tables: Tables, job: JobRow): boolean => typeof tables.crashes.get(job.codeHash)?.quarantinedAt === "number";

/** What really happens: a requested cancel wins, quarantined code is not tried again, too many lost nodes are enough. */
function decide(tables: Tables, job: JobRow, { end }: Offered): Ending["end"] | { kind: "rescued" } {
  const failedAs = (failure: Failure): Ending["end"] => ({ kind: "failed", failure, error: failure.message });
  if (job.supersededBy !== null) return failedAs(failureOf("superseded", supersededMessage));
  if (job.cancelRequestedAt !== null) return failedAs(failureOf("cancelled", "Cancelled while it ran."));
  if (end.kind === "rescued")
    return job.nodeLosses >= end.nodeLossesMax ? failedAs(failureOf("node_lost", `The nodes that ran it were lost, ${job.nodeLosses} times.`, true)) : { kind: "rescued" };
  if (!isCrash(end) || !isQuarantined(tables, job)) return end;
  return { kind: "failed", failure: { ...end.failure, quarantined: true, retryable: false }, error: end.error };
}

function endAttempt(tables: Tables, job: JobRow, offered: Offered, at: number): Settled {
  const lane = laneOf(tables, job.chatId);
  const startedAt = job.startedAt ?? at;
  const endedAt = Math.max(reckoned(offered.endedMs, at), startedAt);
  const lostNodeId = job.held?.nodeId;
  if (offered.end.kind === "rescued") job.nodeLosses++;
  else if (offered.end.kind !== "released") job.spent++;
  const end = decide(tables, job, offered);
  const run = { ...(offered.runMs === undefined ? {} : { runMs: Math.round(offered.runMs) }), ...(at > endedAt + momentMs ? { recordedAt: iso(at) } : {}) };

  free(tables, lane, job);
  lane.settledAt = endedAt;
  const taken = end.kind === offered.end.kind && "origin" in end ? end.origin : undefined;
  job.origin = taken ? { ...taken } : null;
  if (end.kind === "completed") {
    job.built = { result: end.result, sourceMap: end.sourceMap, warnings: copy(end.warnings), externals: copy(end.externals) };
    enterFinished(tables, lane, job, "completed", endedAt);
    write(lane, job, "job.completed", endedAt, { resultBytes: Buffer.byteLength(end.result), processingMs: endedAt - startedAt, ...run });
  } else if (end.kind === "failed") {
    job.failed = { failure: copy(end.failure), error: end.error };
    enterFinished(tables, lane, job, "failed", endedAt);
    write(lane, job, "job.failed", endedAt, { ...failedData(end.failure, job), ...run });
    hold(tables, lane, job, at);
  } else {
    job.runAt = at + (end.kind === "retrying" ? end.delayMs : 0);
    if (end.kind === "retrying" && (end.failure.code === "timed_out" || end.failure.code === "out_of_memory")) job.strikes++;
    if (end.kind === "retrying" && lane.policy.whileRetrying === "yield") job.rank = Math.max(job.rank, job.runAt);
    enterPending(tables, lane, job);
    if (end.kind === "retrying") write(lane, job, "job.retrying", endedAt, { failureCode: end.failure.code, message: end.failure.message, runAt: iso(job.runAt), delayMs: end.delayMs, ...run });
    else if (end.kind === "rescued") write(lane, job, "job.rescued", endedAt, { nodeId: lostNodeId, nodeLosses: job.nodeLosses });
    else write(lane, job, "job.released", endedAt, run);
  }
  lineUp(tables, lane, at);
  return {
    kind: "settled", jobId: job.id, chatId: job.chatId, status: job.status, runAt: job.status === "pending" ? iso(job.runAt) : null,
    quarantined: job.failed?.failure.quarantined ?? false, failureCode: "failure" in end ? end.failure.code : null,
  };
}

function free(tables: Tables, lane: Lane, job: JobRow): void {
  const owned = tables.owned.get(job.held?.nodeId ?? "");
  owned?.delete(lane);
  if (owned?.size === 0) tables.owned.delete(job.held?.nodeId ?? "");
  job.held = null;
  lane.running = null;
  tables.totals.running--;
}

/**
 * What a node may start under the cluster's cap. For a while after the cap began to bind, a node may have runs that are on no
 * record: no more than it had slots then, and its own are no more than those that it does not want.
 */
function roomUnderCap(tables: Tables, nodeId: string, want: number, at: number): number {
  if (at >= tables.hands.until) return tables.clusterCap - tables.totals.running;
  let running = 0;
  for (const id of new Set([...tables.owned.keys(), ...tables.hands.slots.keys()])) {
    const inHand = isAlive(tables, id, at) ? (tables.hands.slots.get(id) ?? 0) - (id === nodeId ? want : 0) : 0;
    running += Math.max(tables.owned.get(id)?.size ?? 0, inHand);
  }
  return tables.clusterCap - running;
}

/** Starts the heads of up to `want` lanes from the head of the line. */
function claim(tables: Tables, { nodeId, claimId, want, lineFrom }: StartRequest, at: number): Claim[] {
  const claims: Claim[] = [];
  const most = Math.min(want, roomUnderCap(tables, nodeId, want, at));
  for (;;) {
    const left = most - claims.length;
    if (left <= 0) return claims;
    const lanes = nextLanes(tables, left, at, lineFrom);
    const heads = lanes.flatMap((lane) => (lane.pending.first ? { lane, head: lane.pending.first } : []));
    const bad = heads.filter(({ head }) => isQuarantined(tables, head));
    for (const { head } of bad) {
      const cause = tables.crashes.get(head.codeHash)?.cause ?? "worker_crashed";
      failPending(tables, head, failureOf(cause, `This code was quarantined: ${cause === "node_lost" ? "the nodes that ran it were lost" : "it crashed its worker twice"}.`, true), at);
    }
    const good = heads.filter((one) => !bad.includes(one)).sort((a, b) => a.lane.turnAt - b.lane.turnAt || (a.lane.chatId < b.lane.chatId ? -1 : 1));
    for (const { lane, head } of good) claims.push(start(tables, lane, head, { nodeId, claimId, fence: ++lane.fence }, at, lane.taken ? { inHandUntil: iso(lane.taken.until) } : {}));
    // Another round only when quarantined heads took places that the next in line may have.
    if (bad.length === 0) return claims;
  }
}

function start(tables: Tables, lane: Lane, job: JobRow, held: NonNullable<JobRow["held"]>, at: number, data: Record<string, unknown> = {}): Claim {
  leavePending(tables, lane, job);
  job.status = "running";
  job.attempt++;
  job.startedAt = Math.max(at, lane.settledAt ?? at);
  job.held = held;
  lane.running = job;
  tables.totals.running++;
  tables.owned.set(held.nodeId, (tables.owned.get(held.nodeId) ?? new Set<Lane>()).add(lane));
  lane.taken = null;
  write(lane, job, "job.started", job.startedAt, { nodeId: held.nodeId, slots: tables.nodes.get(held.nodeId)?.slots, fence: held.fence, ...data });
  lineUp(tables, lane, at);
  return claimOf(job, held, iso(job.startedAt));
}

function claimOf(job: JobRow, { fence, claimId }: Pick<NonNullable<JobRow["held"]>, "fence" | "claimId">, startedAt: string | null): Claim {
  const { id, chatId, messageId, chatSeq, attempt, priority, maxAttempts, timeoutMs, traceparent, spent, strikes } = job;
  const source = job.code === null ? { files: copy(job.files ?? {}), entry: job.entry ?? "" } : { code: job.code };
  return { job: { ...source, id, chatId, messageId, chatSeq, attempt, options: copy(job.options), priority, maxAttempts, timeoutMs, traceparent }, spent, strikes, fence, claimId, startedAt };
}
