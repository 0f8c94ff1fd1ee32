/** One row for each chat, those that need a person first; only the rows in sight exist. */
import { useEffect, useRef, useState } from "preact/hooks";
import { laneLatestMax } from "../../store/reading.js";
import type { LaneJob } from "../../store/store.js";
import { call } from "./api.js";
import { allLanes, isCut, laneKey, loaded, refresh, version } from "./lanes-state.js";
import type { Lane } from "./lanes-state.js";
import { Act, Badge, Elapsed, Empty, failureWord, Icon, isQuietEnd, Until } from "./parts.js";
import type { Tone } from "./parts.js";
import { adjust, link, place, stats } from "./state.js";

type Group = "attention" | "active" | "idle";
const filters = [["", "All"], ["attention", "Need attention"], ["active", "Active"], ["idle", "Idle"]] as const;
const rowHeight = (): number => (innerWidth < 720 ? 112 : 60);

const lastFinished = (lane: Lane): LaneJob | undefined => lane.jobs.findLast((job) => job.status === "completed" || job.status === "failed");
function groupOf(lane: Lane): Group {
  const last = lastFinished(lane);
  if (lane.state === "paused" || lane.state === "delayed" || lane.paused) return "attention";
  if (lane.state === "idle") return last?.status === "failed" && !isQuietEnd(last.failureCode) ? "attention" : "idle";
  return "active";
}
const weight = (lane: Lane): number => ({ attention: lane.state === "paused" ? 0 : lane.state === "delayed" ? 1 : 2, active: 3, idle: 4 })[groupOf(lane)];

export function Lanes() {
  version.value;
  const wanted = place.value.query.get("show") ?? "";
  const wording = place.value.query.get("q") ?? "";
  const text = wording.toLowerCase();
  const all = allLanes();
  const counts: Record<string, number> = { "": all.length, attention: 0, active: 0, idle: 0 };
  for (const lane of all) counts[groupOf(lane)] = (counts[groupOf(lane)] ?? 0) + 1;
  // Of idle ones the service tells the latest; those that need a person come first, so that none of them is cut off.
  const isIdleCut = all.filter(({ state }) => state === "idle").length >= laneLatestMax;
  const atLeast = (name: string): boolean => name !== "attention" && (isCut.value || (name !== "active" && isIdleCut));
  // They come by name, and stay so within each weight.
  const byWeight: Lane[][] = [[], [], [], [], []];
  for (const lane of all) if ((wanted === "" || groupOf(lane) === wanted) && (text === "" || lane.chatId.toLowerCase().includes(text))) byWeight[weight(lane)]?.push(lane);
  const shown = byWeight.flat();
  return (
    <>
      <div class="tools">
        <h1>Lanes</h1>
        <div class="tabs" role="group" aria-label="Show">
          {filters.map(([name, label]) => (
            <button key={name} type="button" aria-pressed={wanted === name} onClick={() => adjust({ show: name })}>
              {label} <span class="tab-count">{counts[name]?.toLocaleString("en")}{atLeast(name) ? "+" : ""}</span>
            </button>
          ))}
        </div>
        <label class="search">
          <span class="hidden">Filter by chat</span>
          <input type="search" placeholder="Filter by chat" value={place.value.query.get("q") ?? ""} onInput={(event) => adjust({ q: event.currentTarget.value })} />
        </label>
      </div>
      {stats.value?.queuePaused ? <p class="notice held"><Icon of="held" /> The whole queue is paused: nothing new starts on any node. Resume it above.</p> : null}
      {isIdleCut && (wanted === "" || wanted === "idle") ? <p class="quiet-text cut">Of idle lanes the latest {laneLatestMax} are here. The filter opens any other by its chat, or a job by its id.</p> : null}
      {shown.length > 0 ? <Rows lanes={shown} /> : loaded.value ? (
        all.length === 0 ? <Empty title="No lanes yet">Every chat that submits code gets a lane here. <a href="#/submit">Submit something</a> to see one.</Empty> : <Empty title="No lane matches">
            Change the filter to see the other {all.length}{isCut.value || isIdleCut ? ", which are not all there are" : ""}.
            {text ? <> Or <a href={link(["chat", wording])}>open chat <bdi>{wording}</bdi></a>, or <a href={link(["job", wording])}>open job <bdi>{wording}</bdi></a>.</> : null}
          </Empty>
      ) : <p class="loading" role="status">Reading the lanes…</p>}
    </>
  );
}

function Rows({ lanes }: { lanes: Lane[] }) {
  const list = useRef<HTMLUListElement>(null);
  const [range, set] = useState({ from: 0, to: 40, height: rowHeight() });
  useEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      const height = rowHeight();
      const top = list.current?.getBoundingClientRect().top ?? 0;
      const from = Math.max(0, Math.floor(-top / height) - 8);
      const to = Math.ceil((innerHeight - top) / height) + 8;
      set((was) => (was.from === from && was.to === to && was.height === height ? was : { from, to, height }));
    };
    const later = () => void (frame ||= requestAnimationFrame(look));
    look();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
      cancelAnimationFrame(frame);
    };
  }, []);
  /* The arrow keys go from row to row, inside the list only. */
  const move = (event: KeyboardEvent) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    const row = (event.target as HTMLElement).closest("li");
    const to = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
    const target = to?.querySelector<HTMLElement>("a, button");
    if (!target) return;
    event.preventDefault();
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  };
  const { from, to, height } = range;
  return (
    <ul class="lanes" ref={list} style={{ height: lanes.length * height }} onKeyDown={move} aria-label={`${lanes.length} lanes`}>
      {lanes.slice(from, to).map((lane, index) => <Row key={laneKey(lane)} lane={lane} top={(from + index) * height} height={height} at={from + index + 1} of={lanes.length} />)}
    </ul>
  );
}

