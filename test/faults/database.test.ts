import postgres from "postgres";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import type { BuildQueue, BuildQueueOptions, Report, RunnableJob } from "../../src/index.js";
import { describePostgres, postgresCluster } from "../support/postgres.js";
import type { PostgresCluster } from "../support/postgres.js";
import { wireTo } from "../support/wire.js";

const open: BuildQueue[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

interface Held {
  job: RunnableJob;
  signal: AbortSignal;
  end(): void;
}

/** Somebody's transaction has the lanes of chats with such names; resolves with how to end it. */
async function holdLanes(url: string, like: string): Promise<() => Promise<void>> {
  const sql = postgres(url, { max: 1 });
  let release = () => {};
  const holding = new Promise<void>((resolve) => (release = resolve));
  let transaction: Promise<unknown> = Promise.resolve();
  await new Promise<void>((resolve, reject) => {
    transaction = sql.begin(async (tx) => {
      await tx`select 1 from chat_lanes where chat_id like ${like} for update`;
      resolve();
      await holding;
    });
    transaction.catch(reject);
  });
  return async () => {
    release();
    await transaction;
    await sql.end();
  };
}

/** A node whose builds of the code `hold` end when the test says so; others end at once. */
async function startNode(databaseUrl: string, options: BuildQueueOptions = {}) {
  const reports: Report[] = [];
  const held: Held[] = [];
  const waiters: { ready(): boolean; tell(): void }[] = [];
  const look = () => waiters.filter((one) => one.ready()).forEach((one) => one.tell());
  /** Resolves when the condition holds; looked at whenever the node reports something. */
  const until = (ready: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      if (ready()) resolve();
      else waiters.push({ ready, tell: resolve });
    });
  const runs: string[] = [];
  const queue = await createBuildQueue({
    databaseUrl, leaseMs: 1000, drainMs: 0,
    run: (job, { signal }) =>
      new Promise((resolve, reject) => {
        runs.push(job.id);
        if (job.code !== "hold") return resolve("built");
        held.push({ job, signal, end: () => resolve("built") });
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
        look();
      }),
    onReport(report) {
      reports.push(report);
      look();
    },
    ...options,
  });
  open.push(queue);
  const saw = (type: Report["type"], times = 1) => until(() => reports.filter((report) => report.type === type).length >= times);
  return { queue, reports, held, runs, until, saw };
}

/** Milliseconds that it took to be refused as `database_unavailable`. */
async function refusedIn(work: Promise<unknown>): Promise<number> {
  const from = performance.now();
  await expect(work).rejects.toMatchObject({ code: "database_unavailable", statusCode: 503, retryAfterMs: 1000 });
  return performance.now() - from;
}

