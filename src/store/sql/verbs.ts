/**
 * The store's verbs over SQL: each is one call of a function in migrations/0002_verbs.sql. Here stand only its name, its
 * parameters and how its answer reads.
 */
import { sql } from "drizzle-orm";
import type { Clock } from "../../clock.js";
import { chatQueueFull, idempotencyConflict, queueFull, rateLimited } from "../../errors.js";
import type { FailureCode, Source } from "../../job.js";
import { ofLane, laneKey, tenantArg } from "../scope.js";
import { ContendedError } from "../store.js";
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, CancelAnswer, CancelChatAnswer, ChatPolicy, ChatState, Claim, EraseAnswer, Hint, NewJob, PulseAnswer, RedriveAnswer, Rescued, Settled, StartRequest, Stopping, Store } from "../store.js";
import { busy, channel, driverError, isContended, isRecorded, reaching, uncut } from "./database.js";
import type { Database, Line, Orm } from "./database.js";

/** How long a call waits for a lane that somebody holds, milliseconds: one of a batch, and one alone. */
const lockWaitMs = { together: 50, lone: 30_000 };

/** Chats and nodes that a transaction's notice names; PostgreSQL refuses payloads of 8,000 bytes and more. */
const hintedMax = 20;
const undefinedFunction = "42883";

const acceptSql = "select buildlane_accept($1, $2, $3::text::json, $4::text::json, $5, $6, $7, $8, $9, $10, $11) as answer";
const acceptAndStartSql = "select buildlane_accept_and_start($1, $2, $3::text::json, $4::text::json, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) as answer";
const turnSql = "select buildlane_turn($1, $2, $3::text::json, $4, $5, $6, $7, $8) as answer";
const recordedSql =
  "select coalesce(json_agg(json_build_object('id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'status', j.status, 'createdAt', j.created_at, 'queuePosition', case when j.status = 'pending' then buildlane_position(j.chat_id, j.rank, j.place) else 0 end)), '[]'::json) as answer from build_jobs j where j.id = any (array(select json_array_elements_text($1::text::json)))";
const pulseSql = "select buildlane_pulse($1, $2, $3, $4, $5, $6) as answer";
const rescueSql = "select buildlane_rescue($1, $2, $3, $4) as answer";
const leaveSql = "select buildlane_leave($1, $2) as answer";
const cancelSql = "select buildlane_cancel($1, $2, $3, $4) as answer";
const redriveSql = "select buildlane_redrive($1, $2, $3, $4, $5, $6) as answer";
const pauseChatSql = "select buildlane_pause_chat($1, $2, $3) as answer";
const policySql = "select buildlane_set_policy($1, $2, $3, $4) as answer";
const chatStateSql = "select (select json_build_object('paused', paused_at is not null, 'heldBy', held_by, 'policy', json_build_object('whileRetrying', while_retrying, 'afterFailure', after_failure)) from chat_lanes where chat_id = $1) as answer";
const cancelChatSql = "select buildlane_cancel_chat($1, $2, $3) as answer";
const eraseSql = "select buildlane_erase($1, $2, $3) as answer";
const pruneSql = "select buildlane_prune($1, $2, $3, $4, $5) as answer";
const pauseQueueSql = "update queue_state set paused_at = case when $1 then coalesce(paused_at, buildlane_now($2)) end returning true as answer";
const weighSql = "with weighed as (update queue_state set tenant_weights = $1::text::jsonb where tenant_weights <> $1::text::jsonb returning 1) select count(*)::int as answer from weighed";
const endLeaseSql = "with ended as (update build_nodes set lease_until = least(lease_until, buildlane_now($2)) where (id = $1) = $3 returning id) select count(*)::int as answer from ended";

type Verbs = Pick<Store, "accept" | "acceptAndStart" | "acceptWithin" | "turn" | "pulse" | "rescue" | "leave" | "endLeases" | "cancel" | "redrive" | "weighTenants" | "setQueuePaused" | "setChatPaused" | "setPolicy" | "chatState" | "cancelChat" | "erase" | "prune">;

/** The database prints microseconds and its session's zone; callers get ISO with milliseconds. */
const iso = (text: string): string => new Date(text).toISOString();

const sourceOf = (code: string | null, files: Record<string, string> | null, entry: string | null): Source =>
  files !== null && entry !== null ? { files, entry } : { code: code ?? "" };

/** A new job: its place among those that were sent, from 1, chatSeq, queuePosition, createdAt. */
type FreshRow = [ord: number, chatSeq: number, queuePosition: number, createdAt: string];
type ToldRow = Accepted & { g: number; replayed: boolean; stops?: Stopping | null };
interface AcceptedRows {
  fresh: FreshRow[];
  told: ToldRow[];
}
const refusals = /^BL00[1234]$/;
const someReplayed = "BL005";

