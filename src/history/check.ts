/**
 * The promises of order, proven from the history alone: P1 (order), P2 (one at a time), P3 (nothing lost), P4 (legal
 * transitions), P5 (one outcome per attempt), and numbers without gaps. `buildlane verify`, simulation and chaos tests
 * ask the same questions. Pure: `events` and `jobs` must have been read at one moment.
 */
import type { EventType, FailureCode, HistoryEvent, JobStatus } from "../job.js";
import { isFinal } from "../job.js";
import { beforeIn, createOrder } from "./order.js";
import type { Order } from "./order.js";

export type ViolationKind =
  /** P1: a job started before one that stood before it. */
  | "overtaking"
  /** P2: two attempts of a chat at the same time. */
  | "overlap"
  /** P3: an accepted job is gone, its history is, or it never ends. */
  | "lost"
  /** P4. */
  | "illegalTransition"
  /** P5. */
  | "doubleOutcome"
  /** A number was left out or given twice: of the chat's events, of its jobs, of a job's attempts. */
  | "gap"
  /** A job started although its chat was paused. */
  | "startedWhilePaused"
  /** The row and its history disagree. */
  | "mismatch";

export interface Violation {
  kind: ViolationKind;
  chatId: string;
  jobId: string | null;
  /** Numbers of the events that show it. */
  events: number[];
  /** One sentence with the facts. */
  message: string;
}

/** What is asked of a job's row. */
export interface CheckedJob {
  id: string;
  chatId: string;
  chatSeq: number;
  status: JobStatus;
  attempt: number;
}

export interface CheckOptions {
  /** Aging in force while the jobs were accepted; unknown: only what is sure whatever it was counts as overtaking. */
  agingMs?: number | undefined;
  /** Per chat the highest event number that retention has removed; 0 unless given. Below it numbers may be missing. */
  floors?: ReadonlyMap<string, number> | undefined;
  /** Everything has come to rest: a job that is not final is lost. */
  atRest?: boolean | undefined;
  /** Ids of jobs that were answered with success and that no retention may have removed. */
  promised?: Iterable<string> | undefined;
}

/** Empty when every promise was kept. Events may be of many chats, in any order. */
export function checkHistory(events: readonly HistoryEvent[], jobs: readonly CheckedJob[], options: CheckOptions = {}): Violation[] {
  const eventsByChat = groupByChat(events);
  const jobsByChat = groupByChat(jobs);
  const chatIds = [...new Set([...eventsByChat.keys(), ...jobsByChat.keys()])].sort();
  const found = chatIds.flatMap((chatId) => checkChat(chatId, eventsByChat.get(chatId) ?? [], jobsByChat.get(chatId) ?? [], options));
  const rows = new Set(jobs.map((job) => job.id));
  for (const jobId of options.promised ?? []) {
    if (!rows.has(jobId)) found.push({ kind: "lost", chatId: "", jobId, events: [], message: `Job ${jobId} was answered with success and does not exist.` });
  }
  return found;
}

function groupByChat<T extends { chatId: string }>(rows: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const group = groups.get(row.chatId);
    if (group) group.push(row);
    else groups.set(row.chatId, [row]);
  }
  return groups;
}

/** A job as its events tell it so far. */
interface Told {
  id: string;
  chatSeq: number;
  priority: number;
  status: JobStatus;
  attempt: number;
  /** Number of the event that ended the latest attempt; null while there is none to end. */
  endedBy: number | null;
  last: HistoryEvent;
}

interface Chat {
  chatId: string;
  jobs: Map<string, Told>;
  order: Order;
  running: Set<Told>;
  /** Latest end of an attempt. */
  end: HistoryEvent | null;
  paused: boolean;
  complain(kind: ViolationKind, jobId: string | null, events: number[], message: string): void;
}

