/**
 * The whole history over SQL, for its checkers: one read-only transaction that sees one moment, and cursors, so that
 * neither side holds more than a page (the server sorts by time on disk when it must).
 */
import type { CheckedEvent, CheckedJob, CheckedLane } from "../../history/check.js";
import type { History } from "../../history/verify.js";
import type { Store } from "../store.js";
import { reaching } from "./database.js";
import type { Database } from "./database.js";

const pageMax = 2000;

const laneSql = `select chat_id as "chatId", tail::float8 as tail, event_tail::float8 as "eventTail", event_floor::float8 as "eventFloor", pending from chat_lanes order by chat_id`;
const jobSql = `select id, chat_id as "chatId", chat_seq::float8 as "chatSeq", status, attempt, max_attempts as "maxAttempts" from build_jobs order by chat_id, chat_seq`;
const eventSql = `select chat_id as "chatId", number::float8 as number, type, job_id as "jobId", chat_seq::float8 as "chatSeq", status, attempt, (extract(epoch from at) * 1000)::float8 as "atMs", data from job_events`;
const nodeSql = `select id, slots, cluster_cap as "clusterCap" from build_nodes`;
const agingSql = `select distinct round(extract(epoch from j.created_at - j.rank) * 1000 / j.priority)::float8 as aging from build_jobs j
  where j.priority <> 0 and not exists (select 1 from job_events e where e.job_id = j.id and e.type in ('job.redriven', 'job.retrying')) limit 2`;

export const sqlHistory = (database: Database): Pick<Store, "readHistory"> => ({
  readHistory: <T>(read: (history: History) => Promise<T>) =>
    reaching(() =>
      database.transaction(async (tx) => {
        await tx.script("set transaction isolation level repeatable read, read only");
        let cursors = 0;
        async function* pages<R>(select: string): AsyncGenerator<R[], void, undefined> {
          const name = `history_${cursors++}`;
          await tx.script(`declare ${name} no scroll cursor for ${select}`);
          for (;;) {
            const rows = await tx.rows<R>(`fetch ${pageMax} from ${name}`);
            if (rows.length === 0) break;
            yield rows;
          }
          await tx.script(`close ${name}`);
        }
        async function* events(order: string): AsyncGenerator<CheckedEvent[], void, undefined> {
          for await (const page of pages<Omit<CheckedEvent, "at"> & { atMs: number }>(`${eventSql} order by ${order}`))
            yield page.map((event) => ({ ...event, at: new Date(Math.floor(event.atMs)).toISOString() }));
        }
        const nodes = await tx.rows<{ id: string; slots: number; clusterCap: number | null }>(nodeSql);
        const agings = await tx.rows<{ aging: number }>(agingSql);
        const caps = new Set(nodes.map(({ clusterCap }) => clusterCap));
        return read({
          lanes: () => pages<CheckedLane>(laneSql),
          events: (order) => events(order === "chat" ? "chat_id, number" : "at, chat_id, number"),
          jobs: () => pages<CheckedJob>(jobSql),
          clusterMax: caps.size === 1 ? ([...caps][0] as number | null) : null,
          slots: new Map(nodes.map(({ id, slots }) => [id, slots])),
          agingMs: agings.length === 1 && agings[0] ? agings[0].aging : null,
        });
      }),
    ),
});
