/**
 * The lanes as the page knows them. A snapshot is read after the stream said `reset`; then each event is applied by chat
 * and number: one that the snapshot holds already is passed over, and after a gap the lane is read anew.
 */
import { signal } from "@preact/signals";
import { laneLatestMax } from "../../store/reading.js";
import type { LaneJob, LaneView } from "../../store/store.js";
import { call } from "./api.js";
import type { Told } from "./api.js";

export type Lane = LaneView;

export const laneKey = ({ chatId, tenant }: { chatId: string; tenant?: string | undefined }): string => (tenant ? `${tenant}\u001f${chatId}` : chatId);

const lanes = new Map<string, Lane>();
/** Their keys by name; null when a lane came or went. Comparing 2,000 names takes longer than a frame may. */
let names: string[] | null = null;
const byName = new Intl.Collator(undefined, { numeric: true });
const named = (key: string): string => lanes.get(key)?.chatId ?? "";
function put(key: string, lane: Lane): void {
  if (!lanes.has(key)) names = null;
  lanes.set(key, lane);
}
function drop(key: string): void {
  if (lanes.delete(key)) names = null;
}
/** Changes with every change of any lane, at most once a frame. */
export const version = signal(0);
export const loaded = signal(false);
/** Whether there were more than are kept. */
export const isCut = signal(false);
/** By name. */
export function allLanes(): Lane[] {
  names ??= [...lanes.keys()].sort((a, b) => byName.compare(named(a), named(b)));
  return names.map((key) => lanes.get(key) as Lane);
}
export const laneOf = (key: string): Lane | undefined => lanes.get(key);

let buffered: Told[] | null = null;
const dirty = new Set<string>();
let dirtyTimer = 0;
let frame = 0;
const finishedShown = 6;
const pendingShown = 12;
const kept = 3000;

function changed(): void {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    version.value++;
  });
}

