/** The contract on real PostgreSQL, and what needs a second connection beside it. */
import { eq } from "drizzle-orm";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";
import postgres from "postgres";
import { expect, it, vi } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { sleep, systemClock } from "../../src/clock.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import { exerciseStore } from "./exercise-store.js";
import { wide } from "./exercise/lab.js";
import { newJob } from "./programs.js";
import { buildJobs } from "../../src/store/schema.js";
import { createSqlStore } from "../../src/store/sql/index.js";
import { migrate } from "../../src/store/sql/migrate.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import type { NewJob } from "../../src/store/store.js";
import { openPostgres } from "./stores.js";

describePostgres("the PostgreSQL store", () => {
  exerciseStore(openPostgres);
});

describePostgres("connections", () => {
  it.each([["together", 10], ["reads", 5]] as const)("for what goes %s are one while calls come one after another, and up to %i when they come at once", async (line, most) => {
    await using fresh = await freshDatabase();
    const database = postgresDatabase(fresh.url, { clock: systemClock });
    try {
      const pid = () => database.call<number>("select pg_backend_pid() as answer from pg_sleep(0.005)", [], line);
      const single = new Set<number>();
      for (let call = 0; call < 20; call++) single.add(await pid());
      expect(single.size).toBe(1);
      const together = new Set(await Promise.all(Array.from({ length: 60 }, pid)));
      expect(together.size).toBe(most);
      expect(together).toContain([...single][0]);
    } finally {
      await database.close();
    }
  });
});

describePostgres("an answer that is waited for", () => {
  it("is read, and not taken for silence, by a process that stood still until long after its time", async () => {
    await using fresh = await freshDatabase();
    let faster = 1;
    const database = postgresDatabase(fresh.url, { clock: { ...systemClock, after: (ms, ring) => systemClock.after(ms / faster, ring) } });
    const ask = (seconds: number) => database.call<number>("select 7 as answer from pg_sleep($1)", [seconds], "together");
    try {
      // Connected at its leisure.
      await ask(0);
      faster = 10;
      const answer = ask(0.02);
      // Sent, and then nothing is done for longer than an answer may take.
      await new Promise((resolve) => setImmediate(resolve));
      for (const until = performance.now() + 700; performance.now() < until; );
      expect(await answer).toBe(7);
      await expect(ask(2)).rejects.toMatchObject({ code: "ETIMEDOUT" });
    } finally {
      await database.close();
    }
  });
});

describePostgres("a migration", () => {
  it("may take longer than any call may be silent", async () => {
    await using fresh = await freshDatabase();
    const database = postgresDatabase(fresh.url, { clock: systemClock, silentMs: { pulse: 200, work: 200, ears: 0, steps: 0 } });
    try {
      expect(await migrate(database, [{ number: 1, name: "0001_long.sql", text: "select pg_sleep(1)", hash: "h" }])).toEqual(["0001_long.sql"]);
    } finally {
      await database.close();
    }
  });
});

describePostgres("an argument that is undefined", () => {
  it("is refused before its query is begun, and takes no other call with it", async () => {
    await using fresh = await freshDatabase();
    const database = postgresDatabase(fresh.url, { clock: systemClock });
    const echo = (value: unknown) => database.call<string>("select $1::text as answer", [value], "reads");
    try {
      await migrate(database);
      for (let round = 0; round < 20; round++) {
        await expect(echo(undefined)).rejects.toThrow("Argument 1 of a statement is undefined.");
        await expect(database.orm.select().from(buildJobs).where(eq(buildJobs.id, undefined as never))).rejects.toMatchObject({ cause: { message: "Argument 1 of a statement is undefined." } });
      }
      expect(await Promise.all(Array.from({ length: 20 }, (_, index) => echo(String(index))))).toHaveLength(20);
      expect(await database.orm.$count(buildJobs)).toBe(0);
    } finally {
      await database.close();
    }
  });
});

