/** Reads for whoever watches: what is new in all chats, places in a chat, what a job waits for, and the lanes as a picture. One call each, so what it says was true together. */
import type { SQL } from "drizzle-orm";
import type { Clock } from "../../clock.js";
import type { FailureCode, HistoryEvent, JobStatus } from "../../job.js";
import { sql } from "../drizzle.js";
import { decodeLanePlace, encodeLanePlace } from "../lane-cursor.js";
import { laneFinishedMax, laneLatestMax, lanePendingMax } from "../store.js";
import type { LaneJob, LaneView, Place, Quarantined, Store, WhyFacts } from "../store.js";
import { formOf, laneKey, shownLane, tenantArg } from "../scope.js";
import { iso } from "./claims.js";
import { reads } from "./database.js";
import type { Database } from "./database.js";

/** A lane as `buildlane_lane_views` tells it: its finished jobs newest first. */
type ToldLane = [group: number, chatId: string, state: LaneView["state"], paused: boolean, eventNumber: number, pending: number, nodeId: string | null, heldBy: string | null, finished: ToldLaneJob[] | null, running: ToldLaneJob[] | null, waiting: ToldLaneJob[] | null];
type ToldLaneJob = [id: string, chatSeq: number, messageId: string, status: JobStatus, attempt: number, maxAttempts: number, priority: number, createdAt: string, startedAt: string | null, completedAt: string | null, nextAttemptAt: string | null, failureCode: FailureCode | null];

const laneJob = ([id, chatSeq, messageId, status, attempt, maxAttempts, priority, createdAt, startedAt, completedAt, nextAttemptAt, failureCode]: ToldLaneJob): LaneJob => ({
  id, chatSeq, messageId, status, attempt, maxAttempts, priority, createdAt: iso(createdAt), startedAt: startedAt && iso(startedAt), completedAt: completedAt && iso(completedAt),
  nextAttemptAt: nextAttemptAt && iso(nextAttemptAt), failureCode,
});
const lane = ([, chatId, state, paused, eventNumber, pending, nodeId, heldBy, finished, running, waiting]: ToldLane): LaneView => ({
  ...shownLane(chatId), state, paused, heldBy, eventNumber, pending, nodeId, jobs: [...(finished ?? []).reverse(), ...(running ?? []), ...(waiting ?? [])].map(laneJob),
});

const shown = <T extends { chatId: string }>(row: T): T => ({ ...row, ...shownLane(row.chatId) });

export function sqlLive(database: Database, clock: Clock): Pick<Store, "news" | "places" | "quarantined" | "why" | "lanes"> {
  const { orm } = database;
  const reading = reads(database, clock);
  async function one<T>(statement: SQL): Promise<T> {
    const answer = await orm.execute(statement);
    const rows = Array.isArray(answer) ? (answer as unknown as { answer: T }[]) : (answer as unknown as { rows: { answer: T }[] }).rows;
    return (rows[0] as { answer: T }).answer;
  }
  const time = (now: number | undefined): SQL => sql`buildlane_now(${now ?? null}::float8)`;

  return {
    news: ({ since, limit }, now) =>
      reading(async () => {
        const { events, ...rest } = await one<{ events: HistoryEvent[]; now: number; queuePaused: boolean }>(sql`
          with found as (select * from job_events where at >= to_timestamp(${since}::float8 / 1000.0) order by at limit ${limit})
          select json_build_object(
            'events', (select coalesce(json_agg(json_build_object('chatId', chat_id, 'number', number, 'type', type, 'jobId', job_id, 'chatSeq', chat_seq, 'status', status, 'attempt', attempt, 'at', buildlane_iso(at), 'data', data) order by at, chat_id, number), '[]'::json) from found),
            'now', extract(epoch from ${time(now)}) * 1000,
            'queuePaused', (select paused_at is not null from queue_state)) as answer`);
        return { events: events.map(shown), ...rest };
      }),

    places: (scope, shownId, limit, now) =>
      reading(async () => {
        const at = time(now);
        const chatId = laneKey(scope, shownId);
        const { places, paused } = await one<{ places: Place[]; paused: boolean | null }>(sql`
          select json_build_object(
            'paused', (select paused_at is not null from chat_lanes where chat_id = ${chatId}),
            'places', (select coalesce(json_agg(json_build_object('id', id, 'chatSeq', chat_seq, 'attempt', attempt, 'queuePosition', nth + (select count(*) from build_jobs where chat_id = ${chatId} and status = 'running'),
                'nextAttemptAt', case when run_at > ${at} then buildlane_iso(run_at) end) order by nth), '[]'::json)
              from (select *, row_number() over (order by rank, place) as nth from build_jobs where chat_id = ${chatId} and status = 'pending' order by rank, place limit ${limit}) p)) as answer`);
        return { places, paused: paused ?? false };
      }),

    quarantined: (limit) =>
      reading(() =>
        one<Quarantined[]>(sql`
          select coalesce(json_agg(json_build_object('codeHash', code_hash, 'cause', cause, 'crashes', crashes, 'quarantinedAt', buildlane_iso(quarantined_at)) order by quarantined_at desc, code_hash), '[]'::json) as answer
          from (select * from code_crashes where quarantined_at is not null order by quarantined_at desc, code_hash limit ${limit}) q`),
      ),

    why: (scope, jobId, now) =>
      reading(async () => {
        const facts = await database.call<WhyFacts | null>("select buildlane_why($1, $2, $3) as answer", [jobId, tenantArg(scope), now ?? null], "reads");
        return facts && shown({ ...facts, front: facts.front?.id === facts.id ? null : facts.front });
      }),

    lanes: (scope, { chatIds, limit, cursor }, now) =>
      reading(async () => {
        if (chatIds) {
          const named = await database.call<ToldLane[]>("select buildlane_lanes_named(array(select json_array_elements_text($1::text::json)), $2, $3, $4) as answer", [JSON.stringify(chatIds.map((id) => laneKey(scope, id))), laneFinishedMax, lanePendingMax, now ?? null], "reads");
          return { lanes: named.map(lane), nextCursor: null };
        }
        const [group, chatId] = cursor === undefined ? [0, ""] : decodeLanePlace(cursor);
        const found = await database.call<ToldLane[]>(`select buildlane_lanes_of_${formOf(scope)}($1, $2, $3, $4, $5, $6, $7, $8) as answer`, [tenantArg(scope), group, chatId, limit + 1, laneLatestMax, laneFinishedMax, lanePendingMax, now ?? null], "reads");
        const page = found.slice(0, limit);
        const last = page.at(-1);
        return { lanes: page.map(lane), nextCursor: found.length > limit && last ? encodeLanePlace([last[0], last[1]]) : null };
      }),
  };
}