function checkChat(chatId: string, events: HistoryEvent[], jobs: CheckedJob[], { agingMs, floors, atRest }: CheckOptions): Violation[] {
  const found: Violation[] = [];
  const chat: Chat = {
    chatId, jobs: new Map(), order: createOrder(agingMs), running: new Set(), end: null, paused: false,
    complain: (kind, jobId, numbers, message) => found.push({ kind, chatId, jobId, events: numbers, message }),
  };
  const sorted = [...events].sort((a, b) => a.number - b.number);
  checkNumbers(chat, sorted, floors?.get(chatId) ?? 0);
  for (const event of sorted) {
    if (event.type === "chat.paused" || event.type === "chat.resumed") chat.paused = event.type === "chat.paused";
    else follow(chat, event);
  }
  checkRows(chat, jobs, atRest ?? false);
  return found;
}

/** Events and jobs of a chat are numbered without gaps, but for what retention has removed. */
function checkNumbers({ complain }: Chat, events: HistoryEvent[], floor: number): void {
  let number = 0;
  let chatSeq: number | null = floor === 0 ? 0 : null;
  for (const event of events) {
    if (event.number === number) complain("gap", event.jobId, [number], `Two events have number ${number}.`);
    else if (event.number > Math.max(number, floor) + 1) complain("gap", event.jobId, [event.number], `Events ${Math.max(number, floor) + 1} to ${event.number - 1} are missing.`);
    number = event.number;
    if (event.type !== "job.accepted" || event.chatSeq === null) continue;
    // Below the floor other acceptances may be gone; the first above it tells where to count on.
    if (event.number > floor && chatSeq !== null && event.chatSeq !== chatSeq + 1)
      complain("gap", event.jobId, [event.number], `Job ${event.jobId} was accepted as number ${event.chatSeq} of its chat; ${chatSeq + 1} was next.`);
    chatSeq = event.number > floor || floor === 0 ? event.chatSeq : null;
  }
}

/** From which statuses an event may come, and to which it leads. */
const transitions: { [type in EventType]?: { from: JobStatus[]; to: JobStatus } } = {
  "job.started": { from: ["pending"], to: "running" },
  "job.completed": { from: ["running"], to: "completed" },
  "job.failed": { from: ["running"], to: "failed" },
  "job.retrying": { from: ["running"], to: "pending" },
  "job.rescued": { from: ["running"], to: "pending" },
  "job.released": { from: ["running"], to: "pending" },
  "job.redriven": { from: ["failed"], to: "pending" },
  "job.cancelRequested": { from: ["running"], to: "running" },
};
const withoutRun: FailureCode[] = ["cancelled", "superseded"];
const failsWithoutRun = ({ type, data }: HistoryEvent): boolean => type === "job.failed" && (data["quarantined"] === true || withoutRun.includes(data["failureCode"] as FailureCode));
const isOutcome = (type: EventType): boolean => transitions[type]?.from[0] === "running" && type !== "job.cancelRequested";

function follow(chat: Chat, event: HistoryEvent): void {
  const { complain, jobs } = chat;
  const job = jobs.get(event.jobId ?? "");
  if (event.type === "job.accepted") {
    if (job) complain("illegalTransition", job.id, [job.last.number, event.number], `Job ${job.id} was accepted twice.`);
    else accept(chat, event);
    return;
  }
  if (!job) {
    complain("lost", event.jobId, [event.number], `Event ${event.number} (${event.type}) is of job ${event.jobId}, whose acceptance is missing.`);
    return;
  }
  const rule = transitions[event.type];
  const legal = rule?.from.includes(job.status) || (job.status === "pending" && failsWithoutRun(event));
  if (!legal && isOutcome(event.type) && job.endedBy !== null && event.attempt === job.attempt)
    complain("doubleOutcome", job.id, [job.endedBy, event.number], `Attempt ${job.attempt} of job ${job.id} ended twice: event ${job.endedBy} and again ${event.number} (${event.type}).`);
  else if (!legal) complain("illegalTransition", job.id, [job.last.number, event.number], `Job ${job.id} was ${job.status} when event ${event.number} (${event.type}) came.`);
  if (rule && event.status !== rule.to) complain("mismatch", job.id, [event.number], `Event ${event.number} (${event.type}) says status ${event.status}.`);
  apply(chat, job, event, rule?.to ?? job.status);
  job.last = event;
}