describePostgres("a store that is closed", () => {
  // First it asks whether a pooler stands in between, then it listens: on a connection each.
  it.each([["before it connects", 0], ["while it connects", 1], ["while it connects to listen", 2]])("%s keeps no connection, so that the process can end", async (_when, opening) => {
    await using fresh = await freshDatabase();
    using connections = watchConnections();
    const database = postgresDatabase(fresh.url, { clock: systemClock });
    database.onNotify(() => {});
    await connections.opened(opening);
    await database.close();
    expect(connections.alive()).toBe(0);
    expect(await connections.aliveAfter(500)).toBe(0);
    expect(await sessionsOf(fresh.url)).toEqual([]);
  });

  it("makes no connection again, in the place of one that was cut just before", async () => {
    await using fresh = await freshDatabase();
    using connections = watchConnections();
    const database = postgresDatabase(fresh.url, { clock: { ...systemClock, random: () => 0.5 } });
    database.onNotify(() => {});
    await vi.waitFor(async () => expect(await sessionsOf(fresh.url)).toContain('listen "buildlane"'));
    const made = connections.count();
    connections.cut();
    await vi.waitFor(() => expect(connections.alive()).toBe(0));
    await database.close();
    expect(await connections.aliveAfter(500)).toBe(0);
    expect(connections.count()).toBe(made);
  });
});

/** Connections that this process opens from now on. */
function watchConnections() {
  const sockets: Socket[] = [];
  const alive = () => sockets.filter((socket) => !socket.destroyed);
  let look: () => unknown = () => {};
  const add = (message: unknown) => {
    sockets.push((message as { socket: Socket }).socket);
    look();
  };
  subscribe("net.client.socket", add);
  return {
    count: () => sockets.length,
    alive: () => alive().length,
    aliveAfter: async (ms: number) => (await sleep(systemClock, ms), alive().length),
    /** Resolves as soon as that many have begun to open. */
    opened: (count: number) =>
      new Promise<void>((resolve) => {
        look = () => sockets.length >= count && resolve();
        look();
      }),
    cut: () => alive().forEach((socket) => socket.destroy()),
    [Symbol.dispose]: () => void unsubscribe("net.client.socket", add),
  };
}

/** The last statement of each of the store's sessions. */
async function sessionsOf(url: string): Promise<string[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connection: { application_name: "watcher" } });
  const rows = await sql<{ query: string }[]>`select query from pg_stat_activity where datname = current_database() and application_name = 'buildlane'`;
  await sql.end();
  return rows.map(({ query }) => query);
}

/** Something to wait for that a test opens by hand. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

/** Holds a chat's row in a transaction of somebody else's, until it is let go. */
async function holdLane(url: string, chatId: string) {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const [held, letGo] = [gate(), gate()];
  const transaction = sql.begin(async (tx) => {
    await tx`select 1 from chat_lanes where chat_id = ${chatId} for update`;
    held.open();
    await letGo.opened;
  });
  await held.opened;
  return async () => {
    letGo.open();
    await transaction;
    await sql.end();
  };
}

/** Resolves when a statement waits for somebody's lock. */
async function someoneWaits(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  for (let found = 0; found === 0; ) found = (await sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).length;
  await sql.end();
}

describePostgres("the functions of the schema", () => {
  it("are planned once and never compiled just in time where they forbid scans: each call would be planned, or compiled, anew", async () => {
    await using fresh = await freshDatabase();
    const database = postgresDatabase(fresh.url, { clock: systemClock });
    try {
      await migrate(database);
      const forbidding = await database.transaction((tx) =>
        tx.rows<{ name: string; isCheap: boolean }>("select proname as name, proconfig @> array['jit=off', 'plan_cache_mode=force_generic_plan'] as \"isCheap\" from pg_proc where 'enable_seqscan=off' = any (proconfig)"));
      expect(forbidding.map(({ name }) => name)).toContain("buildlane_turn");
      expect(forbidding.filter(({ isCheap }) => !isCheap)).toEqual([]);
    } finally {
      await database.close();
    }
  });
});

/** A store on a database of its own. */
async function freshStore() {
  const fresh = await freshDatabase();
  const database = postgresDatabase(fresh.url, { clock: systemClock });
  await migrate(database);
  const store = createSqlStore(database, { nodeId: "n1", clock: systemClock });
  return {
    url: fresh.url, database, store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await fresh.drop();
    },
  };
}

