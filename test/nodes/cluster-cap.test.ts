import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import type { BuildQueue, BuildQueueOptions, Run } from "../../src/index.js";
import { systemClock } from "../../src/clock.js";
import { createMemoryStore } from "../../src/store/memory.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

const open: BuildQueue[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

/** Builds that take a few turns of the event loop, and the most of them that ran at once. */
function counted() {
  const seen = { running: 0, most: 0 };
  const run: Run = async () => {
    seen.most = Math.max(seen.most, ++seen.running);
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    seen.running--;
    return "built";
  };
  return { seen, run };
}

/** The most attempts that the history has running at one moment. */
const mostRecorded = (jobs: { startedAt: string | null; completedAt: string | null }[]): number => {
  const moments = jobs.flatMap(({ startedAt, completedAt }) => [[startedAt, 1], [completedAt, -1]] as [string, number][]).sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x - y));
  let running = 0;
  return Math.max(...moments.map(([, change]) => (running += change)));
};

async function capHolds(options: BuildQueueOptions, caps: (number | undefined)[], cap: number): Promise<void> {
  const { seen, run } = counted();
  const nodes = await Promise.all(caps.map((clusterConcurrency) => createBuildQueue({ ...options, run, concurrency: 3, clusterConcurrency })));
  open.push(...nodes);
  // Every node has pulsed by now, so the cap is in force before the first job.
  const jobs = await Promise.all(
    Array.from({ length: 120 }, (_, index) => (nodes[index % nodes.length] as BuildQueue).enqueue({ chatId: `chat${index % 12}`, messageId: "m", code: "1" })),
  );
  const done = await Promise.all(jobs.map((job) => (nodes[0] as BuildQueue).waitFor(job.id)));
  expect(new Set(done.map((job) => job.status))).toEqual(new Set(["completed"]));
  expect(seen.most).toBeLessThanOrEqual(cap);
  expect(mostRecorded(done)).toBe(cap);
  // Who asks why a job waits, and how long, hears of as many slots as there may be.
  expect((await (nodes[0] as BuildQueue).stats()).clusterCap).toBe(cap);
}

it("over three nodes on the memory store no more run at once than the cluster may", async () => {
  await capHolds({ store: createMemoryStore({ clock: systemClock }) }, [4, 4, 4], 4);
});

describePostgres("the cluster's cap on PostgreSQL", () => {
  it("is never exceeded by three nodes, and is used whole", async () => {
    await using database = await freshDatabase();
    await capHolds({ databaseUrl: database.url }, [4, 4, 4], 4);
    await Promise.all(open.splice(0).map((queue) => queue.stop()));
  });

  it("binds once two nodes have joined in the same moment, each of which alone would have stayed within it", async () => {
    await using database = await freshDatabase();
    await using queue = await createBuildQueue({ databaseUrl: database.url, run: () => "built", concurrency: 1, clusterConcurrency: 5 });
    const [one, other] = [postgres(database.url, { max: 1 }), postgres(database.url, { max: 1 })];
    const joins = (sql: postgres.Sql | postgres.TransactionSql, node: string) => sql`select buildlane_pulse(${node}, 10000, 3, false, 5)`;
    let second: Promise<unknown> = Promise.resolve();
    await one.begin(async (sql) => {
      await joins(sql, "second");
      second = joins(other, "third").execute();
      // It is through, or waits for the first.
      await Promise.race([second, new Promise((resolve) => setTimeout(resolve, 200))]);
    });
    await second;
    const [state] = await one`select cluster_cap, cap_binds from queue_state`;
    await Promise.all([one.end(), other.end()]);
    expect([state, (await queue.stats()).clusterCap]).toEqual([{ cluster_cap: 5, cap_binds: true }, 5]);
  });

  it("begins to bind for a node that joins while a turn between tenants is under way, and neither waits for the other for ever", async () => {
    await using database = await freshDatabase();
    await using queue = await createBuildQueue({ databaseUrl: database.url, run: () => "built", concurrency: 1, clusterConcurrency: 3 });
    const [one, other] = [postgres(database.url, { max: 1 }), postgres(database.url, { max: 1 })];
    let joined: Promise<unknown> = Promise.resolve();
    await one.begin(async (sql) => {
      // What a turn does, in its order: it reads the cap, and then shares its starts between tenants.
      await sql`select buildlane_keep_cap()`;
      joined = other`select buildlane_pulse('second', 10000, 3, false, 3)`.execute();
      await Promise.race([joined, new Promise((resolve) => setTimeout(resolve, 200))]);
      await sql`select from queue_state for update`;
    });
    await joined;
    await Promise.all([one.end(), other.end()]);
    expect((await queue.stats()).clusterCap).toBe(3);
  });

  it("counts what turns start that were under way when it began to bind, also when all hands are empty", async () => {
    await using database = await freshDatabase();
    const queue = await createBuildQueue({ databaseUrl: database.url, run: () => "built" });
    await queue.pause();
    await queue.enqueueMany(Array.from({ length: 10 }, (_, index) => ({ chatId: `chat${index}`, messageId: "m", code: "1" })));
    await queue.stop();
    const [one, other] = [postgres(database.url, { max: 1 }), postgres(database.url, { max: 1 })];
    await one`update queue_state set paused_at = null`;
    const from = Date.now();
    const pulse = (sql: postgres.Sql, node: string, ms: number) => sql`select buildlane_pulse(${node}, 4000, 4, false, 5, ${from + ms})`;
    const starts = async (sql: postgres.Sql | postgres.TransactionSql, node: string, ms: number) => {
      const [row] = await sql`select json_array_length(buildlane_turn(${node}, ${`${node} ${ms}`}, null, 4, 1, null, ${from + ms}) -> 'claims') as claims`;
      return row?.["claims"] as number;
    };
    await pulse(one, "first", 0);
    let joined: Promise<unknown> = Promise.resolve();
    const first = await one.begin(async (sql) => {
      const started = await starts(sql, "first", 10);
      joined = pulse(other, "second", 20).execute();
      await Promise.race([joined, new Promise((resolve) => setTimeout(resolve, 200))]);
      return started;
    });
    await joined;
    const second = [await starts(other, "second", 30)];
    for (const ms of [3000, 6000]) for (const node of ["first", "second"]) await pulse(one, node, ms);
    second.push(await starts(other, "second", 6000));
    await Promise.all([one.end(), other.end()]);
    expect([first, second]).toEqual([4, [1, 0]]);
  });

  it("is the lowest that a living node was given, for those too that were given none", async () => {
    await using database = await freshDatabase();
    await capHolds({ databaseUrl: database.url }, [2, undefined, 5], 2);
    await Promise.all(open.splice(0).map((queue) => queue.stop()));
  });
});