/** What has its usual value is left out: it is not worth its parsing. */
type ClaimRow = Omit<Claim["job"], "code" | "files" | "entry"> & { code: string | null; files: Record<string, string> | null; entry: string | null } & Pick<Claim, "spent" | "strikes" | "fence" | "startedAt">;
const claimOf = ({ spent, strikes, fence, startedAt, code, files, entry, ...job }: ClaimRow, claimId: string): Claim => ({ job: { ...job, ...sourceOf(code, files, entry) }, spent, strikes, fence, claimId, startedAt: iso(startedAt) });

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
    for (const [ord, chatSeq, queuePosition, at] of fresh.sort(([a], [b]) => a - b)) {
      const { g, job } = sent[ord - 1] as (typeof sent)[number];
      // Most of a batch are accepted at the same time.
      if (at !== last) [last, createdAt] = [at, iso(at)];
      answerOf(g).jobs.push({ id: job.id, chatId: job.chatId, messageId: job.messageId, chatSeq, status: "pending", queuePosition, createdAt });
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
  const facts = JSON.parse(detail ?? "{}") as { chatId: string; retryAfterMs: number };
  return code === "BL001" ? { kind: "chatQueueFull", chatId: facts.chatId } : { kind: "rateLimited", chatId: facts.chatId, retryAfterMs: Math.max(1, Math.ceil(facts.retryAfterMs)) };
}

