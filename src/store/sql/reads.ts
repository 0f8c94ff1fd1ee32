/** The store's reads over SQL: one job, a chat, lists, events. None takes a lock; what they say was true together. */
import type { SQL } from "drizzle-orm";
import type { AnyPgColumn } from "drizzle-orm/pg-core";
import type { Clock } from "../../clock.js";
import { validationFailed } from "../../errors.js";
import type { FailureCode, HistoryEvent } from "../../job.js";
import { and, asc, desc, eq, getTableColumns, gt, gte, inArray, isNull, lte, notInArray, sql, unionAll } from "../drizzle.js";
import { groupedMax, groupExamplesMax } from "../store.js";
import { buildJobs, chatLanes, jobEvents } from "../schema.js";
import { laneKey } from "../scope.js";
import type { Scope } from "../scope.js";
import type { DeadLetterFilter, ListRead, Store, StoredJob } from "../store.js";
import { reads } from "./database.js";
import type { Database } from "./database.js";
import { toEvent, toJob, toldJobs } from "./rows.js";
import type { ToldJob } from "./rows.js";

type Reads = Pick<Store, "rateAheadMs" | "get" | "ended" | "output" | "chat" | "list" | "events" | "eventStart" | "deadLetterIds" | "countDeadLetters" | "deadLetterGroups" | "discard" | "ping">;
type Include = { code: boolean; result: boolean };

const notLetters = ["cancelled", "superseded"] as const;

/** Columns of a job; large ones only on demand, the source map never. */
function jobColumns(include: Include) {
  const { result, code, files, sourceMap: _never, ...rest } = getTableColumns(buildJobs);
  const nothing = sql<null>`null`;
  return {
    ...rest,
    code: include.code ? code : nothing,
    files: include.code ? files : nothing,
    result: include.result ? result : nothing,
    position: sql<number>`case when ${buildJobs.status} = 'pending' then buildlane_position(${buildJobs.chatId}, ${buildJobs.rank}, ${buildJobs.place}) else 0 end`.mapWith(Number),
    // Drizzle leaves the table out of a column's name where one table is read; in here that would mean the lane's own.
    chatPaused: sql<boolean>`exists (select 1 from chat_lanes l where l.chat_id = build_jobs.chat_id and l.paused_at is not null)`,
    chatReadyAt: sql<string | null>`(select buildlane_iso(f.run_at) from chat_lanes l join build_jobs f on f.id = l.head_id where l.chat_id = build_jobs.chat_id)`,
  };
}

/** Only what the scope may see. The second condition lets the planner take the index of tenants' jobs. */
const within = (scope: Scope): SQL | undefined =>
  scope === "everyone" ? undefined : and(eq(buildJobs.tenant, scope.tenant), scope.tenant === "" ? undefined : sql`${buildJobs.tenant} <> ''`, scope.chatId === undefined ? undefined : eq(buildJobs.chatId, laneKey(scope, scope.chatId)));
const ofJob = (scope: Scope, jobId: string): SQL | undefined => and(eq(buildJobs.id, jobId), within(scope));

const fingerprint = sql<string>`buildlane_fingerprint(${buildJobs.failureCode}, ${buildJobs.failure} ->> 'message')`;
const deadLetters = (scope: Scope, filter: DeadLetterFilter): SQL | undefined =>
  and(
    within(scope),
    eq(buildJobs.status, "failed"),
    notInArray(buildJobs.failureCode, [...notLetters]),
    isNull(buildJobs.discardedAt),
    filter.ids && inArray(buildJobs.id, filter.ids),
    filter.chatId === undefined ? undefined : eq(buildJobs.chatId, laneKey(scope, filter.chatId)),
    filter.failureCode === undefined ? undefined : sql`${buildJobs.failureCode} = ${filter.failureCode}`,
    filter.fingerprint === undefined ? undefined : sql`${fingerprint} = ${filter.fingerprint}`,
  );

// Asked for most, so each is a function, which is planned once (migrations/0017_reads.sql).
const jobSql = "select buildlane_job($1, $2, $3) as answer";
const endedSql = "select coalesce(jsonb_agg(asked.id), '[]') as answer from json_array_elements_text($1::text::json) asked (id) where not exists (select 1 from build_jobs j where j.id = asked.id and j.status in ('pending', 'running'))";
const viewSql = "select buildlane_view($1, $2, $3, $4) as answer";

