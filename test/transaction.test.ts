/** Enqueueing inside the caller's own Drizzle transaction, on PGlite and on PostgreSQL: the job exists if and only if it commits. */
import { sql } from "drizzle-orm";
import { drizzle as drizzlePglite } from "drizzle-orm/pglite";
import { drizzle as drizzlePostgres } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../src/clock.js";
import type { Clock } from "../src/clock.js";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueue, BuildQueueOptions, Report } from "../src/index.js";
import { openInMemory } from "../src/store/embedded.js";
import { describePostgres, freshDatabase } from "./support/postgres.js";

type Db = NonNullable<BuildQueueOptions["db"]> & { transaction: ReturnType<typeof drizzlePglite>["transaction"]; execute: ReturnType<typeof drizzlePglite>["execute"] };

const open: BuildQueue[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

async function queueOver(db: Db, options: BuildQueueOptions = {}) {
  const ran: string[] = [];
  const reports: Report[] = [];
  const queue = await createBuildQueue({ db, run: (job) => void ran.push(`${job.chatId}/${job.messageId}`), onReport: (report) => reports.push(report), ...options });
  open.push(queue);
  return { queue, ran, reports };
}
let chats = 0;
const request = (chatId: string, messageId = "m") => ({ chatId, messageId, code: "1" });

function promises(database: () => Db): void {
  it("makes the job with the commit, and runs it then", async () => {
    const { queue, ran } = await queueOver(database());
    const chatId = `chat${chats++}`;
    const job = await database().transaction(async (tx) => {
      const accepted = await queue.enqueue(request(chatId), { tx });
      expect(accepted).toMatchObject({ chatSeq: 1, status: "pending", queuePosition: 1, replayed: false });
      expect(ran).not.toContain(`${chatId}/m`);
      return accepted;
    });
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed" });
  });

  it("leaves nothing behind when the transaction is rolled back, not even a number", async () => {
    const { queue } = await queueOver(database());
    const chatId = `chat${chats++}`;
    const ids: string[] = [];
    await expect(
      database().transaction(async (tx) => {
        ids.push((await queue.enqueue(request(chatId), { tx })).id);
        throw new Error("changed my mind");
      }),
    ).rejects.toThrow("changed my mind");
    await expect(queue.get(ids[0] as string)).rejects.toMatchObject({ code: "job_not_found" });
    expect(await queue.enqueue(request(chatId))).toMatchObject({ chatSeq: 1 });
  });

  it("keeps the order of several enqueues in one transaction, unawaited ones too", async () => {
    const { queue, ran } = await queueOver(database());
    const chatId = `chat${chats++}`;
    const jobs = await database().transaction(async (tx) => {
      const first = await Promise.all(["0", "1", "2"].map((messageId) => queue.enqueue(request(chatId, messageId), { tx })));
      const { jobs: batch } = await queue.enqueueMany(["3", "4"].map((messageId) => request(chatId, messageId)), { tx });
      return [...first, ...batch];
    });
    expect(jobs.map((job) => job.chatSeq)).toEqual([1, 2, 3, 4, 5]);
    await Promise.all(jobs.map(({ id }) => queue.waitFor(id)));
    expect(ran.filter((one) => one.startsWith(`${chatId}/`))).toEqual(["0", "1", "2", "3", "4"].map((messageId) => `${chatId}/${messageId}`));
  });

  it("keeps the order of transactions that write into one chat at once", async () => {
    const { queue } = await queueOver(database(), { concurrency: 1 });
    const chatId = `chat${chats++}`;
    const pairs = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        database().transaction(async (tx) => {
          const first = await queue.enqueue(request(chatId, `${index}a`), { tx });
          return [first, await queue.enqueue(request(chatId, `${index}b`), { tx })] as const;
        }),
      ),
    );
    for (const [first, second] of pairs) expect(second.chatSeq).toBe(first.chatSeq + 1);
    expect(pairs.flat().map((job) => job.chatSeq).sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, index) => index + 1));
    const jobs = await Promise.all(pairs.flat().map(({ id }) => queue.waitFor(id)));
    const byStart = jobs.sort((a, b) => Date.parse(a.startedAt as string) - Date.parse(b.startedAt as string) || a.chatSeq - b.chatSeq);
    expect(byStart.map((job) => job.chatSeq)).toEqual(Array.from({ length: 16 }, (_, index) => index + 1));
  });

  it("commits or loses the job together with the caller's own rows, savepoints included", async () => {
    const { queue } = await queueOver(database());
    const chatId = `chat${chats++}`;
    await database().execute(sql`create table if not exists messages (id text primary key)`);
    const kept = await database().transaction(async (tx) => {
      await tx.execute(sql`insert into messages values (${chatId})`);
      await tx
        .transaction(async (inner) => {
          await queue.enqueue(request(chatId, "inner"), { tx: inner });
          throw new Error("only the inner one");
        })
        .catch(() => undefined);
      return queue.enqueue(request(chatId, "outer"), { tx });
    });
    expect(kept.chatSeq).toBe(1);
    expect((await queue.waitFor(kept.id)).messageId).toBe("outer");
  });

  it("refuses inside the transaction what it would refuse outside, and answers a key's replay", async () => {
    const { queue } = await queueOver(database(), { maxPendingPerChat: 2 });
    await queue.pause();
    const chatId = `chat${chats++}`;
    const first = await database().transaction((tx) => queue.enqueue(request(chatId), { tx, idempotencyKey: chatId }));
    expect(await database().transaction((tx) => queue.enqueue(request(chatId), { tx, idempotencyKey: chatId }))).toMatchObject({ id: first.id, replayed: true });
    await expect(
      database().transaction(async (tx) => {
        await queue.enqueue(request(chatId), { tx });
        await queue.enqueue(request(chatId), { tx });
      }),
    ).rejects.toMatchObject({ code: "chat_queue_full", retryAfterMs: 60_000 });
    await expect(database().transaction((tx) => queue.enqueue({ ...request(chatId), code: 1 } as never, { tx }))).rejects.toMatchObject({ code: "validation_failed" });
    expect((await queue.chat(chatId)).pending.map((job) => job.id)).toEqual([first.id]);
    await queue.resume();
  });

  it("takes nothing for a transaction that is none: the job would be there whatever becomes of the caller's work", async () => {
    const { queue } = await queueOver(database());
    const chatId = `chat${chats++}`;
    const { $client } = database() as unknown as { $client: unknown };
    for (const tx of [database(), $client, null, {}, "tx"]) await expect(queue.enqueue(request(chatId), { tx: tx as never })).rejects.toMatchObject({ code: "validation_failed", issues: [{ path: "/tx" }] });
    expect(await queue.chatState(chatId)).toBeNull();
  });

  it("hears of the commit without a notice too, at its next pulse", async () => {
    const { queue } = await queueOver(database());
    const job = await database().transaction((tx) => queue.enqueue(request(`chat${chats++}`), { tx, notify: false }));
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed" });
  });
}