export async function loadLanes(signal: AbortSignal): Promise<void> {
  buffered = [];
  const found = new Map<string, Lane>();
  let cursor: string | null = "";
  while (cursor !== null && found.size < kept) {
    const page: { data: Lane[]; meta?: { nextCursor: string | null } } = await call<Lane[]>("GET", `/lanes?limit=200${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, undefined, signal);
    for (const lane of page.data) found.set(laneKey(lane), lane);
    cursor = page.meta?.nextCursor ?? null;
  }
  isCut.value = cursor !== null;
  lanes.clear();
  names = null;
  for (const [key, lane] of found) put(key, lane);
  const waiting = buffered;
  buffered = null;
  waiting.forEach(applyEvent);
  loaded.value = true;
  changed();
}

function readAgain(key: string, afterMs = 60): void {
  dirty.add(key);
  dirtyTimer ||= window.setTimeout(async () => {
    dirtyTimer = 0;
    const keys = [...dirty].slice(0, 40);
    keys.forEach((one) => dirty.delete(one));
    if (dirty.size > 0) readAgain([...dirty][0] as string);
    const found = await call<Lane[]>("GET", `/lanes?chatIds=${keys.map((one) => encodeURIComponent(encodeURIComponent(one))).join(",")}`).catch(() => null);
    for (const lane of found?.data ?? []) {
      const known = lanes.get(laneKey(lane));
      if (!known || known.eventNumber <= lane.eventNumber) put(laneKey(lane), lane);
    }
    changed();
  }, afterMs);
}
export const refresh = (key: string): void => readAgain(key, 0);

export function applyEvent(told: Told): void {
  if (buffered) return void buffered.push(told);
  const { data, id: number, event } = told;
  if (data.chatId === null || number === null) return;
  const key = laneKey({ chatId: data.chatId, tenant: data.tenant });
  if (event === "chat.erased") {
    if (number > (lanes.get(key)?.eventNumber ?? 0)) drop(key);
    return changed();
  }
  const lane = lanes.get(key) ?? (number === 1 ? empty(data) : undefined);
  if (!lane) return readAgain(key);
  if (number <= lane.eventNumber) return;
  if (number > lane.eventNumber + 1) return readAgain(key);
  const next = step(lane, event, data);
  if (!next) return readAgain(key);
  put(key, { ...next, eventNumber: number });
  if (next.state === "idle") trimIdle();
  // A delay is not in the event: if nothing has started soon, the row knows why.
  if (event === "job.accepted" && lane.state === "idle") setTimeout(() => lanes.get(key)?.eventNumber === number && readAgain(key), 700);
  changed();
}

/** As many idle lanes stay as a snapshot holds: those that finished something last. */
function trimIdle(): void {
  const idle = [...lanes.values()].filter(({ state }) => state === "idle");
  if (idle.length <= laneLatestMax) return;
  const lastAt = ({ jobs }: Lane): number => Date.parse(jobs.at(-1)?.completedAt ?? "") || 0;
  for (const lane of idle.sort((a, b) => lastAt(b) - lastAt(a)).slice(laneLatestMax)) drop(laneKey(lane));
}

const empty = ({ chatId, tenant }: Told["data"]): Lane => ({ chatId: chatId as string, ...(tenant ? { tenant } : {}), state: "idle", paused: false, heldBy: null, eventNumber: 0, pending: 0, nodeId: null, jobs: [] });

/** The lane after the event; undefined: read it instead. */
function step(lane: Lane, event: string, data: Told["data"]): Lane | undefined {
  if (event === "chat.paused" || event === "chat.resumed") {
    const paused = event === "chat.paused";
    return { ...lane, paused, heldBy: paused ? ((data["heldBy"] as string | undefined) ?? null) : null, state: lane.state === "running" || lane.pending === 0 ? lane.state : paused ? "paused" : "ready" };
  }
  if (event === "job.accepted") {
    if (data["priority"] !== 0) return undefined;
    const shown = lane.jobs.filter((job) => job.status === "pending").length;
    const job: LaneJob = { id: data.jobId as string, chatSeq: data.chatSeq as number, messageId: String(data["messageId"]), status: "pending", attempt: 0, maxAttempts: 0, priority: 0, createdAt: data.at, startedAt: null, completedAt: null, nextAttemptAt: null, failureCode: null };
    const fits = shown === lane.pending && shown < pendingShown;
    return { ...lane, pending: lane.pending + 1, state: lane.state === "idle" ? (lane.paused ? "paused" : "ready") : lane.state, jobs: fits ? [...lane.jobs, job] : lane.jobs };
  }
  const job = lane.jobs.find((one) => one.id === data.jobId);
  if (!job || event === "job.redriven") return undefined;
  const base = { ...job, attempt: data.attempt ?? job.attempt };
  const waits = (pending: number) => (pending === 0 ? "idle" : lane.paused ? "paused" : "ready") as Lane["state"];
  switch (event) {
    case "job.started":
      return sorted({ ...lane, state: "running", pending: lane.pending - 1, nodeId: String(data["nodeId"] ?? "") || null }, { ...base, status: "running", startedAt: data.at, nextAttemptAt: null });
    case "job.completed":
    case "job.failed": {
      const ran = job.status === "running";
      const pending = ran ? lane.pending : lane.pending - 1;
      // The list may hold fewer than wait: what comes next is in the row.
      if (pending > 0 && lane.jobs.filter((one) => one.status === "pending" && one.id !== job.id).length === 0) return undefined;
      const state = ran ? waits(pending) : lane.state === "running" ? "running" : waits(pending);
      return sorted({ ...lane, state, pending, nodeId: ran ? null : lane.nodeId }, { ...base, status: event === "job.completed" ? "completed" : "failed", completedAt: data.at, failureCode: (data["failureCode"] as LaneJob["failureCode"] | undefined) ?? null });
    }
    case "job.retrying":
      return sorted({ ...lane, state: lane.paused ? "paused" : "delayed", pending: lane.pending + 1, nodeId: null }, { ...base, status: "pending", nextAttemptAt: String(data["runAt"]) });
    case "job.released":
    case "job.rescued":
      return sorted({ ...lane, state: waits(1), pending: lane.pending + 1, nodeId: null }, { ...base, status: "pending" });
    case "job.cancelRequested":
      return lane;
    default:
      return undefined;
  }
}

function sorted(lane: Lane, job: LaneJob): Lane {
  const others = lane.jobs.filter((one) => one.id !== job.id);
  const part = (status: LaneJob["status"][]) => others.filter((one) => status.includes(one.status));
  const finished = part(["completed", "failed"]);
  const pending = part(["pending"]);
  const running = part(["running"]);
  if (job.status === "running") return { ...lane, jobs: [...finished, job, ...pending] };
  if (job.status === "pending") return { ...lane, jobs: [...finished, ...running, job, ...pending] };
  return { ...lane, jobs: [...[...finished, job].slice(-finishedShown), ...running, ...pending] };
}
