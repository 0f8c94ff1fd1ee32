/** Histories made by hand: events are told one after another, numbers and times count by themselves, rows follow. */
import { isFinal } from "../../src/job.js";
import type { EventType, HistoryEvent, JobStatus } from "../../src/job.js";
import type { CheckedJob, CheckedLane } from "../../src/history/check.js";
import { verify } from "../../src/history/verify.js";
import type { VerifyOptions } from "../../src/history/verify.js";

export const T0 = 1_800_000_000_000;
/** Between two events, milliseconds. */
export const stepMs = 10;

const statusAfter: { [type in EventType]?: JobStatus } = {
  "job.accepted": "pending", "job.started": "running", "job.completed": "completed", "job.failed": "failed",
  "job.retrying": "pending", "job.rescued": "pending", "job.released": "pending", "job.redriven": "pending", "job.cancelRequested": "running",
};

export interface Story {
  /** `what`: `accepted a1`, where `a` is the chat and `a1` the job; `paused a`. Facts override what would be told. */
  tell(what: string, facts?: Partial<HistoryEvent> & { data?: Record<string, unknown> }): Story;
  wait(ms: number): Story;
  events: HistoryEvent[];
  jobs: CheckedJob[];
  lanes: CheckedLane[];
  /** The kinds of what is broken. */
  broken(options?: VerifyOptions & { agingMs?: number }): Promise<string[]>;
}

export function story(): Story {
  const jobs = new Map<string, CheckedJob>();
  const lanes = new Map<string, CheckedLane>();
  let atMs = T0;
  const self: Story = {
    events: [],
    get jobs() {
      return [...jobs.values()];
    },
    get lanes() {
      return [...lanes.values()];
    },
    tell(what, facts = {}) {
      const [verb = "", name = ""] = what.split(" ");
      const chatId = name.slice(0, 1);
      const lane = lanes.get(chatId) ?? { chatId, tail: 0, eventTail: 0, eventFloor: 0, pending: 0 };
      lanes.set(chatId, lane);
      const ofChat = verb === "paused" || verb === "resumed";
      const type = `${ofChat ? "chat" : "job"}.${verb}` as EventType;
      atMs += stepMs;
      const job = ofChat ? null : (jobs.get(name) ?? { id: name, chatId, chatSeq: ++lane.tail, status: "pending", attempt: 0, maxAttempts: 3 });
      if (job) {
        jobs.set(name, job);
        if (verb === "started") job.attempt++;
        job.status = statusAfter[type] ?? job.status;
      }
      self.events.push({
        chatId, number: ++lane.eventTail, type, jobId: job?.id ?? null, chatSeq: job?.chatSeq ?? null, status: job?.status ?? null, attempt: job?.attempt ?? null,
        at: new Date(atMs).toISOString(), ...facts, data: { ...(verb === "started" ? { nodeId: "n1", slots: 2 } : {}), ...facts.data },
      });
      lane.pending = [...jobs.values()].filter((one) => one.chatId === chatId && one.status === "pending").length;
      return self;
    },
    wait(ms) {
      atMs += ms;
      return self;
    },
    async broken(options = {}) {
      const byChat = <T extends { chatId: string }>(rows: T[], then: (a: T, b: T) => number) => [...rows].sort((a, b) => (a.chatId < b.chatId ? -1 : a.chatId > b.chatId ? 1 : then(a, b)));
      const page = async function* <T>(rows: T[]): AsyncGenerator<T[]> {
        // Small pages, so that their edges are met.
        for (let from = 0; from < rows.length; from += 2) yield rows.slice(from, from + 2);
      };
      const verdict = await verify(
        {
          lanes: () => page(byChat(self.lanes, () => 0)),
          events: (order) => page(order === "chat" ? byChat(self.events, (a, b) => a.number - b.number) : [...self.events].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))),
          jobs: () => page(byChat(self.jobs, (a, b) => a.chatSeq - b.chatSeq)),
          slots: new Map(),
          clusterMax: null,
          agingMs: null,
        },
        options,
      );
      if (verdict.ok !== (verdict.violations.length === 0)) throw new Error("The verdict disagrees with its violations.");
      return [...new Set(verdict.violations.map(({ kind }) => kind))];
    },
  };
  return self;
}

/** Tells of a job from its start to its end. */
export const run = (told: Story, name: string, end = "completed"): Story => told.tell(`started ${name}`).tell(`${end} ${name}`);
export const isDone = (told: Story): boolean => told.jobs.every(({ status }) => isFinal(status));
