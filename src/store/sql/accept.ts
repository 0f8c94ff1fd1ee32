/**
 * Accepting over SQL. Groups that came together are one call of one function, all of them or none: so it is fast, and so
 * one group that is refused, replayed or held up by somebody would be the others' fate as well. Here it is not. What the
 * statement refuses is told apart by its code, and offered again: replays after the rest, and each group alone, patiently,
 * where one was refused. What may have been recorded although its answer was lost is found by its ids.
 */
import type { Clock } from "../../clock.js";
import { chatQueueFull, idempotencyConflict, queueFull, rateLimited, validationFailed } from "../../errors.js";
import { is, PgTransaction, sql } from "../drizzle.js";
import { ofLane } from "../scope.js";
import { ContendedError, untilRoomMs } from "../store.js";
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, Claim, Hint, Hold, NewJob, StartRequest, Stopping, Store } from "../store.js";
import { claimOf, iso } from "./claims.js";
import type { ClaimRow } from "./claims.js";
import { busy, channel, driverError, isContended, isRecorded, lockWaitMs, reaching, uncut } from "./database.js";
import type { Database, Orm } from "./database.js";

/** Chats and nodes that a transaction's notice names; PostgreSQL refuses payloads of 8,000 bytes and more. */
const hintedMax = 20;
const undefinedFunction = "42883";

const acceptSql = "select buildlane_accept($1, $2, $3::text::json, $4::text::json, $5, $6, $7, $8, $9, $10, $11) as answer";
const acceptAndStartSql = "select buildlane_accept_and_start($1, $2, $3::text::json, $4::text::json, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) as answer";
const recordedSql =
  "select coalesce(json_agg(buildlane_accepted(j, buildlane_now($2))), '[]'::json) as answer from build_jobs j where j.id = any (array(select json_array_elements_text($1::text::json)))";

/** A new job: its place among those that were sent, from 1, chatSeq, queuePosition, createdAt; and what holds its chat. */
type FreshRow = [ord: number, chatSeq: number, queuePosition: number, createdAt: string, chatPaused?: boolean, chatReadyAt?: string | null];
type ToldRow = Accepted & { g: number; replayed: boolean; stops?: Stopping | null };
interface AcceptedRows {
  fresh: FreshRow[];
  told: ToldRow[];
}
const refusals = /^BL00[1234]$/;
const someReplayed = "BL005";

/** By Drizzle's own mark, which holds for another copy of it too. The database itself would take the jobs, at once and for good. */
const isTransaction = (tx: unknown): boolean => is(tx, PgTransaction);

