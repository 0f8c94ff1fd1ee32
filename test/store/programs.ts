/**
 * Random programs over the store's verbs. A program is plain data with explicit times, so the same one can be played on
 * any store: the transcripts must be the same, and the history must keep the promises.
 */
import fc from "fast-check";
import type { Violation } from "../../src/history/check.js";
import { verify } from "../../src/history/verify.js";
import type { HistoryEvent } from "../../src/job.js";
import { isWithin, laneKey, laneOfShown, ofLane } from "../../src/store/scope.js";
import type { Scope } from "../../src/store/scope.js";
import type { AcceptLimits, Begun, ChatPolicy, Claim, Ending, NewJob, Store } from "../../src/store/store.js";

export const T0 = 1_800_000_000_000;
/** Lanes; those of tenants have the names of others. */
export const chats = ["a", "b", "d", laneKey({ tenant: "t" }, "a"), laneKey({ tenant: "t" }, "c"), laneKey({ tenant: "v" }, "b")];
/** So many of them are of no tenant. */
const ownChats = 3;
const scopes: Scope[] = ["everyone", { tenant: "" }, { tenant: "t" }, { tenant: "u" }];
const nodes = ["n1", "n2"];
export const agingMs = 30_000;
export const limits: AcceptLimits = { agingMs, pendingPerChatMax: 6, pendingMax: 14, rate: null };
const leaseMs = 4000;
const firstLeaseMs = 15_000;
const handMs = 2000;

export function newJob(id: string, chatId: string, extra: Partial<NewJob> = {}): NewJob {
  return { id, chatId, messageId: `m-${id}`, code: "1", files: null, entry: null, options: {}, codeHash: `hash-${id}`, priority: 0, maxAttempts: 3, timeoutMs: 1000, delayMs: 0, supersede: null, ...extra };
}

export const guardOf = ({ job, fence, claimId }: Claim) => ({ jobId: job.id, chatId: job.chatId, attempt: job.attempt, fence, claimId });

const failed = (code: "build_failed" | "worker_crashed" | "timed_out", retryable: boolean) => ({ failure: { code, message: code, retryable, diagnostics: [] }, error: code });
export const ends = {
  completed: { kind: "completed", result: "ok", sourceMap: null, warnings: [], externals: ["react"] },
  failed: { kind: "failed", ...failed("build_failed", false) },
  crashed: { kind: "retrying", ...failed("worker_crashed", true), delayMs: 700 },
  timedOut: { kind: "retrying", ...failed("timed_out", true), delayMs: 300 },
  released: { kind: "released" },
  returned: { kind: "returned" },
} satisfies Record<string, Ending["end"]>;
type EndName = keyof typeof ends;

type Step = { afterMs: number } & (
  | { verb: "accept"; groups: { jobs: { chat: number; priority: number; delayMs: number; hash: number; supersede: NewJob["supersede"] }[]; key: number | null }[]; start: { node: number; want: number } | null }
  | { verb: "turn"; node: number; endings: { pick: number; end: EndName; stale: "no" | "fence" | "claim" | "attempt" | "node"; stamped: boolean; agoMs: number | null }[]; want: number; begun: { pick: number; agoMs: number }[]; ahead: number }
  | { verb: "pulse"; node: number; clusterCap: number | null }
  | { verb: "rescue" | "leave"; node: number }
  | { verb: "cancel" | "redrive"; pick: number; scope: number }
  | { verb: "look"; pick: number; scope: number }
  | { verb: "pauseChat"; chat: number; paused: boolean }
  | { verb: "policy"; chat: number; whileRetrying: ChatPolicy["whileRetrying"] | undefined; afterFailure: ChatPolicy["afterFailure"] | undefined }
  | { verb: "cancelChat" | "erase"; chat: number }
  | { verb: "pauseQueue"; paused: boolean }
  | { verb: "weigh"; weights: Record<string, number> }
  | { verb: "lift"; hash: number }
  | { verb: "ask" | "prune"; ageMs: number }
);
export type Program = Step[];

