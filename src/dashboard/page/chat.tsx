/** One chat: its jobs in order, the newest finished ones behind those that wait. */
import { useEffect, useState } from "preact/hooks";
import type { Job } from "../../job.js";
import type { LaneJob } from "../../store/store.js";
import { ApiError, call, read } from "./api.js";
import { Chip, State, toneOf } from "./lanes.js";
import { laneKey, laneOf, loaded, refresh, version } from "./lanes-state.js";
import { Act, Badge, duration, Empty, failureWord, Icon, When } from "./parts.js";
import { link, onEvent, place } from "./state.js";

type Jobs = Record<"pending" | "running" | "completed" | "failed", Job[]>;
/** Of each status. */
const shownMax = 100;
type Row = LaneJob & { queuePosition?: number };

const rowOf = (job: Job): Row => ({ ...job, failureCode: job.failure?.code ?? null });
const newestFirst = (a: Row, b: Row): number => Date.parse(b.completedAt ?? b.createdAt) - Date.parse(a.completedAt ?? a.createdAt);
/** What runs and waits in its order, then what has finished, newest first. */
const inOrder = (rows: Row[]): Row[] => {
  const of = (...statuses: Row["status"][]) => rows.filter(({ status }) => statuses.includes(status));
  return [...of("running"), ...of("pending"), ...of("completed", "failed").sort(newestFirst)];
};

export function ChatPage({ chatId }: { chatId: string }) {
  version.value;
  const [jobs, set] = useState<Row[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const tenant = place.value.query.get("tenant");
  const key = laneKey({ chatId, tenant: tenant ?? undefined });
  const lane = laneOf(key);
  useEffect(() => {
    set(null);
    // Lists are of one's own chats: of another tenant's chat the lane tells what there is, and keeps it fresh itself.
    if (tenant) return void refresh(key);
    const controller = new AbortController();
    let timer = 0;
    const look = () =>
      read<Jobs>(`/chat/${encodeURIComponent(chatId)}?limit=${shownMax}`, controller.signal)
        .then(({ running, pending, completed, failed }) => (set([...running, ...pending, ...completed, ...failed].map(rowOf)), setError(null)), (reason: unknown) => reason instanceof ApiError && setError(reason.message))
        .finally(() => (timer = 0));
    void look();
    const stop = onEvent((told) => {
      if (told.data.chatId === chatId || told.event === "reset") timer ||= window.setTimeout(look, 100);
    });
    return () => {
      stop();
      controller.abort();
      clearTimeout(timer);
    };
  }, [chatId, tenant]);
  // Neither at work nor lately: it is not among the lanes that are read.
  useEffect(() => {
    if (loaded.value && !lane) refresh(key);
  }, [key, loaded.value, !lane]);
  const isCut = (["completed", "failed", "pending"] as const).some((status) => jobs?.filter((job) => job.status === status).length === shownMax);
  const known = tenant ? (lane ? lane.jobs : loaded.value ? [] : null) : jobs;
  const rows = inOrder(known ?? []);
  const path = `/chat/${encodeURIComponent(chatId)}`;
  return (
    <>
      <div class="tools">
        <div>
          <p class="crumbs"><a href="#/lanes">Lanes</a> <Icon of="arrow" /></p>
          <h1><bdi>{chatId}</bdi> {tenant ? <span class="tenant">{tenant}</span> : null} </h1>
          {lane ? <p><State lane={lane} /></p> : null}
        </div>
        <div class="actions">{lane && !tenant ? lane.paused ? <Act label="Resume" tone="primary" run={() => call("POST", `${path}/resume`)} /> : <Act label="Pause" run={() => call("POST", `${path}/pause`)} /> : null}</div>
      </div>
      {lane ? <ol class="chips wide" aria-label="Jobs in order">{lane.jobs.map((job) => <Chip key={job.id} job={job} />)}</ol> : null}
      {error ? <p class="notice bad" role="alert"><Icon of="bad" /> {error}</p> : null}
      {known === null && !error ? <p class="loading" role="status">Reading the chat…</p> : null}
      {known && rows.length === 0 ? <Empty title="No jobs">This chat has never submitted anything, or what it did is no longer kept.</Empty> : null}
      <ul class="rows">
        {rows.map((job) => (
          <li key={job.id} class="row">
            <a class="row-main" href={link(["job", job.id])}>#{job.chatSeq} <span class="quiet-text">message <bdi>{job.messageId}</bdi></span></a>
            <Badge tone={toneOf(job)}>{job.status === "failed" ? failureWord(job.failureCode) : job.status}</Badge>
            <span class="quiet-text">accepted <When at={job.createdAt} />{job.startedAt && job.completedAt ? `, took ${duration(Date.parse(job.completedAt) - Date.parse(job.startedAt))}` : job.queuePosition && job.status === "pending" ? `, position ${job.queuePosition}` : ""}</span>
            {job.status === "failed" ? <Act label="Retry" title={`Retry job ${job.chatSeq}`} run={() => call("POST", `/${job.id}/retry`)} /> : job.status === "completed" ? null : <Act label="Cancel" title={`Cancel job ${job.chatSeq}`} tone="danger" run={() => call("POST", `/${job.id}/cancel`)} />}
          </li>
        ))}
      </ul>
      {isCut ? <p class="quiet-text">The latest {shownMax} of each kind that have ended, and the next {shownMax} in its line.</p> : null}
      {tenant && rows.length > 0 ? <p class="quiet-text">The latest of a chat of another tenant, and the next in its line. A key of {tenant} sees all.</p> : null}
    </>
  );
}