export function sqlAccepting(database: Database, nodeId: string, clock: Clock): Pick<Store, "accept" | "acceptAndStart" | "acceptWithin"> {
  async function acceptOnce(groups: AcceptGroup[], limits: AcceptLimits, now: number | undefined): Promise<AcceptAnswer[]> {
    const line = limits.patient ? "lone" : "together";
    return acceptAnswers(groups, await database.call<AcceptedRows>(acceptSql, [...acceptArgs(nodeId, "accept", groups, limits), lockWaitMs[line], now ?? null], line));
  }

  /** Jobs that are there already, whose answer was lost on the way; the other groups are offered again. */
  async function acceptRest(groups: AcceptGroup[], limits: AcceptLimits, now: number | undefined): Promise<AcceptAnswer[]> {
    const jobs = await reaching(() => database.call<Accepted[]>(recordedSql, [JSON.stringify(groups.flatMap((group) => group.jobs.map((job) => job.id))), now ?? null], "together"));
    const byId = new Map(jobs.map((job) => [job.id, { ...job, createdAt: iso(job.createdAt) }]));
    const isThere = (group: AcceptGroup) => byId.has(group.jobs[0]?.id ?? "");
    const rest = groups.filter((group) => !isThere(group));
    const answers = rest.length > 0 ? await accept(rest, limits, now) : [];
    // Whom it told to stop is not known any more: they hear it at their next pulse.
    return groups.map((group): AcceptAnswer =>
      isThere(group) ? { kind: "accepted", jobs: group.jobs.map((job) => byId.get(job.id) as Accepted), stopping: [] } : (answers[rest.indexOf(group)] as AcceptAnswer),
    );
  }

  async function accept(groups: AcceptGroup[], limits: AcceptLimits, now?: number): Promise<AcceptAnswer[]> {
    try {
      // May be done twice: the ids tell whether the jobs are there.
      return await uncut(clock, () => acceptOnce(groups, limits, now));
    } catch (error) {
      return acceptAfter(error, groups, limits, now);
    }
  }

  /** Nothing starts with what is offered again: turns do that. */
  async function acceptAndStart(groups: AcceptGroup[], limits: AcceptLimits, { nodeId: node, claimId, want, lineFrom }: StartRequest, now?: number): Promise<{ answers: AcceptAnswer[]; claims: Claim[] }> {
    const line = limits.patient ? "lone" : "together";
    try {
      const { claims, ...accepted } = await uncut(clock, () =>
        database.call<AcceptedRows & { claims: ClaimRow[] }>(acceptAndStartSql, [...acceptArgs(node, "accept", groups, limits), claimId, want, isPlain(groups), lockWaitMs[line], now ?? null, lineFrom ?? null], line));
      return { answers: acceptAnswers(groups, accepted), claims: claims.map((row) => claimOf(row, claimId)) };
    } catch (error) {
      return { answers: await acceptAfter(error, groups, limits, now), claims: [] };
    }
  }

  async function acceptAfter(error: unknown, groups: AcceptGroup[], limits: AcceptLimits, now: number | undefined): Promise<AcceptAnswer[]> {
    if (isRecorded(error)) return acceptRest(groups, limits, now);
    const { code, detail } = driverError(error);
    if (code === someReplayed) {
      const replayed = new Set(JSON.parse(detail ?? "[]") as number[]);
      const [old, fresh] = [groups.filter((_, g) => replayed.has(g)), groups.filter((_, g) => !replayed.has(g))];
      // Replays last: they tell how their jobs stand when all of this has been accepted.
      const freshAnswers = await accept(fresh, limits, now);
      const oldAnswers = await accept(old, limits, now);
      return groups.map((_, g) => (replayed.has(g) ? oldAnswers : freshAnswers).shift() as AcceptAnswer);
    }
    if (groups.length === 1) {
      const refusal = refusalOf(error);
      if (refusal) return [refusal];
    }
    if (!limits.patient && isContended(error)) throw new ContendedError("accept", { cause: error });
    if (groups.length === 1 || !refusals.test(code ?? "")) return reaching(() => Promise.reject(busy(error, ofLane(groups[0]?.jobs[0]?.chatId ?? "").chatId)));
    // One group is refused: nothing was written. Each alone, in order, so that the others are not hindered.
    const answers: AcceptAnswer[] = [];
    for (const group of groups) answers.push(...(await accept([group], { ...limits, patient: true }, now)));
    return answers;
  }

  return {
    accept,
    acceptAndStart,

    async acceptWithin(tx, groups, limits, notify) {
      if (!isTransaction(tx)) throw validationFailed([{ path: "/tx", message: "Expected a Drizzle transaction, the tx of db.transaction(async (tx) => …), on postgres.js or PGlite. The database itself is none, nor is a driver's own." }]);
      const args = [...acceptArgs(nodeId, `tx:${clock.id()}`, groups, limits), null, null];
      const types = ["text", "text", "text::json", "text::json", "float8", "int", "bigint", "int", "float8", "int", "float8"];
      const holes = args.map((arg, index) => sql`${arg}::${sql.raw(types[index] as string)}`);
      try {
        const answer = await (tx as Orm).execute(sql`select buildlane_accept(${sql.join(holes, sql`, `)}) as answer`);
        const rows = Array.isArray(answer) ? (answer as { answer: AcceptedRows }[]) : (answer as unknown as { rows: { answer: AcceptedRows }[] }).rows;
        const answers = acceptAnswers(groups, rows[0]?.answer ?? { fresh: [], told: [] });
        if (notify) await (tx as Orm).execute(sql`select pg_notify(${channel}, ${committedPayload(answers)})`);
        return answers;
      } catch (error) {
        const refusal = refusalOf(error);
        const { turnMs = 1000 } = limits;
        // The caller's transaction is aborted by now, so a refusal can only be an error.
        if (refusal?.kind === "chatQueueFull") throw chatQueueFull(ofLane(refusal.chatId).chatId, limits.pendingPerChatMax, refusal.chatPaused, untilRoomMs(refusal, turnMs, clock));
        if (refusal?.kind === "rateLimited") throw rateLimited(ofLane(refusal.chatId).chatId, `${limits.rate?.burst ?? 0} jobs at once`, refusal.retryAfterMs);
        if (refusal?.kind === "queueFull") throw queueFull(limits.pendingMax, turnMs);
        if (refusal) throw idempotencyConflict(groups[0]?.idempotency?.key ?? "");
        if (driverError(error).code === undefinedFunction) throw new Error("The transaction is of a database that has no tables of Buildlane. Pass one of the database that the queue uses.", { cause: error });
        throw error;
      }
    },
  };
}

const toSend = (job: NewJob, g: number): Record<string, unknown> => ({
  g, id: job.id, chat_id: job.chatId, message_id: job.messageId, code: job.code ?? undefined, files: job.files ?? undefined, entry: job.entry ?? undefined,
  options: Object.keys(job.options).length > 0 ? job.options : undefined, code_hash: job.codeHash, priority: job.priority || undefined, max_attempts: job.maxAttempts, timeout_ms: job.timeoutMs,
  delay_ms: job.delayMs || undefined, supersede: job.supersede ?? undefined, traceparent: job.traceparent ?? undefined, n: undefined, nth: undefined, mixed: undefined,
});

