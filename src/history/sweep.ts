/**
 * The promises that hold across chats, proven from all events in the order of their times: P8 (waits are bounded) here,
 * P6 (budget) by budget.ts. One pass; what it remembers grows with the jobs that are unfinished at a time and with the chats.
 *
 * Waits: a head may run from the time at which its lane stood in line with it, and its turn counts from `turnAt`, the
 * latest of its rank, its `runAt` and the lane's latest change. Whoever starts after that goes behind it with the next
 * head. So between the two and the head's start, no other chat of its tenant starts more often than `startsMax` (once).
 * Between tenants starts are shared by weights, which no event tells. What a node has in hand ahead of a free slot others
 * pass: that is a moment, or the start says so. `takenAt`: it waited in the hand of the node that began it, and is not judged;
 * `inHandUntil`: it came back from a hand, or a lost node's, and its wait counts from then.
 */
import type { EventType } from "../job.js";
import { ofLane } from "../store/scope.js";
import { createBudget } from "./budget.js";
import { timeOf } from "./check.js";
import type { CheckedEvent, Violation } from "./check.js";

export interface SweepOptions {
  agingMs?: number | undefined;
  /** Slots of nodes whose starts do not say it, by node id. */
  slots?: ReadonlyMap<string, number> | undefined;
  /** Attempts that lasted longer are not counted against a budget, milliseconds. */
  sureMsMax?: number | undefined;
  /** Running builds over all nodes, at most. */
  clusterMax?: number | undefined;
  /** Starts of another chat while a head waits, at most. */
  startsMax?: number | undefined;
  /** A wait counts from so long after its begin: an acceptance is seen by others only when it has been committed. */
  slackMs?: number | undefined;
  /** Starts of other chats so shortly before a head's own are not counted: for so long a lane may be in a node's hand without a word about it. */
  inHandMs?: number | undefined;
  found(violation: Violation): void;
}

export interface Sweep {
  /** In the order of their times, those of a chat by number where times are equal. */
  event(event: CheckedEvent): void;
  end(): SweepFigures;
}

export interface SweepFigures {
  attempts: number;
  /** Attempts whose node's slots are known. */
  attemptsWithSlots: number;
  /** Heads whose wait was judged. */
  waits: number;
  /** Most that ran at once over all nodes, by what is sure. */
  runningMost: number;
}

/** When a pending job's turn counts from at the earliest, and its order in the chat. */
interface Standing {
  from: number;
  rank: number;
  place: number;
}

interface Line {
  /** Time of the latest event that may have changed who is head or whether it may run. */
  changedAt: number;
  paused: boolean;
  running: boolean;
  pending: Map<string, Standing>;
  /** Where the running job stood. */
  current: Standing | null;
  /** The latest starts, `startsMax` of them. */
  starts: number[];
}

const ends: { [type in EventType]?: "sure" | "unsure" } = { "job.completed": "sure", "job.failed": "sure", "job.retrying": "sure", "job.rescued": "unsure", "job.released": "unsure" };
/** A cancel, a supersession or the loss of nodes may have been recorded by whoever took the lane over. */
const byOthers: unknown[] = ["cancelled", "superseded", "node_lost"];
const endOf = ({ type, data }: CheckedEvent): "sure" | "unsure" | undefined => (type === "job.failed" && byOthers.includes(data["failureCode"]) ? "unsure" : ends[type]);

const timeIn = ({ data }: CheckedEvent, name: string): number => (typeof data[name] === "string" ? Date.parse(data[name]) : Number.NEGATIVE_INFINITY);
/** Events tell it in milliseconds; the store may mean up to one more. */
const runAtOf = (event: CheckedEvent): number => (typeof event.data["runAt"] === "string" ? Date.parse(event.data["runAt"]) + 1 : timeOf(event));

