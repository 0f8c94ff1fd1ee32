import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import type { BuildQueue } from "../../src/index.js";
import { describeNeeding } from "../support/needs.js";
import { pgbouncerMissing, pgbouncerTo } from "../support/pgbouncer.js";
import { poolerTo } from "../support/pooler.js";
import { describePostgres, freshDatabase, postgresMissing } from "../support/postgres.js";

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) await end();
});

/** Two nodes behind a pooler with three sessions. */
async function behindPooler(poolerOf: typeof poolerTo, options: object = {}) {
  const database = await freshDatabase();
  ended.push(() => database.drop());
  const pooler = await poolerOf(database.url, 3);
  ended.push(() => pooler[Symbol.asyncDispose]());
  const nodes = await Promise.all([1, 2].map(() => createBuildQueue({ databaseUrl: pooler.url, run: async () => "built", ...options })));
  ended.push(() => Promise.all(nodes.map((node) => node.stop())));
  const look = postgres(pooler.url, { max: 2, prepare: false, fetch_types: false });
  ended.push(() => look.end({ timeout: 1 }));
  return { nodes: nodes as [BuildQueue, BuildQueue], look };
}

function behind(poolerOf: typeof poolerTo): void {
  it("is noticed: nothing is prepared or listened for in its sessions, and all work is done in order", async () => {
    const { nodes, look } = await behindPooler(poolerOf);
    const jobs = await Promise.all(Array.from({ length: 60 }, (_, index) => (nodes[index % 2] as BuildQueue).enqueue({ chatId: `chat${index % 6}`, messageId: "m", code: "1" })));
    const done = await Promise.all(jobs.map((job) => nodes[0].waitFor(job.id)));
    expect(new Set(done.map((job) => `${job.status} ${job.attempt}`))).toEqual(new Set(["completed 1"]));
    const byChat = new Map<string, typeof done>();
    for (const job of done) byChat.set(job.chatId, [...(byChat.get(job.chatId) ?? []), job]);
    for (const chat of byChat.values()) {
      const inOrder = [...chat].sort((a, b) => a.chatSeq - b.chatSeq);
      expect(inOrder.every((job, index) => index === 0 || (job.startedAt ?? "") >= (inOrder[index - 1]?.completedAt ?? ""))).toBe(true);
    }
    const sessions = new Set<number>();
    // Two transactions at once are in two sessions, whichever the pooler prefers.
    let inside = 0;
    let both = () => {};
    const meeting = new Promise<void>((resolve) => (both = resolve));
    const seen = () => look.begin(async (tx) => {
      const [row] = await tx`select pg_backend_pid() as pid, (select count(*)::int from pg_prepared_statements where statement like '%buildlane%') as prepared, (select count(*)::int from pg_listening_channels()) as channels`;
      sessions.add(row?.["pid"] as number);
      expect(row).toMatchObject({ prepared: 0, channels: 0 });
      if (++inside === 2) both();
      await meeting;
    });
    await Promise.all([seen(), seen()]);
    expect(sessions.size).toBe(2);
  });

  it("lets a cancel reach the node that runs the job within its next pulse, without a word between nodes", async () => {
    const stopped: string[] = [];
    const run = (job: { id: string }, { signal }: { signal: AbortSignal }) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => (stopped.push(job.id), reject(signal.reason as Error)), { once: true }));
    const { nodes } = await behindPooler(poolerOf, { run, databaseNotify: false });
    const jobs = await Promise.all([1, 2, 3, 4].map((index) => nodes[0].enqueue({ chatId: `c${index}`, messageId: "m", code: "1" })));
    for (const job of jobs) while ((await nodes[0].get(job.id)).status !== "running");
    const from = performance.now();
    // Asked of one node for all; half of them run on the other, or all on one of the two.
    for (const job of jobs) expect(await nodes[1].cancel(job.id)).toBe("requested");
    const done = await Promise.all(jobs.map((job) => nodes[1].waitFor(job.id)));
    expect(performance.now() - from).toBeLessThan(4000);
    expect(done.map((job) => job.failure?.code)).toEqual(["cancelled", "cancelled", "cancelled", "cancelled"]);
    expect(stopped.sort()).toEqual(jobs.map((job) => job.id).sort());
  });
}

describePostgres("a transaction pooler in between", () => behind(poolerTo));
describeNeeding({ name: "pgbouncer", missing: postgresMissing ?? pgbouncerMissing }, "PgBouncer in between", () => behind(pgbouncerTo));