describePostgres("a database in trouble", () => {
  let cluster: PostgresCluster;
  let admin: postgres.Sql;
  beforeAll(async () => {
    cluster = await postgresCluster({ durable: true, settings: { max_connections: "30" } });
    admin = postgres(cluster.url, { max: 1, onnotice: () => {}, backoff: () => 0.05 });
  });
  afterAll(async () => {
    await admin.end();
    await cluster.drop();
  });
  const cutAll = () => admin`select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'buildlane'`;
  const request = (chatId: string, code = "1") => ({ chatId, messageId: "m", code });

  it("that crashes and comes back needs no restart: refusals are quick, and what was built meanwhile is recorded, not built again", async () => {
    const { queue, held, runs, until, saw } = await startNode(cluster.url, { leaseMs: 20_000 });
    const job = await queue.enqueue(request("crash", "hold"));
    const next = await queue.enqueue(request("crash"));
    await until(() => held.length === 1);
    const waiting = queue.waitFor(next.id);

    await cluster.stop("immediate");
    held[0]?.end();
    await saw("outcome.waiting");
    for (let tries = 0; tries < 5; tries++) {
      expect(await refusedIn(queue.enqueue(request("crash")))).toBeLessThan(2000);
      expect(await refusedIn(queue.get(job.id))).toBeLessThan(2000);
      expect(await refusedIn(queue.stats())).toBeLessThan(2000);
      expect((await queue.ready()).database).toBe(false);
    }
    // Begins in the midst of it.
    const late = queue.waitFor(job.id);
    await cluster.start();

    expect(await waiting).toMatchObject({ status: "completed", attempt: 1 });
    expect(await late).toMatchObject({ status: "completed" });
    expect(await queue.get(job.id)).toMatchObject({ status: "completed", attempt: 1 });
    expect(runs.filter((id) => id === job.id)).toHaveLength(1);
    await queue.waitFor((await queue.enqueue(request("crash"))).id);
  });

  it("that is away behind a proxy, which takes connections and closes them, is refused as quickly, and the proxy is not stormed", async () => {
    await using wire = await wireTo(cluster.url);
    const { queue } = await startNode(wire.url, { leaseMs: 20_000 });
    const job = await queue.enqueue(request("proxied"));
    await queue.waitFor(job.id);
    await cluster.stop("immediate");
    const [from, before] = [performance.now(), wire.connections];
    for (let tries = 0; tries < 5 || performance.now() - from < 1500; tries++) {
      const refused = await Promise.all([queue.enqueue(request("proxied")), queue.get(job.id), queue.keys.exist(), queue.stats()].map(refusedIn));
      expect(Math.max(...refused)).toBeLessThan(2000);
    }
    // Some twenty connections, each tried again after 50 to 250 ms at the earliest.
    expect(((wire.connections - before) * 1000) / (performance.now() - from)).toBeLessThan(300);
    await cluster.start();
    await queue.waitFor((await queue.enqueue(request("proxied"))).id);
  });

  it("that is away for longer than the lease costs the builds, not the jobs: they are stopped, written nowhere, and run again", async () => {
    const { queue, held, until, saw } = await startNode(cluster.url);
    const job = await queue.enqueue(request("lapse", "hold"));
    await until(() => held.length === 1);
    await cluster.stop("fast");
    await saw("lease.lost");
    expect(held[0]?.signal.aborted).toBe(true);
    held[0]?.end();
    await cluster.start();
    await until(() => held.length === 2);
    held[1]?.end();
    // It went back in line without costing an attempt of the three that it has.
    expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed", attempt: 2, attempts: [{ outcome: "released" }, { outcome: "completed" }] });
    await saw("lease.renewed");
  });

  it("that cuts every connection, again and again, refuses nobody and loses nothing", async () => {
    const { queue } = await startNode(cluster.url, { leaseMs: 20_000, maxPendingPerChat: 100_000, maxPending: 100_000 });
    const accepted: string[] = [];
    let cutting = true;
    const rounds = [0, 0, 0, 0];
    let progress = () => {};
    const clients = rounds.map(async (_, client) => {
      while (cutting) {
        accepted.push((await queue.enqueue(request(`cut${client}`))).id);
        await queue.waitFor(accepted.at(-1) as string);
        rounds[client] = (rounds[client] ?? 0) + 1;
        progress();
      }
    });
    const all = Promise.all(clients);
    for (let cuts = 0; cuts < 10; cuts++) {
      const before = [...rounds];
      await cutAll();
      await queue.get("none").catch((error: { code: string }) => expect(error.code).toBe("job_not_found"));
      // Two rounds of each client, so that no call of theirs meets more than one cut.
      const served = () => rounds.every((count, client) => count >= (before[client] ?? 0) + 2);
      while (!served()) await Promise.race([all, new Promise<void>((resolve) => (progress = resolve))]);
    }
    cutting = false;
    await all;
    const jobs = await Promise.all(accepted.map((id) => queue.waitFor(id)));
    expect(new Set(jobs.map((job) => job.status))).toEqual(new Set(["completed"]));
    const [{ count }] = (await admin`select count(*)::int as count from build_jobs where chat_id like 'cut_'`) as unknown as [{ count: number }];
    expect(count).toBe(accepted.length);
  }, 120_000);

  it("that loses an answer accepts the job once, and the caller hears of it", async () => {
    await using wire = await wireTo(cluster.url);
    const { queue } = await startNode(wire.url, { leaseMs: 20_000, databaseNotify: false });
    await queue.waitFor((await queue.enqueue(request("lost"))).id);
    // The pulse's answers come too: lose until an accept was hit.
    for (let seq = 2; seq < 5; seq++) {
      const [accepted] = await Promise.all([queue.enqueue(request("lost")), wire.loseNextAnswer()]);
      expect(accepted.chatSeq).toBe(seq);
      await queue.waitFor(accepted.id);
    }
    expect((await queue.chat("lost")).completed).toHaveLength(4);
  });

  it("that has no connection left refuses a new node, while one that is connected goes on", async () => {
    const { queue } = await startNode(cluster.url, { leaseMs: 20_000 });
    await queue.waitFor((await queue.enqueue(request("full"))).id);
    const clients: postgres.Sql[] = [];
    try {
      for (;;) {
        const client = postgres(cluster.url, { max: 1 });
        clients.push(client);
        const taken = await client`select 1`.then(() => true, () => false);
        if (!taken) break;
      }
      await expect(createBuildQueue({ databaseUrl: cluster.url, run: async () => "1" })).rejects.toMatchObject({ code: "database_unavailable" });
      const jobs = await Promise.all(Array.from({ length: 20 }, (_, index) => queue.enqueue(request(`full${index}`))));
      for (const job of jobs) expect(await queue.waitFor(job.id)).toMatchObject({ status: "completed", attempt: 1 });
    } finally {
      await Promise.all(clients.map((client) => client.end({ timeout: 1 })));
    }
  });

  it("that a node stops reading from, in the middle of what it claimed, keeps those lanes from others no longer than a dead node's", { timeout: 180_000 }, async () => {
    await using wire = await wireTo(cluster.url);
    // More than what lies between two sockets; and a lease that outlasts the reading of that, also on a slow machine.
    const large = { maxCodeBytes: 4 * 1024 * 1024, maxBodyBytes: 8 * 1024 * 1024, concurrency: 8, leaseMs: 4000 };
    const { queue, runs } = await startNode(cluster.url, large);
    await queue.pause();
    const jobs = await Promise.all(Array.from({ length: 8 }, (_, index) => queue.enqueue({ ...request(`large${index}`), code: "//".padEnd(2 * 1024 * 1024, "x") })));
    await queue.stop();
    await startNode(wire.url, large);
    const frozen = wire.freezeInLargeAnswer();
    const sql = postgres(cluster.url, { max: 1, onnotice() {} });
    await sql`update queue_state set paused_at = null`;
    await frozen;
    const from = performance.now();
    const other = await startNode(cluster.url, large);
    await Promise.all(jobs.map(({ id }) => other.queue.waitFor(id)));
    const rescuedMs = performance.now() - from;
    await sql.end();
    process.stderr.write(`lanes of a node that stopped reading were another's after ${Math.round(rescuedMs)} ms\n`);
    expect([runs.length, other.runs.length]).toEqual([0, 8]);
    // Unless the system is told to give such a connection up, it takes 42 s here until both ends have.
    expect(rescuedMs).toBeLessThan(30_000);
  });

  it("that falls silent is given up in time, and a new connection is taken when there is one", { timeout: 90_000 }, async () => {
    await using wire = await wireTo(cluster.url);
    const { queue, saw } = await startNode(wire.url);
    await queue.waitFor((await queue.enqueue(request("silent"))).id);
    wire.silence();
    // Who asks is looked up there, too: no request may hang on it.
    const [refused, unknown] = await Promise.all([refusedIn(queue.enqueue(request("silent"))), refusedIn(queue.keys.exist()), saw("lease.lost")]);
    expect(refused).toBeLessThan(10_000);
    expect(unknown).toBeLessThan(20_000);
    wire.restore();
    await saw("lease.renewed");
    // Each line has connections of its own: an accept may meet one that fell silent, and is refused in time. So may a read,
    // and who waits for a job hears nothing of that.
    const unlessAway = (error: unknown): null => {
      expect(error).toMatchObject({ code: "database_unavailable" });
      return null;
    };
    for (;;) {
      const job = await queue.enqueue(request("silent")).catch(unlessAway);
      if (job === null) continue;
      expect((await queue.waitFor(job.id)).status).toBe("completed");
      break;
    }
  });

  it("with a time limit for statements, a chat that is held is busy, and no error of the service's", async () => {
    const limited = new URL(cluster.url);
    limited.searchParams.set("options", "-c statement_timeout=3000");
    const { queue } = await startNode(limited.href, { leaseMs: 20_000 });
    await queue.waitFor((await queue.enqueue(request("limited"))).id);
    const release = await holdLanes(cluster.url, "limited");
    await expect(queue.enqueue(request("limited"))).rejects.toMatchObject({ code: "chat_busy" });
    await release();
    expect((await queue.enqueue(request("limited"))).chatSeq).toBe(2);
  });

  it("that begins transactions with one snapshot for all of them is refused, with what to do", async () => {
    const other = new URL(cluster.url);
    other.searchParams.set("options", "-c default_transaction_isolation=serializable");
    await expect(createBuildQueue({ databaseUrl: other.href, run: () => "built" })).rejects.toThrow(/"serializable"; Buildlane needs "read committed"/);
  });

  it("where a transaction holds four chats lets those go on whose jobs and ends came together with theirs", async () => {
    const { queue, held, until } = await startNode(cluster.url, { leaseMs: 20_000, concurrency: 5 });
    const chats = ["held1", "held2", "held3", "held4", "other"];
    const running = await Promise.all(chats.map((chatId) => queue.enqueue({ ...request(chatId), code: "hold" })));
    await until(() => held.length === 5);
    const release = await holdLanes(cluster.url, "held%");
    const accepted = chats.map((chatId) => queue.enqueue(request(chatId)));
    expect((await (accepted[4] as Promise<{ chatSeq: number }>)).chatSeq).toBe(2);
    for (const one of held) one.end();
    expect((await queue.waitFor((running[4] as { id: string }).id)).status).toBe("completed");
    await release();
    for (const job of await Promise.all(accepted)) expect((await queue.waitFor(job.id)).status).toBe("completed");
  });

  it("where a transaction holds one chat lets all others go on, and that chat too when it ends", async () => {
    const { queue } = await startNode(cluster.url, { leaseMs: 20_000 });
    await queue.waitFor((await queue.enqueue(request("stuck"))).id);
    const release = await holdLanes(cluster.url, "stuck");
    const stuck = [1, 2, 3].map(() => queue.enqueue(request("stuck")));
    for (let round = 0; round < 20; round++) {
      const job = await queue.enqueue(request(`free${round}`));
      expect((await queue.waitFor(job.id)).status).toBe("completed");
    }
    await release();
    const accepted = await Promise.all(stuck);
    expect(accepted.map((job) => job.chatSeq)).toEqual([2, 3, 4]);
    for (const job of accepted) await queue.waitFor(job.id);
  });
});