export function createSweep({ agingMs, slots, sureMsMax, clusterMax, startsMax = 1, slackMs = 0, inHandMs = 0, found }: SweepOptions): Sweep {
  const lines = new Map<string, Line>();
  const figures: SweepFigures = { attempts: 0, attemptsWithSlots: 0, waits: 0, runningMost: 0 };
  let places = 0;
  /** Events of one moment: which came first is not known across chats. */
  let moment: CheckedEvent[] = [];
  let momentMs = Number.NEGATIVE_INFINITY;
  /** By tenant the latest first start of any chat's `startsMax` + 1 starts in a row, and whose; those whose last start was a moment ago are still to come. */
  const repeated = new Map<string, { from: number; chatId: string }>();
  const repeating: { at: number; from: number; chatId: string }[] = [];
  const budget = createBudget(sureMsMax, found, (running) => (figures.runningMost = Math.max(figures.runningMost, running)));

  function lineOf(chatId: string): Line {
    let line = lines.get(chatId);
    if (!line) lines.set(chatId, (line = { changedAt: Number.NEGATIVE_INFINITY, paused: false, running: false, pending: new Map(), current: null, starts: [] }));
    return line;
  }
  function join(line: Line, event: CheckedEvent, priority: number): void {
    const at = timeOf(event);
    // With an unknown aging a priority may put it anywhere, so its wait is not judged.
    const rank = priority === 0 ? at : agingMs === undefined ? Number.POSITIVE_INFINITY : at - priority * agingMs;
    line.pending.set(event.jobId ?? "", { from: Math.max(rank, runAtOf(event)), rank, place: ++places });
  }
  /** Pending again, where it stood. */
  function comeBack(line: Line, event: CheckedEvent): void {
    const { rank, place } = line.current ?? { rank: timeOf(event), place: 0 };
    line.pending.set(event.jobId ?? "", { from: Math.max(rank, runAtOf(event)), rank, place });
  }
  const priorities = new Map<string, number>();

  function judge(chatId: string, from: number, jobId: string, event: CheckedEvent | null): void {
    if (!Number.isFinite(from)) return;
    figures.waits++;
    while (repeating[0] && repeating[0].at <= momentMs - inHandMs) {
      const { chatId: theirs, from: first } = repeating.shift() as (typeof repeating)[number];
      const { tenant } = ofLane(theirs);
      if (first > (repeated.get(tenant)?.from ?? Number.NEGATIVE_INFINITY)) repeated.set(tenant, { from: first, chatId: theirs });
    }
    const other = repeated.get(ofLane(chatId).tenant);
    if (other && other.from > from + slackMs && other.chatId !== chatId)
      found({
        kind: "unfair", chatId, jobId, events: event ? [event.number] : [],
        message: `Job ${jobId} was next in line since ${new Date(from).toISOString()}, and chat ${ofLane(other.chatId).chatId} started more than ${startsMax} time${startsMax === 1 ? "" : "s"} before it${event ? "" : ", which still waits"}.`,
      });
  }

  function start(line: Line, event: CheckedEvent): void {
    figures.attempts++;
    const jobId = event.jobId ?? "";
    const job = line.pending.get(jobId);
    if (job && event.data["takenAt"] === undefined) judge(event.chatId, Math.max(job.from, line.changedAt, timeIn(event, "inHandUntil")), jobId, event);
    line.pending.delete(jobId);
    line.current = job ?? null;
    line.running = true;
    const nodeId = typeof event.data["nodeId"] === "string" ? event.data["nodeId"] : "";
    const known = typeof event.data["slots"] === "number" ? event.data["slots"] : slots?.get(nodeId);
    if (known !== undefined) figures.attemptsWithSlots++;
    budget.start(event, nodeId, known);
  }

  function apply(event: CheckedEvent): void {
    const line = lineOf(event.chatId);
    if (event.jobId === null) {
      // Of the chat itself: paused, resumed, another policy, erased.
      if (event.type === "chat.paused" || event.type === "chat.resumed" || event.type === "chat.erased") line.paused = event.type === "chat.paused";
      line.changedAt = Math.max(line.changedAt, timeOf(event));
      return;
    }
    const jobId = event.jobId;
    switch (event.type) {
      case "job.accepted": {
        const priority = typeof event.data["priority"] === "number" ? event.data["priority"] : 0;
        if (priority !== 0) priorities.set(jobId, priority);
        join(line, event, priority);
        return;
      }
      case "job.started":
        start(line, event);
        break;
      case "job.redriven":
        join(line, event, priorities.get(jobId) ?? 0);
        return;
      case "job.cancelRequested":
        return;
      default: {
        const end = endOf(event);
        if (end) budget.end(event, end);
        line.running = false;
        if (event.status === "pending") comeBack(line, event);
        else {
          line.pending.delete(jobId);
          // A dead letter may be redriven with its priority; whatever else is final is done with.
          if (event.type === "job.completed") priorities.delete(jobId);
        }
      }
    }
    // An end that came on record late: its lane is in line since then.
    line.changedAt = Math.max(line.changedAt, timeOf(event), timeIn(event, "recordedAt"));
  }

  function closeMoment(): void {
    for (const event of moment) {
      if (event.type !== "job.started") continue;
      const { starts } = lineOf(event.chatId);
      starts.push(momentMs);
      if (starts.length <= startsMax) continue;
      repeating.push({ at: momentMs, from: starts.shift() as number, chatId: event.chatId });
    }
    budget.check(slots, clusterMax);
    moment = [];
  }

  return {
    event(event) {
      const at = timeOf(event);
      if (at !== momentMs) closeMoment();
      momentMs = at;
      apply(event);
      moment.push(event);
    },
    end() {
      closeMoment();
      // Heads that still wait are judged by what was served before them.
      for (const [chatId, line] of lines) {
        let head: (Standing & { jobId: string }) | null = null;
        for (const [jobId, job] of line.pending) if (!head || job.rank < head.rank || (job.rank === head.rank && job.place < head.place)) head = { jobId, ...job };
        if (head && !line.running && !line.paused) judge(chatId, Math.max(head.from, line.changedAt), head.jobId, null);
      }
      return figures;
    },
  };
}