/** Opaque to callers: creation time in microseconds since 1970, and id. */
const encodeCursor = (at: string, id: string): string => Buffer.from(JSON.stringify([at, id])).toString("base64url");
function decodeCursor(cursor: string): [string, string] {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
    if (Array.isArray(parsed) && parsed.length === 2 && parsed.every((part) => typeof part === "string" && part.isWellFormed() && !part.includes("\0")) && /^\d{1,16}$/.test(String(parsed[0]))) return parsed as [string, string];
  } catch {
    // Falls through to the same answer as a well-formed cursor of something else.
  }
  throw validationFailed([{ path: "/cursor", message: "Expected a cursor from the page before." }]);
}

export function sqlReads(database: Database, clock: Clock): Reads {
  const { orm } = database;
  const reading = reads(database, clock);
  const eventsOf = async (ids: string[]): Promise<Map<string, HistoryEvent[]>> => {
    const found = new Map<string, HistoryEvent[]>(ids.map((id) => [id, []]));
    if (ids.length === 0) return found;
    const rows = await orm.select().from(jobEvents).where(inArray(jobEvents.jobId, ids)).orderBy(asc(jobEvents.number));
    for (const row of rows) found.get(row.jobId as string)?.push(toEvent(row));
    return found;
  };
  async function jobs(where: SQL | undefined, order: SQL[], limit: number, include: Include): Promise<{ job: StoredJob; cursorAt: string }[]> {
    const rows = await orm
      .select({ ...jobColumns(include), cursorAt: sql<string>`(extract(epoch from ${buildJobs.createdAt}) * 1000000)::bigint::text` })
      .from(buildJobs)
      .where(where)
      .orderBy(...order)
      .limit(limit);
    const events = await eventsOf(rows.filter((row) => row.attempt > 0).map((row) => row.id));
    const now = clock.now();
    return rows.map((row) => ({ job: toJob(row, events.get(row.id) ?? [], now), cursorAt: row.cursorAt }));
  }

  return {
    rateAheadMs: (scope, chatId, now) =>
      reading(async () => {
        const ahead = sql<number>`greatest(0, extract(epoch from ${chatLanes.rateAt} - buildlane_now(${now ?? null}::float8)) * 1000)`.mapWith(Number);
        const [lane] = await orm.select({ ahead }).from(chatLanes).where(eq(chatLanes.chatId, laneKey(scope, chatId)));
        return lane?.ahead ?? 0;
      }),

    get: (scope, jobId) =>
      reading(async () => {
        const [tenant, chatId] = scope === "everyone" ? [null, null] : [scope.tenant, scope.chatId === undefined ? null : laneKey(scope, scope.chatId)];
        const [job] = toldJobs(await database.call<ToldJob[]>(jobSql, [jobId, tenant, chatId], "reads"), clock.now());
        return job ?? null;
      }),

    ended: (jobIds) => reading(() => database.call<string[]>(endedSql, [JSON.stringify(jobIds)], "reads")),

    output: (scope, jobId) =>
      reading(async () => {
        const [row] = await orm.select({ status: buildJobs.status, result: buildJobs.result, sourceMap: buildJobs.sourceMap }).from(buildJobs).where(ofJob(scope, jobId));
        return row ?? null;
      }),

    chat: (scope, chatId, limit, include) =>
      reading(async () => {
        const found = toldJobs(await database.call<ToldJob[]>(viewSql, [laneKey(scope, chatId), limit, include.code, include.result], "reads"), clock.now());
        const of = <S extends StoredJob["status"]>(status: S) => found.filter((job): job is Extract<StoredJob, { status: S }> => job.status === status);
        return { pending: of("pending"), running: of("running"), completed: of("completed"), failed: of("failed") };
      }),

    list: (scope, query: ListRead) =>
      reading(async () => {
        const from = query.cursor === undefined ? undefined : decodeCursor(query.cursor);
        const where = and(
          within(scope),
          query.status && inArray(buildJobs.status, query.status),
          query.chatId === undefined ? undefined : eq(buildJobs.chatId, laneKey(scope, query.chatId)),
          // Of failed ones, as the table knows: they have an index.
          query.failureCode === undefined ? undefined : and(eq(buildJobs.status, "failed"), sql`${buildJobs.failureCode} = ${query.failureCode}`),
          query.createdAfter === undefined ? undefined : gte(buildJobs.createdAt, new Date(query.createdAfter)),
          query.createdBefore === undefined ? undefined : lte(buildJobs.createdAt, new Date(query.createdBefore)),
          query.deadLetters ? deadLetters(scope, { fingerprint: query.fingerprint }) : undefined,
          from && sql`(${buildJobs.createdAt}, ${buildJobs.id}) < (timestamptz 'epoch' + ${from[0]}::bigint * interval '1 microsecond', ${from[1]})`,
        );
        const found = await jobs(where, [desc(buildJobs.createdAt), desc(buildJobs.id)], query.limit + 1, query.include);
        const page = found.slice(0, query.limit);
        const last = page.at(-1);
        return { jobs: page.map(({ job }) => job), nextCursor: found.length > query.limit && last ? encodeCursor(last.cursorAt, last.job.id) : null };
      }),

    events: (scope, chatId, { after, limit, jobId }) =>
      reading(async () => {
        const lane = laneKey(scope, chatId);
        const [kept] = await orm.select({ floor: chatLanes.eventFloor, tail: chatLanes.eventTail }).from(chatLanes).where(eq(chatLanes.chatId, lane));
        const rows = await orm
          .select()
          .from(jobEvents)
          .where(and(eq(jobEvents.chatId, lane), gt(jobEvents.number, after), jobId === undefined ? undefined : eq(jobEvents.jobId, jobId)))
          .orderBy(asc(jobEvents.number))
          .limit(limit);
        return { events: rows.map(toEvent), floor: kept?.floor ?? 0, tail: kept?.tail ?? 0 };
      }),

    eventStart: (scope, chatId) =>
      reading(async () => {
        const key = laneKey(scope, chatId);
        // Each by its own index: none has what is not finished.
        const first = (status: "pending" | "running") => orm.select({ id: buildJobs.id, chatSeq: buildJobs.chatSeq }).from(buildJobs).where(and(eq(buildJobs.chatId, key), eq(buildJobs.status, status)));
        const [oldest] = await unionAll(first("pending"), first("running")).orderBy(({ chatSeq }) => asc(chatSeq)).limit(1);
        if (oldest) {
          const [first] = await orm.select({ number: jobEvents.number }).from(jobEvents).where(eq(jobEvents.jobId, oldest.id)).orderBy(asc(jobEvents.number)).limit(1);
          return (first?.number ?? 1) - 1;
        }
        const [lane] = await orm.select({ tail: chatLanes.eventTail }).from(chatLanes).where(eq(chatLanes.chatId, key));
        return lane?.tail ?? 0;
      }),

    deadLetterIds: (scope, filter, limit) =>
      reading(async () => {
        const rows = await orm.select({ id: buildJobs.id }).from(buildJobs).where(deadLetters(scope, filter)).orderBy(asc(buildJobs.completedAt), asc(buildJobs.id)).limit(limit);
        return rows.map((row) => row.id);
      }),

    deadLetterGroups: (scope, filter, limit) =>
      reading(async () => {
        const latest = orm
          .select({ id: buildJobs.id, chatId: buildJobs.chatId, failureCode: buildJobs.failureCode, completedAt: buildJobs.completedAt, message: sql<string>`${buildJobs.failure} ->> 'message'`.as("message"), fingerprint: fingerprint.as("fingerprint") })
          .from(buildJobs)
          .where(deadLetters(scope, filter))
          .orderBy(desc(buildJobs.completedAt), desc(buildJobs.id))
          .limit(groupedMax)
          .as("latest");
        const newest = <T>(column: SQL | AnyPgColumn) => sql<T>`array_agg(${column} order by ${latest.completedAt} desc, ${latest.id} desc)`;
        const rows = await orm
          .select({
            fingerprint: latest.fingerprint, failureCode: latest.failureCode, message: sql<string>`(${newest(sql`${latest.message}`)})[1]`, count: sql<number>`count(*)::int`.as("n"), chats: sql<number>`count(distinct ${latest.chatId})::int`,
            firstAt: sql<string>`buildlane_iso(min(${latest.completedAt}))`, latestAt: sql<string>`buildlane_iso(max(${latest.completedAt}))`, examples: sql<string[]>`to_json((${newest(latest.id)})[1:${sql.raw(String(groupExamplesMax))}])`,
          })
          .from(latest)
          .groupBy(latest.fingerprint, latest.failureCode)
          .orderBy(sql`n desc`, asc(latest.fingerprint))
          .limit(limit);
        return rows.map((row) => ({ ...row, failureCode: row.failureCode as FailureCode }));
      }),

    countDeadLetters: (scope, filter) => reading(() => orm.$count(buildJobs, deadLetters(scope, filter))),

    // The one write without the lane's lock: it changes neither order nor status, and the guard is on the row itself.
    discard: (scope, jobIds, now) =>
      reading(async () => {
        if (jobIds.length === 0) return 0;
        const rows = await orm.update(buildJobs).set({ discardedAt: sql`buildlane_now(${now ?? null}::float8)` }).where(deadLetters(scope, { ids: jobIds })).returning({ id: buildJobs.id });
        return rows.length;
      }),

    ping: async () => {
      try {
        await database.reading(async () => void (await orm.execute(sql`select 1`)));
        return true;
      } catch {
        return false;
      }
    },
  };
}
