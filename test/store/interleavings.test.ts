/**
 * The same SQL under real concurrency: a connection of the test's own holds a row's lock while the verbs come from many
 * connections of two nodes. What does not need the row goes on; what does waits or says so; nothing deadlocks; and the
 * history that comes out of it is proven by `verify`.
 */
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { BuildlaneError } from "../../src/errors.js";
import { verify } from "../../src/history/verify.js";
import { keepRetention } from "../../src/retention.js";
import { createSimulatedClock, seededRandom } from "../../src/simulated-clock.js";
import { createSqlStore } from "../../src/store/sql/index.js";
import { migrate } from "../../src/store/sql/migrate.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import type { Database } from "../../src/store/sql/database.js";
import { ContendedError } from "../../src/store/store.js";
import type { AcceptLimits, Claim, Ending, Store } from "../../src/store/store.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import type { FreshDatabase } from "../support/postgres.js";
import { agingMs, ends, guardOf, newJob } from "./programs.js";

const limits: AcceptLimits = { agingMs, pendingPerChatMax: 10_000, pendingMax: 1_000_000, rate: null };
const everyone = "everyone" as const;
const rows = {
  "a lane's row": "select 1 from chat_lanes where chat_id = 'a' for update",
  "a running job's row": "select 1 from build_jobs where chat_id = 'a' and status = 'running' for update",
  "a pending job's row": "select 1 from build_jobs where chat_id = 'a' and status = 'pending' order by place limit 1 for update",
  "a node's row": "select 1 from build_nodes where id = 'n1' for update",
};

/** Who surely waits for each of these rows; where that is a chat's, it has the lane meanwhile. */
const needs = { "a lane's row": "end", "a running job's row": "end", "a pending job's row": "cancel", "a node's row": "pulse" } as const;

