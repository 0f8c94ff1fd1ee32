/**
 * The store's verbs over SQL: each is one call of a function in migrations/ (0002_verbs.sql has their rules). Here stand only its name, its
 * parameters and how its answer reads; accepting has a file of its own, accept.ts.
 */
import type { Clock } from "../../clock.js";
import type { FailureCode } from "../../job.js";
import { laneKey, tenantArg } from "../scope.js";
import { ContendedError } from "../store.js";
import type { CancelAnswer, CancelChatAnswer, ChatPolicy, ChatState, Ending, EraseAnswer, Pruned, PulseAnswer, RedriveAnswer, Rescued, Settled, Store } from "../store.js";
import { claimOf, iso } from "./claims.js";
import type { ClaimRow } from "./claims.js";
import type { Novelties } from "./code.js";
import { busy, isContended, lockWaitMs, reaching, uncut } from "./database.js";
import type { Database, Line } from "./database.js";

const turnSql = "select buildlane_turn($1, $2, $3::text::json, $4, $5, $6, $7, $8, $9::text::json, $10, $11, $12) as answer";
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
const pruneSql = "select buildlane_prune($1, $2, $3, $4, $5, $6) as answer";
const pauseQueueSql = "update queue_state set paused_at = case when $1 then coalesce(paused_at, buildlane_now($2)) end returning true as answer";
const weighSql = "with weighed as (update queue_state set tenant_weights = $1::text::jsonb where tenant_weights <> $1::text::jsonb returning 1) select count(*)::int as answer from weighed";
const endLeaseSql = "with ended as (update build_nodes set lease_until = least(lease_until, buildlane_now($2)) where (id = $1) = $3 returning id) select count(*)::int as answer from ended";

/** As the database reads an ending; what is undefined is not sent. */
function endingRow({ jobId, chatId, attempt, fence, claimId, runMs, endedMs, startedMs, end }: Ending, ord: number, owner: string) {
  const built = end.kind === "completed" ? end : null;
  const failed = end.kind === "failed" || end.kind === "retrying" ? end : null;
  const origin = "origin" in end ? end.origin : undefined;
  return {
    ord, job_id: jobId, chat_id: chatId, attempt, owner, fence, claim_id: claimId, kind: end.kind,
    result: built?.result, source_map: built?.sourceMap, warnings: built?.warnings, externals: built?.externals,
    failure: failed?.failure, error: failed?.error, blameless: failed ? (failed.blameless ?? false) : undefined, delay_ms: end.kind === "retrying" ? end.delayMs : undefined,
    stamp: origin?.stamp, copied_from: origin?.from,
    run_ms: runMs === undefined ? undefined : Math.round(runMs), ended_ms: endedMs, started_ms: startedMs,
  };
}

type Verbs = Pick<Store, "turn" | "pulse" | "rescue" | "leave" | "endLeases" | "cancel" | "redrive" | "weighTenants" | "setQueuePaused" | "setChatPaused" | "setPolicy" | "chatState" | "cancelChat" | "erase" | "prune">;

export function sqlVerbs(database: Database, nodeId: string, clock: Clock, novelties: Novelties): Verbs {
  const call = <T>(statement: string, args: unknown[], line: Line = "apart"): Promise<T> => reaching(() => database.call<T>(statement, args, line));
  /** For one chat at a person's word. */
  const callApart = <T>(statement: string, args: unknown[], chatId: string | null): Promise<T> =>
    call<T>(statement, args).catch((error: unknown) => Promise.reject(busy(error, chatId)));

  return {
    async turn({ nodeId: node, claimId, endings, want, lineFrom, nodeLossesMax = 5, patient = false, begun = [], ahead = 0, handMs = 0 }, now) {
      const rows = endings.map((ending, ord) => endingRow(ending, ord, node));
      const starts = begun.map(({ jobId, chatId, attempt, fence, claimId: claim, startedMs }) => ({ job_id: jobId, chat_id: chatId, attempt, fence, claim_id: claim, started_ms: startedMs }));
      type SettledRow = { ord: number; jobId: string; chatId: string; status: "pending" | "completed" | "failed"; runAt: string | null; quarantined: boolean; failureCode: FailureCode | null };
      let answer: { built: number[] | null; settled: SettledRow[]; claims: ClaimRow[]; taken: ClaimRow[] | null; onRecord: string[] | null; refused: string[] | null; atMs: number };
      try {
        const line = patient ? "lone" : "together";
        answer = await call(turnSql, [node, claimId, rows.length > 0 ? JSON.stringify(rows) : null, want, nodeLossesMax, lockWaitMs[line], now ?? null, lineFrom ?? null, starts.length > 0 ? JSON.stringify(starts) : null, ahead, handMs, novelties.areAsked], line);
      } catch (error) {
        if (rows.length > 0 && !patient && isContended(error)) throw new ContendedError("turn", { cause: error });
        throw error;
      }
      const claimed = [...answer.claims, ...(answer.taken ?? [])];
      for (const { id, isNovel } of claimed) if (isNovel) novelties.add(id);
      const built = new Set(answer.built);
      const settledBy = new Map(answer.settled.map((row) => [row.ord, row]));
      return {
        settled: endings.map(({ jobId, chatId }, ord): Settled => {
          if (built.has(ord)) return { kind: "settled", jobId, chatId, status: "completed", runAt: null, quarantined: false, failureCode: null };
          const row = settledBy.get(ord);
          if (!row) return { kind: "notMine", jobId };
          return { kind: "settled", jobId, chatId, status: row.status, runAt: row.runAt && iso(row.runAt), quarantined: row.quarantined, failureCode: row.failureCode };
        }),
        claims: claimed.map((row) => claimOf(row, claimId)),
        onRecord: answer.onRecord ?? [],
        refused: answer.refused ?? [],
        atMs: answer.atMs,
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

    prune: (keep, now) => call<Pruned>(pruneSql, [keep.ageMs, keep.count, keep.idempotencyMs, keep.batch, keep.cursor ?? null, now ?? null]),
  };
}