const afterMs = fc.constantFrom(0, 1, 1, 5, 400, 1500, 5000);
/** How long ago a run was over, or began and was over, by its node's word; null: it says nothing. */
const agoMs = fc.constantFrom(null, null, -5, 0, 3, 40, 1500);
/** Some code is met often, so that what it did before counts. */
const hash = fc.constantFrom(0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8);
/** Jobs that ask about their code at once. */
const askedMax = 3;
/** What one step may be: over so many of the chats and nodes. */
function stepOver(chatsMost: number, nodesMost: number): fc.Arbitrary<Step> {
  const chat = fc.integer({ min: 0, max: chatsMost - 1 });
  const node = fc.integer({ min: 0, max: nodesMost - 1 });
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        afterMs,
        verb: fc.constant("accept" as const),
        groups: fc.array(
          fc.record({
            jobs: fc.array(fc.record({ chat, priority: fc.constantFrom(0, 0, 0, 0, 5, -5), delayMs: fc.constantFrom(0, 0, 0, 900), hash, supersede: fc.constantFrom(null, null, null, null, null, null, null, null, null, "pending" as const, "running" as const) }), { minLength: 1, maxLength: 4 }),
            key: fc.constantFrom(null, null, null, 1, 2),
          }),
          { minLength: 1, maxLength: 3 },
        ),
        start: fc.option(fc.record({ node, want: fc.integer({ min: 1, max: 2 }) })),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        afterMs,
        verb: fc.constant("turn" as const),
        node,
        endings: fc.array(
          fc.record({
            pick: fc.nat(20),
            end: fc.constantFrom<EndName>("completed", "completed", "completed", "failed", "crashed", "timedOut", "released", "returned"),
            stale: fc.constantFrom("no" as const, "no" as const, "no" as const, "no" as const, "fence" as const, "claim" as const, "attempt" as const, "node" as const),
            stamped: fc.boolean(),
            agoMs,
          }),
          { maxLength: 3 },
        ),
        want: fc.integer({ min: 0, max: 3 }),
        begun: fc.array(fc.record({ pick: fc.nat(20), agoMs: fc.constantFrom(-5, 0, 3, 40, 1500) }), { maxLength: 2 }),
        ahead: fc.constantFrom(0, 0, 1, 3),
      }),
    },
    { weight: 4, arbitrary: fc.record({ afterMs, verb: fc.constant("pulse" as const), node, clusterCap: fc.constantFrom(null, null, null, 1, 2) }) },
    { weight: 3, arbitrary: fc.record({ afterMs, verb: fc.constantFrom("rescue" as const, "rescue" as const, "leave" as const), node }) },
    { weight: 2, arbitrary: fc.record({ afterMs, verb: fc.constantFrom("cancel" as const, "redrive" as const), pick: fc.nat(20), scope: fc.integer({ min: 0, max: scopes.length - 1 }) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("look" as const), pick: fc.nat(20), scope: fc.integer({ min: 0, max: scopes.length - 1 }) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("pauseChat" as const), chat, paused: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ afterMs, verb: fc.constant("policy" as const), chat, whileRetrying: fc.constantFrom(undefined, "block" as const, "yield" as const, "yield" as const), afterFailure: fc.constantFrom(undefined, "skip" as const, "hold" as const) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constantFrom("cancelChat" as const, "erase" as const), chat }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("weigh" as const), weights: fc.constantFrom<Record<string, number>>({}, { t: 3 }, { t: 2, v: 7 }) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("pauseQueue" as const), paused: fc.constantFrom(true, false, false) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("lift" as const), hash }) },
    { weight: 2, arbitrary: fc.record({ afterMs, verb: fc.constant("ask" as const), ageMs: fc.constantFrom(1, 1000, 1e6) }) },
    { weight: 1, arbitrary: fc.record({ afterMs, verb: fc.constant("prune" as const), ageMs: fc.constantFrom(0, 400, 3000) }) },
  );
}
const programOver = (chatsMost: number, nodesMost: number): fc.Arbitrary<Program> => fc.array(stepOver(chatsMost, nodesMost), { minLength: 5, maxLength: 45, size: "max" });
/** Many between tenants and nodes, and as many of one node with chats of its own, where lanes are taken ahead. */
export const programs: fc.Arbitrary<Program> = fc.oneof(programOver(chats.length, nodes.length), programOver(ownChats, 1));

