/** Reads for whoever watches: what is new in all chats, places in a chat, what a job waits for, and the lanes as a picture. One statement each, so what it says was true together. */
import { sql } from "drizzle-orm";
import type { SQL } from "drizzle-orm";
import type { Clock } from "../../clock.js";
import type { HistoryEvent } from "../../job.js";
import { decodeLanePlace, encodeLanePlace } from "../lane-cursor.js";
import { laneFinishedMax, laneLatestMax, lanePendingMax } from "../store.js";
import type { LaneView, Place, Quarantined, Store, WhyFacts } from "../store.js";
import { shownLane, laneKey, tenantArg } from "../scope.js";
import type { Scope } from "../scope.js";
import { reads } from "./database.js";
import type { Database } from "./database.js";

/**
 * A page of lanes in groups: 0 paused, 1 delayed, 2 at work or in line, 3 idle and used lately. Each arm reads a partial index,
 * or walks the chats in their order where most are in the group, and no further than the page.
 */
function lanePage(at: SQL, mine: SQL, from: [number, string] | undefined, limit: number): SQL {
  const latest = sql`(select distinct chat_id from (select chat_id from build_jobs where status in ('completed', 'failed') and ${mine} order by completed_at desc limit ${laneLatestMax}) latest)`;
  const groups: [number, SQL][] = [
    [0, sql`state = 'paused' and paused_at is not null`],
    [1, sql`state = 'delayed' and ready_at > ${at}`],
    [2, sql`state = 'delayed' and ready_at <= ${at}`],
    [2, sql`state = 'ready'`],
    [2, sql`owner is not null`],
    [3, sql`state = 'idle' and chat_id in ${latest}`],
  ];
  const arms = groups
    .filter(([group]) => from === undefined || group >= from[0])
    .map(([group, lanes]) => sql`(select ${group}::int as grp, chat_id from chat_lanes where ${lanes} and ${mine} ${from?.[0] === group ? sql`and chat_id > ${from[1]}` : sql``} order by chat_id limit ${limit})`);
  return sql`select * from (${sql.join(arms, sql` union all `)}) g order by grp, chat_id limit ${limit}`;
}

/** Of one tenant only, in words that fit the tenants' partial indexes. */
const within = (scope: Scope): SQL => {
  const tenant = tenantArg(scope);
  return tenant === null ? sql`true` : tenant === "" ? sql`tenant = ''` : sql`tenant = ${tenant} and tenant <> ''`;
};
const shown = <T extends { chatId: string }>(row: T): T => ({ ...row, ...shownLane(row.chatId) });

const laneJob = (at: SQL): SQL => sql`json_build_object('id', j.id, 'chatSeq', j.chat_seq, 'messageId', j.message_id, 'status', j.status, 'attempt', j.attempt, 'maxAttempts', j.max_attempts,
  'priority', j.priority, 'createdAt', buildlane_iso(j.created_at), 'startedAt', buildlane_iso(j.started_at), 'completedAt', buildlane_iso(j.completed_at),
  'nextAttemptAt', case when j.status = 'pending' and j.run_at > ${at} then buildlane_iso(j.run_at) end, 'failureCode', j.failure_code)`;

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
        const at = time(now);
        const from = cursor === undefined ? undefined : decodeLanePlace(cursor);
        const wanted = chatIds
          ? sql`select 0 as grp, l.chat_id from chat_lanes l where l.chat_id in (${sql.join(chatIds.map((id) => sql`${laneKey(scope, id)}`), sql`, `)})`
          : lanePage(at, within(scope), from, limit + 1);
        const found = await one<(LaneView & { grp: number })[]>(sql`
          with page as (${wanted})
          select coalesce(json_agg(json_build_object('grp', p.grp, 'chatId', l.chat_id,
              'state', case when l.state = 'delayed' and l.ready_at <= ${at} then 'ready' else l.state end, 'paused', l.paused_at is not null, 'eventNumber', l.event_tail, 'pending', l.pending, 'nodeId', l.owner,
              'jobs', (select coalesce(json_agg(x.job order by x.part, x.nth), '[]'::json) from (
                select 0 as part, row_number() over (order by j.completed_at, j.chat_seq) as nth, ${laneJob(at)} as job
                  from (select * from build_jobs where chat_id = l.chat_id and status in ('completed', 'failed') order by completed_at desc, chat_seq desc limit ${laneFinishedMax}) j
                union all select 1, 1, ${laneJob(at)} from build_jobs j where j.chat_id = l.chat_id and j.status = 'running'
                union all select 2, row_number() over (order by j.rank, j.place), ${laneJob(at)}
                  from (select * from build_jobs where chat_id = l.chat_id and status = 'pending' order by rank, place limit ${lanePendingMax}) j) x)
            ) order by p.grp, p.chat_id), '[]'::json) as answer
          from page p join chat_lanes l on l.chat_id = p.chat_id`);
        const page = found.slice(0, chatIds ? found.length : limit);
        const last = page.at(-1);
        return { lanes: page.map(({ grp: _group, ...lane }) => shown(lane)), nextCursor: found.length > page.length && last ? encodeLanePlace([last.grp, last.chatId]) : null };
      }),
  };
}
