/**
 * The promises of order, proven from the history alone: P1 (order), P2 (one at a time), P3 (nothing lost), P4 (legal
 * transitions), P5 (one outcome per attempt), and numbers without gaps. One chat at a time, event by event, so that a
 * reader may stream; `sweep.ts` looks across chats. `buildlane verify`, simulation and chaos tests all ask here. Pure:
 * events and rows must have been read at one moment.
 */
import type { EventType, FailureCode, HistoryEvent, JobStatus } from "../job.js";
import { isFinal } from "../job.js";
import { beforeIn, createOrder } from "./order.js";

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
  /** More attempts than allowed that cost one. */
  | "tooManyAttempts"
  /** A row and the history disagree. */
  | "mismatch"
  /** P6: more running at once than the node's slots, or than the cluster's cap. */
  | "overBudget"
  /** P8: another chat was served again while a head that stood before it waited. */
  | "unfair";

export interface Violation {
  kind: ViolationKind;
  /** Empty when no chat is meant. */
  chatId: string;
  jobId: string | null;
  /** Numbers of the chat's events that show it. */
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
  /** Attempts that cost one, at most; absent: not asked. */
  maxAttempts?: number;
}

/** What is asked of a lane's row. */
export interface CheckedLane {
  chatId: string;
  /** Highest number of a job, and of an event. */
  tail: number;
  eventTail: number;
  /** The highest event number that retention has removed; below it numbers may be missing. */
  eventFloor: number;
  pending: number;
}

/** An event, and its time with all the digits that the store has; without, its milliseconds. */
export type CheckedEvent = HistoryEvent & { atMs?: number };
export const timeOf = ({ atMs, at }: CheckedEvent): number => atMs ?? Date.parse(at);

export interface CheckOptions {
  /** Aging in force while the jobs were accepted; unknown: only what is sure whatever it was counts as overtaking. */
  agingMs?: number | undefined;
  /** Everything has come to rest: a job that is not final is lost. */
  atRest?: boolean | undefined;
}

/** Checks one chat: its events by number, then its rows, then `end`. What is broken goes to `found`, once. */
export interface ChatCheck {
  event(event: CheckedEvent): void;
  row(row: CheckedJob): void;
  end(lane?: CheckedLane): void;
}

/** Empty when every promise was kept. Events may be of many chats, in any order. */
export function checkHistory(events: readonly CheckedEvent[], jobs: readonly CheckedJob[], options: CheckOptions & { lanes?: readonly CheckedLane[]; promised?: Iterable<string> } = {}): Violation[] {
  const found: Violation[] = [];
  const eventsByChat = groupByChat(events);
  const jobsByChat = groupByChat(jobs);
  const lanes = new Map(options.lanes?.map((lane) => [lane.chatId, lane]));
  for (const chatId of [...new Set([...eventsByChat.keys(), ...jobsByChat.keys(), ...lanes.keys()])].sort()) {
    const lane = lanes.get(chatId);
    const check = checkChat(chatId, { ...options, floor: lane?.eventFloor ?? 0, found: (violation) => found.push(violation) });
    for (const event of (eventsByChat.get(chatId) ?? []).sort((a, b) => a.number - b.number)) check.event(event);
    for (const job of jobsByChat.get(chatId) ?? []) check.row(job);
    check.end(lane);
  }
  const rows = new Set(jobs.map((job) => job.id));
  for (const jobId of options.promised ?? []) if (!rows.has(jobId)) found.push(missing(jobId));
  return found;
}

/** A job that was answered with success, and that no retention can have removed, is not there. */
export const missing = (jobId: string): Violation => ({ kind: "lost", chatId: "", jobId, events: [], message: `Job ${jobId} was answered with success and does not exist.` });

function groupByChat<T extends { chatId: string }>(rows: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const group = groups.get(row.chatId);
    if (group) group.push(row);
    else groups.set(row.chatId, [row]);
  }
  return groups;
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

const offerOf = (event: CheckedEvent): Told["offered"] => ({ number: event.number, atMs: timeOf(event), at: event.at });