export function sqlVerbs(database: Database, nodeId: string, clock: Clock): Verbs {
  const call = <T>(statement: string, args: unknown[], line: Line = "apart"): Promise<T> => reaching(() => database.call<T>(statement, args, line));
  /** For one chat at a person's word. */
  const callApart = <T>(statement: string, args: unknown[], chatId: string | null): Promise<T> =>
    call<T>(statement, args).catch((error: unknown) => Promise.reject(busy(error, chatId)));

  async function acceptOnce(groups: AcceptGroup[], limits: AcceptLimits, now: number | undefined): Promise<AcceptAnswer[]> {
    const line = limits.patient ? "lone" : "together";
    return acceptAnswers(groups, await database.call<AcceptedRows>(acceptSql, [...acceptArgs(nodeId, "accept", groups, limits), lockWaitMs[line], now ?? null], line));
  }

  /** Jobs that are there already, whose answer was lost on the way; the other groups are offered again. */
  async function acceptRest(groups: AcceptGroup[], limits: AcceptLimits, now: number | undefined): Promise<AcceptAnswer[]> {
    const jobs = await call<Accepted[]>(recordedSql, [JSON.stringify(groups.flatMap((group) => group.jobs.map((job) => job.id)))], "together");
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
      const { accepted, claims } = await uncut(clock, () =>
        database.call<{ accepted: AcceptedRows; claims: ClaimRow[] }>(acceptAndStartSql, [...acceptArgs(node, "accept", groups, limits), claimId, want, lockWaitMs[line], now ?? null, lineFrom ?? null], line));
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
        // The caller's transaction is aborted by now, so a refusal can only be an error.
        if (refusal?.kind === "chatQueueFull") throw chatQueueFull(ofLane(refusal.chatId).chatId, limits.pendingPerChatMax, 1000);
        if (refusal?.kind === "rateLimited") throw rateLimited(ofLane(refusal.chatId).chatId, `${limits.rate?.burst ?? 0} jobs at once`, refusal.retryAfterMs);
        if (refusal?.kind === "queueFull") throw queueFull(limits.pendingMax, 1000);
        if (refusal) throw idempotencyConflict(groups[0]?.idempotency?.key ?? "");
        if (driverError(error).code === undefinedFunction) throw new Error("The transaction is of a database that has no tables of Buildlane. Pass one of the database that the queue uses.", { cause: error });
        throw error;
      }
    },

    async turn({ nodeId: node, claimId, endings, want, lineFrom, nodeLossesMax = 5, patient = false }, now) {
      const rows = endings.map(({ end, ...guard }, ord) => ({
        ord, job_id: guard.jobId, chat_id: guard.chatId, attempt: guard.attempt, owner: node, fence: guard.fence, claim_id: guard.claimId, kind: end.kind,
        ...(end.kind === "completed" ? { result: end.result, source_map: end.sourceMap, warnings: end.warnings, externals: end.externals } : {}),
        ...(end.kind === "failed" || end.kind === "retrying" ? { failure: end.failure, error: end.error, blameless: end.blameless ?? false } : {}),
        ...("origin" in end && end.origin ? { stamp: end.origin.stamp, copied_from: end.origin.from } : {}),
        ...(end.kind === "retrying" ? { delay_ms: end.delayMs } : {}),
        ...(guard.runMs === undefined ? {} : { run_ms: guard.runMs }),
      }));
      type SettledRow = { ord: number; jobId: string; chatId: string; status: "pending" | "completed" | "failed"; runAt: string | null; quarantined: boolean; failureCode: FailureCode | null };
      let answer: { built: number[] | null; settled: SettledRow[]; claims: ClaimRow[] };
      try {
        const line = patient ? "lone" : "together";
        answer = await call(turnSql, [node, claimId, rows.length > 0 ? JSON.stringify(rows) : null, want, nodeLossesMax, lockWaitMs[line], now ?? null, lineFrom ?? null], line);
      } catch (error) {
        if (rows.length > 0 && !patient && isContended(error)) throw new ContendedError("turn", { cause: error });
        throw error;
      }
      const built = new Set(answer.built);
      const settledBy = new Map(answer.settled.map((row) => [row.ord, row]));
      return {
        settled: endings.map(({ jobId, chatId }, ord): Settled => {
          if (built.has(ord)) return { kind: "settled", jobId, chatId, status: "completed", runAt: null, quarantined: false, failureCode: null };
          const row = settledBy.get(ord);
          if (!row) return { kind: "notMine", jobId };
          return { kind: "settled", jobId, chatId, status: row.status, runAt: row.runAt && iso(row.runAt), quarantined: row.quarantined, failureCode: row.failureCode };
        }),
        claims: answer.claims.map((row) => claimOf(row, claimId)),
      };
    },

    pulse: ({ nodeId: node, leaseMs, slots, draining, clusterCap = null }, now) => uncut(clock, () => call<PulseAnswer>(pulseSql, [node, leaseMs, slots, draining, clusterCap, now ?? null], "pulse")),

    async rescue({ nodeId: node, nodeLossesMax, limit }, now) {
      const rows = await call<{ jobId: string; chatId: string; status: Rescued["status"] }[]>(rescueSql, [node, limit, nodeLossesMax, now ?? null], "together");
      return rows.map(({ jobId, chatId, status }) => ({ jobId, chatId, status }));
    },

    async leave({ nodeId: node }, now) {
      await uncut(clock, () => call<number>(leaveSql, [node, now ?? null], "pulse"));
    },

    async endLeases(which, now) {
      const own = "nodeId" in which;
      await call<number>(endLeaseSql, [own ? which.nodeId : which.exceptNodeId, now ?? null, own], "pulse");
    },

    cancel: (scope, jobId, now) => callApart<CancelAnswer>(cancelSql, [nodeId, tenantArg(scope), jobId, now ?? null], null),

    async redrive(scope, jobId, { agingMs, delayMs = 0 }, now) {
      const answer = await callApart<RedriveAnswer>(redriveSql, [nodeId, tenantArg(scope), jobId, agingMs, delayMs, now ?? null], null);
      return answer.kind === "redriven" ? { kind: "redriven", job: { ...answer.job, createdAt: iso(answer.job.createdAt) } } : answer;
    },

    async weighTenants(weights) {
      await call<number>(weighSql, [JSON.stringify(weights)]);
    },
    async setQueuePaused(paused, now) {
      await call<boolean>(pauseQueueSql, [paused, now ?? null]);
    },
    setChatPaused: (scope, chatId, paused, now) => callApart<boolean>(pauseChatSql, [laneKey(scope, chatId), paused, now ?? null], chatId),
    setPolicy: (scope, chatId, { whileRetrying, afterFailure }, now) => callApart<ChatPolicy>(policySql, [laneKey(scope, chatId), whileRetrying ?? null, afterFailure ?? null, now ?? null], chatId),
    chatState: (scope, chatId) => call<ChatState | null>(chatStateSql, [laneKey(scope, chatId)]),
    cancelChat: (scope, chatId, now) => callApart<CancelChatAnswer>(cancelChatSql, [nodeId, laneKey(scope, chatId), now ?? null], chatId),
    erase: (scope, chatId, now) => callApart<EraseAnswer>(eraseSql, [nodeId, laneKey(scope, chatId), now ?? null], chatId),

    prune: (keep, now) => call<{ jobs: number; more: boolean }>(pruneSql, [keep.ageMs, keep.count, keep.idempotencyMs, keep.batch, now ?? null]),
  };
}