describe("enqueue in a transaction on PGlite", () => {
  let embedded: Awaited<ReturnType<typeof openInMemory>>;
  let db: Db;
  beforeAll(async () => {
    embedded = await openInMemory({ clock: systemClock });
    db = drizzlePglite(embedded.client) as unknown as Db;
  });
  afterAll(() => embedded.close());
  promises(() => db);

  /** Time ten times as fast for the queue, so that a short transaction outlasts a lease. */
  const start = performance.now();
  const fast: Clock = {
    ...systemClock,
    monotonic: () => start + (performance.now() - start) * 10,
    after: (delayMs, callback) => systemClock.after(delayMs / 10, callback),
  };
  const inFastTime = (ms: number) => new Promise<void>((resolve) => void fast.after(ms, resolve));

  it("loses no lane while a transaction outlasts the lease", async () => {
    let end = () => {};
    const { queue, reports } = await queueOver(db, { clock: fast, leaseMs: 1000, run: () => new Promise<void>((resolve) => (end = resolve)) });
    const job = await queue.enqueue(request(`chat${chats++}`));
    while ((await queue.get(job.id)).status !== "running");
    await db.transaction(() => inFastTime(3000));
    end();
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed", attempt: 1 });
    expect(reports.filter(({ type }) => type === "lease.lost" || type === "lane.lost")).toEqual([]);
  });

  it("lets other calls wait for the transaction, so long and no longer, and never runs what it refused", async () => {
    const { queue } = await queueOver(db, { clock: fast });
    const chatId = `chat${chats++}`;
    const soon = await Promise.all([db.transaction(() => inFastTime(500)), queue.enqueue(request(chatId, "waited"))]);
    expect(soon[1]).toMatchObject({ chatSeq: 1 });
    await db.transaction(async (tx) => {
      await tx.execute(sql`select 1`);
      await expect(queue.enqueue(request(chatId, "refused"))).rejects.toMatchObject({ code: "database_busy", statusCode: 503, message: expect.stringContaining("pass that transaction along as tx") });
      await expect(queue.chat(chatId)).rejects.toMatchObject({ code: "database_busy" });
      await queue.enqueue(request(chatId, "inside"), { tx });
    });
    const view = await queue.chat(chatId);
    expect(Object.values(view).flat().map((job) => job.messageId).sort()).toEqual(["inside", "waited"]);
  });
});