/** A job as its events tell it so far. */
interface Told {
  id: string;
  chatSeq: number;
  priority: number;
  status: JobStatus;
  attempt: number;
  /** Its acceptance or latest redrive: since then it may start. */
  offered: { number: number; atMs: number; at: string };
  /** Attempts that cost one, since acceptance or redrive. */
  spent: number;
  /** Number of the event that ended the latest attempt; null while there is none to end. */
  endedBy: number | null;
  /** Number of the latest event. */
  last: number;
  /** Its row was seen. */
  rowSeen: boolean;
}

export function checkChat(chatId: string, { agingMs, atRest, floor, found }: CheckOptions & { floor: number; found(violation: Violation): void }): ChatCheck {
  const jobs = new Map<string, Told>();
  const order = createOrder(agingMs);
  const running = new Set<Told>();
  /** Latest end of an attempt. */
  let end: { jobId: string | null; number: number; atMs: number; at: string } | null = null;
  let paused = false;
  /** Whether later jobs pass one that backs off. */
  let yields = false;
  let number = 0;
  let chatSeq: number | null = floor === 0 ? 0 : null;
  let pendingRows = 0;
  const complain = (kind: ViolationKind, jobId: string | null, events: number[], message: string): void => found({ kind, chatId, jobId, events, message });

  /** Events and jobs of a chat are numbered without gaps, but for what retention has removed. */
  function checkNumber(event: CheckedEvent): void {
    if (event.number === number) complain("gap", event.jobId, [number], `Two events have number ${number}.`);
    else if (event.number > Math.max(number, floor) + 1) complain("gap", event.jobId, [event.number], `Events ${Math.max(number, floor) + 1} to ${event.number - 1} are missing.`);
    number = event.number;
    if (event.type !== "job.accepted" || event.chatSeq === null) return;
    // Below the floor other acceptances may be gone; the first above it tells where to count on.
    if (event.number > floor && chatSeq !== null && event.chatSeq !== chatSeq + 1)
      complain("gap", event.jobId, [event.number], `Job ${event.jobId} was accepted as number ${event.chatSeq} of its chat; ${chatSeq + 1} was next.`);
    chatSeq = event.number > floor || floor === 0 ? event.chatSeq : null;
  }

  function accept(event: CheckedEvent): void {
    const priority = typeof event.data["priority"] === "number" ? event.data["priority"] : 0;
    const job: Told = { id: event.jobId ?? "", chatSeq: event.chatSeq ?? 0, priority, status: "pending", attempt: 0, offered: offerOf(event), spent: 0, endedBy: null, last: event.number, rowSeen: false };
    jobs.set(job.id, job);
    order.join(job.id, priority, timeOf(event));
  }

  function follow(event: CheckedEvent): void {
    const job = jobs.get(event.jobId ?? "");
    if (event.type === "job.accepted") {
      if (job) complain("illegalTransition", job.id, [job.last, event.number], `Job ${job.id} was accepted twice.`);
      else accept(event);
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
    else if (!legal) complain("illegalTransition", job.id, [job.last, event.number], `Job ${job.id} was ${job.status} when event ${event.number} (${event.type}) came.`);
    if (rule && event.status !== rule.to) complain("mismatch", job.id, [event.number], `Event ${event.number} (${event.type}) says status ${event.status}.`);
    apply(job, event, rule?.to ?? job.status);
    job.last = event.number;
  }

  /** Believes the event, legal or not, so that one mistake is told once. */
  function apply(job: Told, event: CheckedEvent, to: JobStatus): void {
    const from = job.status;
    job.status = to;
    const attempt = event.type === "job.started" ? job.attempt + 1 : job.attempt;
    if (event.attempt !== attempt) complain("gap", job.id, [event.number], `Event ${event.number} (${event.type}) is of attempt ${event.attempt} of job ${job.id}; it was at ${attempt}.`);
    job.attempt = event.attempt ?? attempt;
    switch (event.type) {
      case "job.started":
        checkStart(job, event);
        order.leave(job.id);
        running.add(job);
        job.endedBy = null;
        return;
      case "job.redriven":
        job.spent = 0;
        job.offered = offerOf(event);
        order.join(job.id, job.priority, timeOf(event));
        return;
      case "job.cancelRequested":
        return;
      default:
        if (from === "running" || running.has(job)) {
          job.endedBy = event.number;
          end = { jobId: event.jobId, number: event.number, atMs: timeOf(event), at: event.at };
          if (event.type === "job.completed" || event.type === "job.failed" || event.type === "job.retrying") job.spent++;
        }
        running.delete(job);
        if (event.type === "job.retrying" && yields) order.yieldUntil(job.id, Date.parse(String(event.data["runAt"])));
        else if (to === "pending") order.comeBack(job.id);
        else order.leave(job.id);
    }
  }

  function checkStart(job: Told, event: CheckedEvent): void {
    for (const other of running)
      complain("overlap", job.id, [other.last, event.number], `Job ${job.id} started (event ${event.number}) while ${other.id} of the same chat was running (event ${other.last}).`);
    if (end && timeOf(event) < end.atMs)
      complain("overlap", job.id, [end.number, event.number], `Job ${job.id} started at ${event.at}, before the attempt of ${end.jobId} ended at ${end.at}.`);
    if (timeOf(event) < job.offered.atMs)
      complain("illegalTransition", job.id, [job.offered.number, event.number], `Job ${job.id} started at ${event.at}, before it was there to start: event ${job.offered.number}, at ${job.offered.at}.`);
    if (paused) complain("startedWhilePaused", job.id, [event.number], `Job ${job.id} started (event ${event.number}) although chat ${chatId} was paused.`);
    const overtaken = beforeIn(order, job.id);
    if (overtaken !== null) complain("overtaking", job.id, [event.number], `Job ${job.id} started (event ${event.number}) before job ${overtaken}, which stood before it.`);
  }

  return {
    event(event) {
      checkNumber(event);
      if (event.type === "chat.paused" || event.type === "chat.resumed") paused = event.type === "chat.paused";
      else if (event.type === "chat.erased") paused = yields = false;
      else if (event.type === "chat.policyChanged") yields = event.data["whileRetrying"] === "yield";
      else follow(event);
    },

    row(row) {
      if (row.status === "pending") pendingRows++;
      const job = jobs.get(row.id);
      if (!job) return complain("lost", row.id, [], `Job ${row.id} has a row and no history.`);
      job.rowSeen = true;
      if (row.status !== job.status) complain("mismatch", row.id, [job.last], `Job ${row.id} is ${row.status}, and its history says ${job.status}.`);
      if (row.attempt !== job.attempt) complain("mismatch", row.id, [job.last], `Job ${row.id} is at attempt ${row.attempt}, and its history says ${job.attempt}.`);
      if (row.chatSeq !== job.chatSeq) complain("mismatch", row.id, [job.last], `Job ${row.id} is number ${row.chatSeq} of its chat, and was accepted as ${job.chatSeq}.`);
      if (row.maxAttempts !== undefined && job.spent > row.maxAttempts) complain("tooManyAttempts", row.id, [job.last], `Job ${row.id} had ${job.spent} attempts that cost one, of ${row.maxAttempts}.`);
      if (atRest && !isFinal(row.status)) complain("lost", row.id, [job.last], `Job ${row.id} is still ${row.status} when everything has come to rest.`);
    },

    end(lane) {
      for (const job of jobs.values()) if (!job.rowSeen) complain("lost", job.id, [job.last], `Job ${job.id} was accepted and its row is missing.`);
      if (!lane) return;
      const seen = Math.max(number, floor);
      if (seen < lane.eventTail) complain("lost", null, [lane.eventTail], `The chat has counted ${lane.eventTail} events, and those after ${seen} are missing.`);
      if (seen > lane.eventTail) complain("mismatch", null, [number], `The chat has counted ${lane.eventTail} events, and there is one with number ${number}.`);
      if (chatSeq !== null && chatSeq !== lane.tail) complain("mismatch", null, [], `The chat has counted ${lane.tail} jobs, and its history tells of ${chatSeq}.`);
      if (pendingRows !== lane.pending) complain("mismatch", null, [], `The chat counts ${lane.pending} pending jobs, and has ${pendingRows}.`);
    },
  };
}