describePostgres("a lone job that need not wait, on PostgreSQL", () => {
  it("is written once, as running; one that takes the long way is written and changed", async () => {
    await using fresh = await freshStore();
    const { database, store } = fresh;
    const start = async (id: string, extra: Partial<NewJob>) => {
      const { claims } = await store.acceptAndStart([{ jobs: [newJob(id, id, extra)], idempotency: null }], wide, { nodeId: "n1", claimId: `claim ${id}`, want: 1 });
      expect(claims.map(({ job }) => job.id)).toEqual([id]);
      return database.transaction((tx) => tx.rows<{ status: string; version: string }>("select status, ctid::text as version from build_jobs where id = $1", [id]));
    };
    await store.pulse({ nodeId: "n1", leaseMs: 60_000, slots: 3, draining: false });
    expect(await start("plain", {})).toEqual([{ status: "running", version: "(0,1)" }]);
    expect(await start("urgent", { priority: 5 })).toEqual([{ status: "running", version: "(0,3)" }]);
  });
});

describePostgres("transactions beside one another on PostgreSQL", () => {
  it("number a chat's jobs in the order of their commits, and one that is rolled back leaves no gap", async () => {
    await using fresh = await freshStore();
    const { database, store } = fresh;
    const group = (id: string) => ({ jobs: [newJob(id, "a")], idempotency: null });
    const numbers: Record<string, number> = {};
    const inside = (id: string, until: () => Promise<void>) =>
      database.orm.transaction(async (tx) => {
        const [answer] = (await store.acceptWithin?.(tx, [group(id)], wide, false)) ?? [];
        if (answer?.kind === "accepted") numbers[id] = answer.jobs[0]?.chatSeq as number;
        await until();
      });
    const first = gate();
    const one = inside("one", () => first.opened);
    while (numbers["one"] === undefined) await new Promise((resolve) => setImmediate(resolve));
    const two = inside("two", () => Promise.reject(new Error("rolled back"))).catch((error: Error) => error.message);
    await someoneWaits(fresh.url);
    expect(numbers).toEqual({ one: 1 });
    first.open();
    await one;
    expect(await two).toBe("rolled back");
    await inside("three", async () => {});
    expect(numbers).toEqual({ one: 1, two: 2, three: 2 });
  });

  it("cannot stall the queue: while one holds a chat, all others are accepted, built and recorded, and then that chat goes on", async () => {
    await using fresh = await freshDatabase();
    const [started, finish] = [gate(), gate()];
    const queue = await createBuildQueue({
      databaseUrl: fresh.url, concurrency: 4,
      run: async (job) => {
        if (job.chatId !== "stuck" || job.chatSeq !== 1) return "";
        started.open();
        await finish.opened;
        return "held up";
      },
    });
    const first = await queue.enqueue({ chatId: "stuck", messageId: "m", code: "1" });
    await started.opened;
    const letGo = await holdLane(fresh.url, "stuck");
    // Its end cannot be recorded, and nothing can be added to it.
    finish.open();
    let answered = 0;
    const later = ["2", "3"].map((messageId) => queue.enqueue({ chatId: "stuck", messageId, code: "1" }).finally(() => answered++));
    await someoneWaits(fresh.url);
    for (let round = 0; round < 3; round++) {
      const jobs = await Promise.all(Array.from({ length: 40 }, (_, index) => queue.enqueue({ chatId: `c${index}`, messageId: `${round}`, code: "1" })));
      expect(jobs.map((job) => job.chatSeq)).toEqual(jobs.map(() => round + 1));
      await Promise.all(jobs.map(({ id }) => queue.waitFor(id)));
    }
    expect([answered, (await queue.get(first.id)).status]).toEqual([0, "running"]);
    const letGoAt = Date.now();
    await letGo();
    expect((await Promise.all(later)).map((job) => job.chatSeq)).toEqual([2, 3]);
    // Accepted when they could be: since when a job stands in line others are passed by or not (P8).
    expect((await Promise.all(later)).filter(({ createdAt }) => Date.parse(createdAt) < letGoAt)).toEqual([]);
    const done = await Promise.all([first, ...(await Promise.all(later))].map(({ id }) => queue.waitFor(id)));
    expect(done.map((job) => [job.chatSeq, job.status, job.attempt])).toEqual([[1, "completed", 1], [2, "completed", 1], [3, "completed", 1]]);
    await queue.stop();
  });
});