describePostgres("forced interleavings on PostgreSQL", () => {
  let fresh: FreshDatabase;
  let holder: postgres.Sql;
  const databases: Database[] = [];
  let stores: [Store, Store];
  let ids = 0;
  let calls = 0;

  beforeAll(async () => {
    fresh = await freshDatabase();
    databases.push(postgresDatabase(fresh.url, { clock: systemClock }), postgresDatabase(fresh.url, { clock: systemClock }));
    await migrate(databases[0] as Database);
    stores = databases.map((database, index) => createSqlStore(database, { nodeId: `n${index + 1}`, clock: systemClock })) as [Store, Store];
    holder = postgres(fresh.url, { max: 1, onnotice: () => {} });
  }, 60_000);
  beforeEach(async () => {
    await holder.unsafe("truncate build_jobs, chat_lanes, build_nodes, job_events, idempotency_keys, code_crashes, build_counters; update queue_state set paused_at = null");
    for (const [index, store] of stores.entries()) await store.pulse({ nodeId: `n${index + 1}`, leaseMs: 600_000, slots: 1000, draining: false });
  });
  afterAll(async () => {
    await holder.end();
    await Promise.all(databases.map((database) => database.close()));
    await fresh.drop();
  });

  const accept = (store: Store, chatId: string, count = 1, patient = true) =>
    store.accept([{ jobs: Array.from({ length: count }, () => newJob(`j${ids++}`, chatId)), idempotency: null }], { ...limits, patient });
  const turn = (node: 1 | 2, endings: Ending[], want: number, patient = true) => stores[node - 1 as 0 | 1].turn({ nodeId: `n${node}`, claimId: `c${calls++}`, endings, want, patient });
  const ending = (claim: Claim, end: Ending["end"] = ends.completed): Ending => ({ ...guardOf(claim), end });

  /** "Held by somebody, nothing was changed, try again" is an answer too: nobody waits without bound. */
  const orBusy = (work: Promise<unknown>): Promise<unknown> =>
    work.catch((error: unknown) => {
      if (!(error instanceof BuildlaneError && error.retryable)) throw error;
    });

  /** Runs `during` while the holder's transaction has the lock. */
  async function holding(lock: string, during: () => Promise<void>): Promise<void> {
    await holder.unsafe("begin");
    try {
      expect((await holder.unsafe(lock)).length).toBeGreaterThan(0);
      await during();
    } finally {
      await holder.unsafe("commit");
    }
  }
  /** Resolves when at least so many backends wait for a lock. */
  async function waiting(count: number): Promise<void> {
    for (;;) {
      const [row] = await holder.unsafe("select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'");
      if (Number(row?.["n"]) >= count) return;
    }
  }
  /** Works everything off on a healthy node, then proves the history. */
  async function proven(): Promise<void> {
    await stores[0].endLeases({ exceptNodeId: "calm" });
    await stores[0].pulse({ nodeId: "calm", leaseMs: 600_000, slots: 1000, draining: false });
    for (;;) {
      await stores[0].rescue({ nodeId: "calm", nodeLossesMax: 100, limit: 1000 });
      const { claims } = await stores[0].turn({ nodeId: "calm", claimId: `c${calls++}`, endings: [], want: 500 });
      if (claims.length === 0 && (await stores[0].stats(everyone)).totalQueued === 0) break;
      await stores[0].turn({ nodeId: "calm", claimId: `c${calls++}`, endings: claims.map((claim) => ending(claim)), want: 0 });
    }
    const verdict = await stores[0].readHistory((history) => verify(history, { atRest: true, startsMax: 1_000_000 }));
    expect(verdict.violations).toEqual([]);
    const [deadlocks] = await holder.unsafe("select deadlocks::int as n from pg_stat_database where datname = current_database()");
    expect(deadlocks?.["n"]).toBe(0);
  }

  it.each(Object.entries(rows))("with %s held, other chats go on, and what needs it ends as if it had come later", async (name, lock) => {
    await accept(stores[0], "a", 4);
    const [running] = (await turn(1, [], 1)).claims;
    if (!running) throw new Error("nothing was claimed");
    const doomed = (await stores[0].chat(everyone, "a", 10, { code: false, result: false })).pending[0]?.id as string;
    const stuck: Promise<unknown>[] = [];
    await holding(lock, async () => {
      const calls = {
        end: () => turn(1, [ending(running)], 0),
        cancel: () => stores[0].cancel(everyone, doomed),
        pulse: () => stores[0].pulse({ nodeId: "n1", leaseMs: 600_000, slots: 1000, draining: false }),
        pause: () => stores[0].setChatPaused(everyone, "a", true),
        accept: () => accept(stores[0], "a"),
        acceptElsewhere: () => accept(stores[1], "a"),
      };
      const first = needs[name as keyof typeof needs];
      stuck.push(orBusy(calls[first]()));
      await waiting(1);
      for (const [call, work] of Object.entries(calls)) if (call !== first) stuck.push(orBusy(work()));
      // Whatever waits for the row, chats b and c are accepted, claimed, ended and cancelled by node 2 meanwhile.
      await Promise.all([accept(stores[1], "b", 3), accept(stores[1], "c", 3)]);
      const { claims } = await turn(2, [], 5);
      expect(claims.map(({ job }) => job.chatId).filter((chatId) => chatId !== "a").sort()).toEqual(["b", "c"]);
      const { settled } = await turn(2, claims.filter(({ job }) => job.chatId !== "a").map((claim) => ending(claim)), 0);
      expect(settled.map(({ kind }) => kind)).toEqual(["settled", "settled"]);
      const pending = (await stores[1].chat(everyone, "b", 10, { code: false, result: false })).pending.at(-1);
      expect(await stores[1].cancel(everyone, pending?.id as string)).toMatchObject({ kind: "cancelled" });
      expect(await stores[1].rescue({ nodeId: "n2", nodeLossesMax: 5, limit: 10 })).toEqual([]);
    });
    await Promise.all(stuck);
    await stores[1].setChatPaused(everyone, "a", false);
    await proven();
  });

  for (const held of ["a lane's row", "a pending job's row"] as const)
    it(`a claim passes over the first lane in line while somebody holds ${held}, wants it one lane or many`, async () => {
      for (const chatId of ["a", "b", "c", "d"]) await accept(stores[0], chatId);
      await holding(rows[held], async () => {
        expect((await turn(2, [], 1, false)).claims.map(({ job }) => job.chatId)).toEqual(["b"]);
        expect((await turn(2, [], 3, false)).claims.map(({ job }) => job.chatId)).toEqual(["c", "d"]);
      });
      expect((await turn(2, [], 3, false)).claims.map(({ job }) => job.chatId)).toEqual(["a"]);
      await proven();
    });

  it("a lane in line that a claim passed over while the retention held it is told of when that step is over", async () => {
    await accept(stores[0], "a", 2);
    await turn(1, [ending((await turn(1, [], 1)).claims[0] as Claim)], 0);
    const clock = createSimulatedClock();
    let deaf = () => {};
    const ready = new Promise<void>((resolve) => (deaf = stores[0].onHint(({ kind }) => void (kind === "ready" && resolve()))));
    const retention = keepRetention({ store: stores[0], clock, keep: { ageMs: 0, count: 0 }, report: () => {} });
    // The step has the lane, and waits for the finished job's row.
    await holding("select 1 from build_jobs where chat_id = 'a' and status = 'completed' for update", async () => {
      await clock.advance(30_000);
      await waiting(1);
      expect((await turn(2, [], 1, false)).claims).toEqual([]);
    });
    await ready;
    deaf();
    expect((await turn(2, [], 1, false)).claims.map(({ job }) => job.chatSeq)).toEqual([2]);
    await retention.stop();
    await proven();
  });

  it("old events of a busy chat wait for no lock and for the next look, and those of others go", async () => {
    await accept(stores[0], "a", 1);
    for (const chatId of ["b", "c"]) await stores[0].setPolicy({ tenant: "" }, chatId, { afterFailure: "hold" });
    const keep = { ageMs: 0, count: 1000, idempotencyMs: 1e9, batch: 4 };
    for (let index = 0; index < 6; index++) for (const chatId of ["b", "c"]) await stores[0].setChatPaused({ tenant: "" }, chatId, index % 2 === 0);
    await holding("select 1 from chat_lanes where chat_id = 'b' for update", async () => {
      const first = await stores[1].prune(keep);
      expect(first).toMatchObject({ chatEvents: 1, more: true });
      const second = await stores[1].prune({ ...keep, cursor: first.cursor });
      expect(second).toMatchObject({ chatEvents: 2, more: true });
    });
    await holding("select 1 from chat_lanes where chat_id in ('b', 'c') for update", async () => {
      expect(await stores[1].prune(keep)).toMatchObject({ chatEvents: 0, more: false });
    });
    let removed = 0;
    for (let step = await stores[1].prune(keep); ; step = await stores[1].prune({ ...keep, cursor: step.cursor })) {
      removed += step.chatEvents;
      if (step.cursor === undefined) break;
    }
    expect(removed).toBe(7);
    await stores[0].setChatPaused({ tenant: "" }, "b", false);
    await proven();
  });

  it("an impatient turn over a held lane says so and writes nothing, and each alone then goes its way", async () => {
    await Promise.all([accept(stores[0], "a"), accept(stores[0], "b")]);
    const { claims } = await turn(1, [], 2);
    const before = await holder.unsafe("select count(*)::int as n from job_events");
    await holding(rows["a lane's row"], async () => {
      await expect(turn(1, claims.map((claim) => ending(claim)), 0, false)).rejects.toThrow(ContendedError);
      expect(await holder.unsafe("select count(*)::int as n from job_events")).toEqual(before);
      const b = claims.find(({ job }) => job.chatId === "b") as Claim;
      expect((await turn(1, [ending(b)], 0)).settled).toMatchObject([{ kind: "settled" }]);
    });
    await proven();
  });

  it("a settle and the rescue of the same lane: exactly one of them counts, whichever gets the lock first", async () => {
    for (let round = 0; round < 10; round++) {
      await accept(stores[0], "a");
      const [claim] = (await turn(1, [], 1)).claims;
      if (!claim) throw new Error("nothing was claimed");
      await stores[1].endLeases({ nodeId: "n1" });
      let both: [Awaited<ReturnType<typeof turn>>, Awaited<ReturnType<Store["rescue"]>>] | null = null;
      const settle = turn(1, [ending(claim)], 0);
      const rescue = stores[1].rescue({ nodeId: "n2", nodeLossesMax: 100, limit: 10 });
      both = await Promise.all([settle, rescue]);
      const settled = both[0].settled[0]?.kind === "settled";
      // A rescue passes over a lane that is locked at that moment: then the settle has it.
      expect(Number(settled) + both[1].length).toBe(1);
      await stores[0].pulse({ nodeId: "n1", leaseMs: 600_000, slots: 1000, draining: false });
      const again = (await turn(1, [], 5)).claims;
      await turn(1, again.map((one) => ending(one)), 0);
    }
    await proven();
  });

  it("a node leaves while somebody holds one of its lanes: the others are free at once, that one when it is let go, and none counts as a loss", async () => {
    for (const chatId of ["a", "b", "c"]) await accept(stores[0], chatId);
    const { claims } = await turn(1, [], 3);
    await holding(rows["a lane's row"], async () => {
      await stores[0].leave({ nodeId: "n1" });
      expect((await turn(2, [], 5)).claims.map(({ job }) => job.chatId).sort()).toEqual(["b", "c"]);
      // A turn that was on its way when the node left takes nothing.
      expect((await turn(1, [], 5)).claims).toEqual([]);
    });
    // With one loss its job would have failed.
    expect(await stores[1].rescue({ nodeId: "n2", nodeLossesMax: 1, limit: 10 })).toMatchObject([{ chatId: "a", status: "pending" }]);
    const ofA = claims.find(({ job }) => job.chatId === "a") as Claim;
    expect(await stores[1].get(everyone, ofA.job.id)).toMatchObject({ status: "pending", attempts: [{ outcome: "released" }] });
    await proven();
  });

  it("many connections do everything at once while rows are held and let go: no deadlock, order kept", async () => {
    const random = seededRandom(5);
    const chatIds = ["a", "b", "c", "d", "e"];
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
    const known: string[] = [];
    const open = new Map<string, { claim: Claim; node: 1 | 2 }>();
    let over = false;
    // A lane that is held too long for an impatient call is an answer too.
    const orContended = <T>(work: Promise<T>): Promise<T | null> => work.catch((error: unknown) => (error instanceof ContendedError ? null : Promise.reject(error)));

    async function act(): Promise<void> {
      const store = pick(stores);
      const draw = random();
      if (draw < 0.3) {
        const answers = await orContended(accept(store, pick(chatIds), 1 + Math.floor(3 * random()), random() < 0.5));
        for (const answer of answers ?? []) if (answer.kind === "accepted") known.push(...answer.jobs.map(({ id }) => id));
      } else if (draw < 0.75) {
        const node = pick([1, 2] as const);
        const mine = [...open.values()].filter((one) => one.node === node).slice(0, 3);
        for (const { claim } of mine) open.delete(claim.job.id);
        const kinds = [ends.completed, ends.completed, ends.failed, { ...ends.crashed, delayMs: 1 }, ends.released];
        const answer = await orContended(turn(node, mine.map(({ claim }) => ending(claim, pick(kinds))), 3, random() < 0.5));
        if (answer) for (const claim of answer.claims) open.set(claim.job.id, { claim, node });
        else for (const one of mine) open.set(one.claim.job.id, one);
      } else if (draw < 0.83) await store.cancel(everyone, pick(known) ?? "none");
      else if (draw < 0.91) await store.redrive(everyone, pick(known) ?? "none", { agingMs });
      else if (draw < 0.95) await store.setChatPaused(everyone, pick(chatIds), random() < 0.3);
      else {
        if (random() < 0.5) await store.leave({ nodeId: pick(["n1", "n2"]) });
        else await store.endLeases({ nodeId: pick(["n1", "n2"]) });
        await store.rescue({ nodeId: pick(["n1", "n2"]), nodeLossesMax: 100, limit: 3 });
        for (const [index, one] of stores.entries()) await one.pulse({ nodeId: `n${index + 1}`, leaseMs: 600_000, slots: 1000, draining: false });
      }
    }
    const actors = Array.from({ length: 8 }, async () => {
      for (let step = 0; step < 45; step++) await act();
    });
    const holding = (async () => {
      while (!over) {
        const chatId = pick(chatIds);
        const lock = pick([`select 1 from chat_lanes where chat_id = '${chatId}' for update`, `select 1 from build_jobs where chat_id = '${chatId}' order by place desc limit 2 for update`, "select 1 from build_nodes where id = 'n2' for update"]);
        await holder.unsafe(`begin; ${lock}; select pg_sleep(${0.005 + 0.08 * random()}); commit`).simple();
      }
    })();
    await Promise.all(actors).finally(() => (over = true));
    await holding;
    for (const chatId of chatIds) await stores[0].setChatPaused(everyone, chatId, false);
    await proven();
  });
});