function Row({ lane, top, height, at, of }: { lane: Lane; top: number; height: number; at: number; of: number }) {
  const more = lane.pending - lane.jobs.filter((job) => job.status === "pending").length;
  const key = laneKey(lane);
  const failed = lane.state === "idle" ? lane.jobs.at(-1) : undefined;
  const after = async (verb: Promise<unknown>) => {
    await verb;
    refresh(key);
  };
  return (
    <li class={`lane ${groupOf(lane)}`} style={{ top, height }} aria-setsize={of} aria-posinset={at} data-chat={lane.chatId}>
      <div class="lane-name">
        <a href={link(["chat", lane.chatId], lane.tenant ? { tenant: lane.tenant } : {})} title={lane.chatId}><bdi>{lane.chatId}</bdi></a>
        {lane.tenant ? <span class="tenant">{lane.tenant}</span> : null}
      </div>
      <ol class="chips" aria-label={`Jobs of ${lane.chatId} in order`}>
        {lane.jobs.map((job) => <Chip key={job.id} job={job} />)}
        {more > 0 ? <li class="more">+{more}</li> : null}
      </ol>
      <div class="lane-end">
        <State lane={lane} />
        {/* A key of every tenant sees the others' chats, and acts on their jobs, not on their lanes. */}
        {lane.paused && !lane.tenant ? <Act label="Resume" tone="primary" title={`Resume chat ${lane.chatId}`} run={() => after(call("POST", `/chat/${encodeURIComponent(lane.chatId)}/resume`))} />
          : failed?.status === "failed" ? <Act label="Retry" title={`Retry job ${failed.chatSeq} of ${lane.chatId}`} run={() => after(call("POST", `/${failed.id}/retry`))} />
          : lane.state !== "idle" && !lane.tenant ? <Act label="Pause" title={`Pause chat ${lane.chatId}`} run={() => after(call("POST", `/chat/${encodeURIComponent(lane.chatId)}/pause`))} /> : null}
      </div>
    </li>
  );
}

/** What holds the lane, and what ends that. */
export function State({ lane }: { lane: Lane }) {
  const head = lane.jobs.find((job) => job.status === "running" || job.status === "pending");
  const last = lastFinished(lane);
  if (lane.state === "running") return <span class="state"><Badge tone={lane.paused ? "held" : "running"}>{lane.paused ? "Pausing" : "Building"} #{head?.chatSeq}</Badge></span>;
  if (lane.paused && lane.heldBy) return <span class="state"><Badge tone="held">Held</Badge> <small>since <a href={link(["job", lane.heldBy])}>job {lane.jobs.find(({ id }) => id === lane.heldBy)?.chatSeq ?? ""} failed</a></small></span>;
  if (lane.paused) return <span class="state"><Badge tone="held">Paused</Badge> <small>{lane.pending} waiting until resumed</small></span>;
  if (lane.state === "delayed" && head) {
    const retries = head.attempt > 0;
    return <span class="state"><Badge tone="warn">{retries ? "Backing off" : "Delayed"}</Badge> <small>#{head.chatSeq} {retries ? `attempt ${head.attempt + 1}` : "starts"}{head.nextAttemptAt ? <> in <Until at={head.nextAttemptAt} /></> : null}</small></span>;
  }
  if (lane.state === "ready") return <span class="state"><Badge tone="waiting">In line</Badge> <small>{stats.value?.queuePaused ? "until the queue is resumed" : "for a free slot"}</small></span>;
  if (last?.status === "failed" && !isQuietEnd(last.failureCode)) return <span class="state"><Badge tone="bad">Failed</Badge> <small>#{last.chatSeq} {failureWord(last.failureCode)}</small></span>;
  return <span class="state"><Badge tone="quiet">Idle</Badge></span>;
}

export const toneOf = (job: Pick<LaneJob, "status" | "failureCode" | "nextAttemptAt" | "attempt">): Tone =>
  job.status === "running" ? "running" : job.status === "completed" ? "good" : job.status === "failed" ? (isQuietEnd(job.failureCode) ? "quiet" : "bad") : job.nextAttemptAt && job.attempt > 0 ? "warn" : "waiting";
const wordOf = (job: LaneJob): string =>
  job.status === "failed" ? failureWord(job.failureCode) : job.status === "pending" && job.nextAttemptAt ? (job.attempt > 0 ? "backing off" : "delayed") : job.status;

export function Chip({ job, current }: { job: LaneJob; current?: boolean }) {
  return (
    <li>
      <a class={`chip ${toneOf(job)}`} href={link(["job", job.id])} aria-current={current ? "true" : undefined} data-job={job.id} data-status={job.status} data-seq={job.chatSeq} title={`#${job.chatSeq} · ${wordOf(job)} · message ${job.messageId}`}>
        <Icon of={toneOf(job)} />
        <span class="hidden">Job </span>{job.chatSeq}<span class="hidden">, {wordOf(job)}</span>
        {job.status === "running" && job.startedAt ? <span class="elapsed"><Elapsed since={job.startedAt} /></span> : null}
      </a>
    </li>
  );
}