function accept({ jobs, order }: Chat, event: HistoryEvent): void {
  const priority = typeof event.data["priority"] === "number" ? event.data["priority"] : 0;
  const job: Told = { id: event.jobId ?? "", chatSeq: event.chatSeq ?? 0, priority, status: "pending", attempt: 0, endedBy: null, last: event };
  jobs.set(job.id, job);
  order.join(job.id, priority, Date.parse(event.at));
}

/** Believes the event, legal or not, so that one mistake is told once. */
function apply(chat: Chat, job: Told, event: HistoryEvent, to: JobStatus): void {
  const { complain, order, running } = chat;
  const from = job.status;
  job.status = to;
  const attempt = event.type === "job.started" ? job.attempt + 1 : job.attempt;
  if (event.attempt !== attempt) complain("gap", job.id, [event.number], `Event ${event.number} (${event.type}) is of attempt ${event.attempt} of job ${job.id}; it was at ${attempt}.`);
  job.attempt = event.attempt ?? attempt;
  switch (event.type) {
    case "job.started":
      checkStart(chat, job, event);
      order.leave(job.id);
      running.add(job);
      job.endedBy = null;
      return;
    case "job.redriven":
      order.join(job.id, job.priority, Date.parse(event.at));
      return;
    case "job.cancelRequested":
      return;
    default:
      if (from === "running" || running.has(job)) {
        job.endedBy = event.number;
        chat.end = event;
      }
      running.delete(job);
      if (to === "pending") order.comeBack(job.id);
      else order.leave(job.id);
  }
}

function checkStart({ complain, order, running, end, paused, chatId }: Chat, job: Told, event: HistoryEvent): void {
  for (const other of running)
    complain("overlap", job.id, [other.last.number, event.number], `Job ${job.id} started (event ${event.number}) while ${other.id} of the same chat was running (event ${other.last.number}).`);
  if (end && Date.parse(event.at) < Date.parse(end.at))
    complain("overlap", job.id, [end.number, event.number], `Job ${job.id} started at ${event.at}, before the attempt of ${end.jobId} ended at ${end.at}.`);
  if (paused) complain("startedWhilePaused", job.id, [event.number], `Job ${job.id} started (event ${event.number}) although chat ${chatId} was paused.`);
  const overtaken = beforeIn(order, job.id);
  if (overtaken !== null) complain("overtaking", job.id, [event.number], `Job ${job.id} started (event ${event.number}) before job ${overtaken}, which stood before it.`);
}

/** The rows say the same as their history, and none is missing. */
function checkRows({ complain, jobs }: Chat, rows: CheckedJob[], atRest: boolean): void {
  const byId = new Map(rows.map((row) => [row.id, row]));
  for (const job of jobs.values()) {
    if (!byId.has(job.id)) complain("lost", job.id, [job.last.number], `Job ${job.id} was accepted and its row is missing.`);
  }
  for (const row of byId.values()) {
    const job = jobs.get(row.id);
    if (!job) {
      complain("lost", row.id, [], `Job ${row.id} has a row and no history.`);
      continue;
    }
    if (row.status !== job.status) complain("mismatch", row.id, [job.last.number], `Job ${row.id} is ${row.status}, and its history says ${job.status}.`);
    if (row.attempt !== job.attempt) complain("mismatch", row.id, [job.last.number], `Job ${row.id} is at attempt ${row.attempt}, and its history says ${job.attempt}.`);
    if (row.chatSeq !== job.chatSeq) complain("mismatch", row.id, [job.last.number], `Job ${row.id} is number ${row.chatSeq} of its chat, and was accepted as ${job.chatSeq}.`);
    if (atRest && !isFinal(row.status)) complain("lost", row.id, [job.last.number], `Job ${row.id} is still ${row.status} when everything has come to rest.`);
  }
}