describePostgres("enqueue in a transaction on PostgreSQL", () => {
  let database: Awaited<ReturnType<typeof freshDatabase>>;
  let client: postgres.Sql;
  let db: Db;
  beforeAll(async () => {
    database = await freshDatabase();
    client = postgres(database.url, { onnotice: () => {} });
    db = drizzlePostgres(client) as unknown as Db;
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });
  promises(() => db);

  it("works for a queue that has connections of its own, and sends one notice with the commit, none when told so", async () => {
    const { db: _none, ...rest } = { db: undefined };
    const queue = await createBuildQueue({ ...rest, databaseUrl: database.url, run: () => "" });
    open.push(queue);
    const notices: string[] = [];
    await client.listen("buildlane", (payload) => {
      if ((JSON.parse(payload) as { from: string }).from === "") notices.push(payload);
    });
    const silent = await db.transaction((tx) => queue.enqueue(request("noticed", "silent"), { tx, notify: false }));
    const told = await db.transaction((tx) => queue.enqueue(request("noticed", "told"), { tx }));
    await Promise.all([silent, told].map(({ id }) => queue.waitFor(id)));
    await client.notify("buildlane", JSON.stringify({ from: "", hints: [] }));
    while (!notices.at(-1)?.includes("[]")) await new Promise((resolve) => setImmediate(resolve));
    expect(notices).toHaveLength(2);
    expect(notices[0]).toContain('"chatId":"noticed"');
  });

  it("runs what became visible long after its time: by then turns look from where a later pulse saw the line begin", async () => {
    const { queue } = await queueOver(db);
    const job = await db.transaction(async (tx) => {
      const accepted = await queue.enqueue(request("late"), { tx, notify: false });
      // Longer than the slack that a pulse leaves before its own time.
      await tx.execute(sql`select pg_sleep(3)`);
      return accepted;
    });
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed" });
  });

  it("holds up its own chat only: others go on while the transaction is open", async () => {
    const { queue } = await queueOver(db);
    await db.transaction(async (tx) => {
      await queue.enqueue(request("held", "in"), { tx });
      const behind = queue.enqueue(request("held", "behind"));
      const other = await queue.enqueue(request("free"));
      expect(await queue.waitFor(other.id)).toMatchObject({ status: "completed" });
      void behind.catch(() => undefined);
    });
    const { jobs } = await queue.enqueueMany([request("held", "last")]);
    await queue.waitFor((jobs[0] as { id: string }).id);
    const { completed } = await queue.chat("held");
    expect(completed.map((job) => job.messageId).reverse()).toEqual(["in", "behind", "last"]);
  });
});

describe("a queue that is given several stores, or none that has transactions", () => {
  it("says what it expects", async () => {
    await expect(createBuildQueue({ store: "memory", databaseUrl: "postgres://127.0.0.1/x" })).rejects.toThrow("Expected one of store, db and databaseUrl");
    await expect(createBuildQueue({ db: { $client: {} } })).rejects.toThrow("Expected db to be a Drizzle database over postgres.js or PGlite");
    const queue = await createBuildQueue({ store: "memory", run: () => "" });
    open.push(queue);
    await expect(queue.enqueue(request("a"), { tx: { execute: async () => [] } })).rejects.toThrow("The memory store has no transactions");
  });
});