/** Plays the program; then a calm end, in which everything that was accepted must come to its end. */
export async function play(store: Store, program: Program): Promise<{ transcript: unknown[]; violations: Violation[] }> {
  const transcript: unknown[] = [];
  const claims: { claim: Claim; node: string }[] = [];
  const ids: string[] = [];
  const hashes = new Map<string, string>();
  const promised = new Set<string>();
  let now = T0;
  let calls = 0;
  /** As each node's latest pulse told, for its turns. */
  const lineFrom = new Map<string, number | undefined>();
  const turn = async (nodeId: string, endings: Ending[], want: number, begun: Begun[], ahead: number) => {
    const answer = await store.turn({ nodeId, claimId: `claim${calls++}`, endings, want, begun, ahead, handMs, lineFrom: lineFrom.get(nodeId), nodeLossesMax: 2 }, now);
    claims.push(...answer.claims.map((claim) => ({ claim, node: nodeId })));
    return answer;
  };

  /** All that a scope may see: it must be what the stores agree on, and nothing that is somebody else's. */
  async function look(scope: Scope, id: string): Promise<unknown> {
    const include = { code: false, result: false };
    const { jobs } = await store.list(scope, { limit: 200, include });
    const foreign = jobs.filter((job) => !isWithin(scope, laneOfShown(job)));
    if (foreign.length > 0) throw new Error(`a list for ${JSON.stringify(scope)} shows ${JSON.stringify(foreign)}`);
    const { nodes: _nodes, ...stats } = await store.stats(scope, now);
    return [
      await store.get(scope, id), await store.output(scope, id), await store.chat(scope, "a", 5, include), jobs.map((job) => job.id).sort(), await store.countDeadLetters(scope, {}), await store.deadLetterGroups(scope, {}, 5),
      [...(await store.deadLetterIds(scope, {}, 50))].sort(), await store.events(scope, "a", { after: 0, limit: 50 }), await store.eventStart(scope, "a"),
      [stats.totalQueued, stats.totalRunning, stats.totalCompleted, stats.totalFailed, stats.deadLetters, stats.activeChats, stats.waitingChats],
    ];
  }

  async function run(one: Step): Promise<unknown> {
    switch (one.verb) {
      case "accept": {
        const keys = new Set<number>();
        const lanes = new Set<number>();
        const supersedes = one.groups.some(({ jobs }) => jobs.some(({ supersede }) => supersede !== null));
        const groups = one.groups
          // A batch never has one key twice, nor two groups of one chat when one supersedes: the layer above sees to that.
          .filter(({ key }) => key === null || (!keys.has(key) && keys.add(key)))
          .filter(({ jobs }) => !supersedes || (!jobs.some((job) => lanes.has(job.chat)) && jobs.forEach((job) => lanes.add(job.chat)) === undefined))
          .map(({ jobs, key }) => ({
            jobs: jobs.map(({ chat: index, priority, delayMs, hash, supersede }) => {
              const id = `j${ids.length}`;
              ids.push(id);
              hashes.set(id, `hash${hash}`);
              return newJob(id, chats[index] as string, { priority, delayMs, ...(hash === 0 ? { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } : {}), codeHash: `hash${hash}`, supersede });
            }),
            idempotency: key === null ? null : { scope: "", key: `k${key}`, requestHash: `${jobs.length % 2}` },
          }));
        const start = one.start && { nodeId: nodes[one.start.node] as string, claimId: `claim${calls++}`, want: one.start.want, lineFrom: lineFrom.get(nodes[one.start.node] as string) };
        const { answers, claims: begun } = start ? await store.acceptAndStart(groups, limits, start, now) : { answers: await store.accept(groups, limits, now), claims: [] };
        claims.push(...begun.map((claim) => ({ claim, node: start?.nodeId ?? "" })));
        for (const answer of answers) if (answer.kind === "accepted") answer.jobs.forEach(({ id }) => promised.add(id));
        // Of groups in one call it is left open whether a position is that before or after a later group's priority.
        const open = groups.length > 1 && one.groups.some(({ jobs }) => jobs.some(({ priority }) => priority !== 0));
        return [open ? answers.map((answer) => ("jobs" in answer ? { ...answer, jobs: answer.jobs.map(({ queuePosition: _position, ...job }) => job) } : answer)) : answers, begun];
      }
      case "turn": {
        const picked = new Set<number>();
        const endings = one.endings.flatMap(({ pick, end, stale, stamped, agoMs: ago }): Ending[] => {
          const index = claims.length === 0 ? -1 : pick % claims.length;
          if (index < 0 || picked.has(index)) return [];
          picked.add(index);
          const { claim, node: holder } = claims[index] as { claim: Claim; node: string };
          if (stale === "no" && holder !== nodes[one.node]) return [];
          const guard = guardOf(claim);
          return [{
            ...guard,
            ...(stale === "fence" ? { fence: guard.fence + 1 } : {}),
            ...(stale === "claim" ? { claimId: "nobody's" } : {}),
            ...(stale === "attempt" ? { attempt: guard.attempt + 1 } : {}),
            ...(ago === null ? {} : { endedMs: now - ago }),
            // One that was taken ahead began a little before it was over, and no record says so yet.
            ...(ago === null || claim.startedAt !== null ? {} : { startedMs: now - ago - 2 }),
            end: stamped && (end === "completed" || end === "failed") ? { ...ends[end], origin: { stamp: "s", from: pick % 5 === 0 ? "another" : null } } : ends[end],
          }];
        });
        const begun = one.begun.flatMap(({ pick, agoMs: ago }): Begun[] => {
          const index = claims.length === 0 ? -1 : pick % claims.length;
          const { claim, node: holder } = claims[index] ?? {};
          if (!claim || picked.has(index) || claim.startedAt !== null || holder !== nodes[one.node]) return [];
          picked.add(index);
          return [{ jobId: claim.job.id, chatId: claim.job.chatId, attempt: claim.job.attempt, fence: claim.fence, claimId: claim.claimId, startedMs: now - ago }];
        });
        const { onRecord, refused, ...answer } = await turn(nodes[one.node] as string, endings, one.want, begun, one.ahead);
        return { ...answer, onRecord: [...onRecord].sort(), refused: [...refused].sort() };
      }
      case "pulse": {
        const { held, ...rest } = await store.pulse({ nodeId: nodes[one.node] as string, leaseMs, slots: 3, draining: false, clusterCap: one.clusterCap }, now);
        lineFrom.set(nodes[one.node] as string, rest.lineFrom ?? undefined);
        return { ...rest, held: [...held].sort((a, b) => (a.chatId < b.chatId ? -1 : 1)) };
      }
      case "rescue":
        // In no order: each lane goes back for itself.
        return (await store.rescue({ nodeId: nodes[one.node] as string, nodeLossesMax: 2, limit: 10 }, now)).sort((a, b) => (a.jobId < b.jobId ? -1 : 1));
      case "leave":
        return store.leave({ nodeId: nodes[one.node] as string }, now);
      case "cancel":
        return store.cancel(scopes[one.scope] as Scope, ids[one.pick % Math.max(1, ids.length)] ?? "nope", now);
      case "redrive":
        return store.redrive(scopes[one.scope] as Scope, ids[one.pick % Math.max(1, ids.length)] ?? "nope", { agingMs, delayMs: one.pick % 3 === 0 ? 900 : 0 }, now);
      case "look":
        return look(scopes[one.scope] as Scope, ids[one.pick % Math.max(1, ids.length)] ?? "nope");
      case "pauseChat": {
        const { tenant, chatId } = ofLane(chats[one.chat] as string);
        return store.setChatPaused({ tenant }, chatId, one.paused, now);
      }
      case "policy": {
        const { tenant, chatId } = ofLane(chats[one.chat] as string);
        return [await store.chatState({ tenant }, chatId), await store.setPolicy({ tenant }, chatId, one, now)];
      }
      case "cancelChat": {
        const { tenant, chatId } = ofLane(chats[one.chat] as string);
        return [await store.cancelChat({ tenant }, chatId, now), await store.chatState({ tenant }, chatId)];
      }
      case "erase": {
        const { tenant, chatId } = ofLane(chats[one.chat] as string);
        const before = (await store.list({ tenant }, { chatId, limit: 200, include: { code: false, result: false } })).jobs;
        const answer = await store.erase({ tenant }, chatId, now);
        if (answer.kind === "erased") for (const job of before) promised.delete(job.id);
        return answer;
      }
      case "pauseQueue":
        return store.setQueuePaused(one.paused, now);
      case "weigh":
        return store.weighTenants(one.weights);
      case "lift":
        return store.code.lift(`hash${one.hash}`);
      case "ask":
        // Those that were taken last, whether they still run or not: what each would be told of its own code.
        return Promise.all(claims.slice(-askedMax).map(({ claim: { job } }) => store.code.ask({ codeHash: hashes.get(job.id) ?? "nope", stamp: "s", ageMs: one.ageMs, jobId: job.id }, now)));
      case "prune": {
        const answer = await store.prune({ ageMs: one.ageMs, count: 1000, idempotencyMs: 1e9, batch: 1000 }, now);
        const kept = new Set((await store.list("everyone", { limit: 200, include: { code: false, result: false } })).jobs.map(({ id }) => id));
        for (const id of promised) if (!kept.has(id)) promised.delete(id);
        return answer;
      }
      default:
        return one satisfies never;
    }
  }

  // Nodes that are there from the start, or most programs would never claim anything.
  const isAlone = program.every((one) => !("node" in one && one.node > 0) && !(one.verb === "accept" && one.start && one.start.node > 0));
  for (const nodeId of isAlone ? nodes.slice(0, 1) : nodes) await store.pulse({ nodeId, leaseMs: firstLeaseMs, slots: 3, draining: false, clusterCap: null }, now);
  for (const one of program) {
    now += one.afterMs;
    transcript.push([one.verb, normal(await run(one))]);
  }
  // How it stands in the middle of things, as watchers see it.
  for (const scope of ["everyone", ...[...new Set(chats.map((lane) => ofLane(lane).tenant))].map((tenant) => ({ tenant }))] as const) {
    const first = await store.lanes(scope, { limit: 2 }, now);
    const second = first.nextCursor === null ? null : await store.lanes(scope, { limit: 2, cursor: first.nextCursor }, now);
    transcript.push(["lanes", normal(first.lanes), normal(second?.lanes), normal((await store.lanes(scope, { limit: 1, chatIds: ["c", "a", "nope"] }, now)).lanes)]);
    for (const id of [...ids, "nope"]) transcript.push(["why", normal(await store.why(scope, id, now))]);
  }
  for (const lane of chats) transcript.push(["places", normal(await store.places({ tenant: ofLane(lane).tenant }, ofLane(lane).chatId, 10, now))]);

  // The calm end: nothing paused, the old nodes dead, one healthy node works until nothing is left.
  await store.setQueuePaused(false, now);
  now += 60_000;
  for (let round = 0; round < 200; round++) {
    // Each time: a failure may hold a chat again.
    for (const lane of chats) await store.setChatPaused({ tenant: ofLane(lane).tenant }, ofLane(lane).chatId, false, now);
    await store.pulse({ nodeId: "calm", leaseMs: 1e9, slots: 3, draining: false, clusterCap: null }, now);
    await store.rescue({ nodeId: "calm", nodeLossesMax: 2, limit: 10 }, now);
    const { claims: taken } = await store.turn({ nodeId: "calm", claimId: `calm${round}`, endings: [], want: 3, nodeLossesMax: 2 }, now);
    now += 1000;
    await store.turn({ nodeId: "calm", claimId: `calm-end${round}`, endings: taken.map((claim) => ({ ...guardOf(claim), end: ends.completed })), want: 0, nodeLossesMax: 2 }, now);
    if (taken.length === 0 && (await store.stats("everyone", now)).totalQueued === 0) break;
  }

  const events: HistoryEvent[] = [];
  for (const lane of chats) {
    const found = await store.events({ tenant: ofLane(lane).tenant }, ofLane(lane).chatId, { after: 0, limit: 10_000 });
    events.push(...found.events.map((event) => ({ ...event, chatId: laneOfShown(event) })));
  }
  const jobs = (await store.list("everyone", { limit: 200, include: { code: false, result: false } })).jobs.map((job) => ({ ...job, chatId: laneOfShown(job) }));
  const { nodes: _nodes, ...stats } = await store.stats("everyone", now);
  transcript.push(["quarantined", normal(await store.quarantined(50))]);
  // What watchers see, of the whole run at once.
  const seen = await store.news({ since: T0 - 1, limit: 10_000 }, now);
  const byLane = (x: HistoryEvent, y: HistoryEvent) => (laneOfShown(x) < laneOfShown(y) ? -1 : laneOfShown(x) > laneOfShown(y) ? 1 : x.number - y.number);
  transcript.push(["news", normal([...seen.events].sort(byLane)), seen.now, seen.queuePaused]);
  transcript.push(["events", normal(events)], ["jobs", normal([...jobs].sort((x, y) => (x.id < y.id ? -1 : 1)))], ["totals", [stats.totalQueued, stats.totalRunning, stats.totalCompleted, stats.totalFailed, stats.deadLetters, stats.activeChats]]);
  return { transcript, violations: (await store.readHistory((history) => verify(history, { agingMs, atRest: true, slackMs: 50, inHandMs: 50, promised }))).violations };
}

/** As JSON: what every store must agree on, without the order of keys. */
function normal(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null, (_, one: unknown) => (one && typeof one === "object" && !Array.isArray(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one)));
}
