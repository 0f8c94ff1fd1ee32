/** What the contract's tests do all day, in few words: accept, take, end. Times are milliseconds after T0. */
import { expect } from "vitest";
import type { HistoryEvent } from "../../../src/job.js";
import type { AcceptAnswer, Accepted, AcceptGroup, AcceptLimits, Claim, Ending, NewJob, Settled, Store, StoredJob } from "../../../src/store/store.js";
import type { Database } from "../../../src/store/sql/database.js";
import type { Scope } from "../../../src/store/scope.js";
import { T0, agingMs, ends, guardOf, newJob } from "../programs.js";

export { T0, agingMs, ends, guardOf, newJob };
/** The tests of one tenant; `scopes.test.ts` shows what tenants see of each other. */
export const scope: Scope = { tenant: "" };
export const wide: AcceptLimits = { agingMs, pendingPerChatMax: 1000, pendingMax: 100_000, rate: null };
export const iso = (ms: number): string => new Date(T0 + ms).toISOString();

/** `"a"` is a plain job of chat a; otherwise chat and what differs. */
export type Spec = string | [chatId: string, extra: Partial<NewJob>];

export interface Lab {
  store: Store;
  /** Null behind memory. */
  database: Database | null;
  group(...specs: Spec[]): AcceptGroup;
  answer(ms: number, specs: Spec[], limits?: AcceptLimits): Promise<AcceptAnswer>;
  /** Accepts as one group; fails the test when it is refused. */
  accept(ms: number, ...specs: Spec[]): Promise<Accepted[]>;
  /** A living node takes up to `want` lanes. */
  take(ms: number, want?: number, nodeId?: string): Promise<Claim[]>;
  /** Takes exactly one lane. */
  takeOne(ms: number, nodeId?: string): Promise<Claim>;
  end(ms: number, claim: Claim, end: Ending["end"], nodeId?: string): Promise<Settled>;
  /** Accepts one job and fails it for good. */
  deadLetter(ms: number, spec: Spec): Promise<string>;
  job(id: string): Promise<StoredJob>;
  events(chatId: string): Promise<HistoryEvent[]>;
  /** Takes and completes until nothing is ready; the jobs' ids in the order of their starts. */
  runAll(ms: number, nodeId?: string): Promise<string[]>;
}

export function createLab(store: Store, database: Database | null): Lab {
  let jobs = 0;
  let claims = 0;
  const lab: Lab = {
    store,
    database,
    group: (...specs) => ({
      jobs: specs.map((spec) => {
        const [chatId, extra] = typeof spec === "string" ? [spec, {}] : spec;
        return newJob(`j${++jobs}`, chatId, extra);
      }),
      idempotency: null,
    }),
    async answer(ms, specs, limits = wide) {
      const [answer] = await store.accept([lab.group(...specs)], limits, T0 + ms);
      return answer as AcceptAnswer;
    },
    async accept(ms, ...specs) {
      const answer = await lab.answer(ms, specs);
      if (answer.kind !== "accepted") throw new Error(`Expected to be accepted, got ${answer.kind}.`);
      return answer.jobs;
    },
    async take(ms, want = 10, nodeId = "n1") {
      await store.pulse({ nodeId, leaseMs: 4000, slots: 3, draining: false }, T0 + ms);
      return (await store.turn({ nodeId, claimId: `claim${++claims}`, endings: [], want }, T0 + ms)).claims;
    },
    async takeOne(ms, nodeId) {
      const taken = await lab.take(ms, 1, nodeId);
      expect(taken).toHaveLength(1);
      return taken[0] as Claim;
    },
    async end(ms, claim, end, nodeId = "n1") {
      const { settled } = await store.turn({ nodeId, claimId: `claim${++claims}`, endings: [{ ...guardOf(claim), end }], want: 0 }, T0 + ms);
      return settled[0] as Settled;
    },
    async deadLetter(ms, spec) {
      const [job] = await lab.accept(ms, spec);
      const claim = (await lab.take(ms)).find((one) => one.job.id === job?.id);
      await lab.end(ms, claim as Claim, ends.failed);
      return (job as Accepted).id;
    },
    async job(id) {
      const job = await store.get(scope, id);
      if (!job) throw new Error(`There is no job ${id}.`);
      return job;
    },
    events: async (chatId) => (await store.events(scope, chatId, { after: 0, limit: 1000 })).events,
    async runAll(ms, nodeId = "n1") {
      const order: string[] = [];
      for (let round = 0; round < 1000; round++) {
        const taken = await lab.take(ms + round, 10, nodeId);
        if (taken.length === 0) return order;
        for (const claim of taken) {
          order.push(claim.job.id);
          await lab.end(ms + round, claim, ends.completed, nodeId);
        }
      }
      throw new Error("The work does not end.");
    },
  };
  return lab;
}

export const ids = (jobs: { id: string }[]): string[] => jobs.map(({ id }) => id);
export const everything = { code: true, result: true };