/** Says which of its chat's each is, where there are several. */
function countPerChat(rows: Record<string, unknown>[]): void {
  const chats = new Map<unknown, Record<string, unknown>[]>();
  for (const row of rows) {
    const chat = chats.get(row["chat_id"]);
    if (chat) chat.push(row);
    else chats.set(row["chat_id"], [row]);
    if (row["priority"] !== undefined) (chat?.[0] ?? row)["mixed"] = true;
  }
  if (chats.size === rows.length) return;
  for (const chat of chats.values()) if (chat.length > 1) chat.forEach((row, index) => Object.assign(row, { n: chat.length, nth: index + 1 }));
}

/** One job that comes alone and asks for nothing else than to run. */
function isPlain(groups: AcceptGroup[]): boolean {
  const [job] = groups[0]?.jobs ?? [];
  return groups.length === 1 && groups[0]?.jobs.length === 1 && job?.priority === 0 && job.delayMs === 0;
}

/** All that both ways of accepting are told first. */
function acceptArgs(nodeId: string, verb: string, groups: AcceptGroup[], limits: AcceptLimits): unknown[] {
  const jobs = groups.flatMap((group, g) => group.jobs.map((job) => toSend(job, g)));
  countPerChat(jobs);
  const keys = groups.flatMap(({ idempotency, jobs: own }, g) =>
    idempotency ? [{ g, scope: idempotency.scope, key: idempotency.key, request_hash: idempotency.requestHash, job_ids: own.map((job) => job.id) }] : [],
  );
  return [
    nodeId, verb, JSON.stringify(jobs), keys.length > 0 ? JSON.stringify(keys) : null, limits.agingMs,
    limits.pendingPerChatMax, limits.pendingMax, limits.rate?.burst ?? null, limits.rate?.intervalMs ?? null,
  ];
}

function acceptAnswers(groups: AcceptGroup[], { fresh, told }: AcceptedRows): AcceptAnswer[] {
  const answers = groups.map(() => ({ replayed: false, jobs: [] as Accepted[], stopping: [] as Stopping[] }));
  const answerOf = (g: number) => {
    const answer = answers[g];
    if (!answer) throw new Error(`accept answered for group ${g} of ${groups.length}`);
    return answer;
  };
  if (fresh.length > 0) {
    const sent = groups.flatMap(({ jobs }, g) => jobs.map((job) => ({ g, job })));
    let [last, createdAt] = ["", ""];
    for (const [ord, chatSeq, queuePosition, at, chatPaused = false, chatReadyAt = null] of fresh.sort(([a], [b]) => a - b)) {
      const { g, job } = sent[ord - 1] as (typeof sent)[number];
      // Most of a batch are accepted at the same time.
      if (at !== last) [last, createdAt] = [at, iso(at)];
      const nextAttemptAt = job.delayMs > 0 ? new Date(Date.parse(createdAt) + job.delayMs).toISOString() : null;
      answerOf(g).jobs.push({ id: job.id, chatId: job.chatId, messageId: job.messageId, chatSeq, status: "pending", queuePosition, createdAt, nextAttemptAt, chatPaused, chatReadyAt });
    }
  }
  for (const { g, replayed, stops, ...job } of told) {
    const answer = answerOf(g);
    answer.replayed ||= replayed;
    answer.jobs.push({ ...job, createdAt: iso(job.createdAt) });
    if (stops) answer.stopping.push(stops);
  }
  // A replay whose jobs the retention has removed has nothing left to show.
  return answers.map(({ replayed, jobs, stopping }): AcceptAnswer => (replayed || jobs.length === 0 ? { kind: "replayed", jobs } : { kind: "accepted", jobs, stopping }));
}

/** Nobody's own hints, so that every node listens; a few bytes, and most transactions enqueue into one chat. */
const committedPayload = (answers: AcceptAnswer[]): string => {
  const accepted = answers.flatMap((answer) => (answer.kind === "accepted" ? answer : []));
  const first = (all: string[]) => [...new Set(all)].slice(0, hintedMax);
  const chats = first(accepted.flatMap(({ jobs }) => jobs.map((job) => job.chatId)));
  const nodes = first(accepted.flatMap(({ stopping }) => stopping.map(({ nodeId }) => nodeId)));
  const hints: Hint[] = [{ kind: "ready" }, ...nodes.map((node): Hint => ({ kind: "cancel", nodeId: node })), ...chats.map((chatId): Hint => ({ kind: "chat", chatId }))];
  return JSON.stringify({ from: "", hints });
};

/** What a refusal means for one group offered alone. */
function refusalOf(error: unknown): AcceptAnswer | null {
  const { code, detail } = driverError(error);
  if (!refusals.test(code ?? "")) return null;
  if (code === "BL003") return { kind: "idempotencyConflict" };
  if (code === "BL004") return { kind: "queueFull" };
  const facts = JSON.parse(detail ?? "{}") as { chatId: string; retryAfterMs: number } & Hold;
  return code === "BL001" ? { kind: "chatQueueFull", chatId: facts.chatId, chatPaused: facts.chatPaused, chatReadyAt: facts.chatReadyAt } : { kind: "rateLimited", chatId: facts.chatId, retryAfterMs: Math.max(1, Math.ceil(facts.retryAfterMs)) };
}
