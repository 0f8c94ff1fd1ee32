/** `buildlane verify` as a person runs it: on a stopped service's folder, and on a PostgreSQL; kept, then broken on purpose. */
import { beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { openStore } from "../../src/store/open.js";
import type { Store } from "../../src/store/store.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import type { Database } from "../../src/store/sql/database.js";
import { runCommand } from "../support/command.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import { buildService } from "../support/service.js";
import { tempFolder } from "../support/temp.js";
import { ends, guardOf, limits, newJob } from "../store/programs.js";

beforeAll(buildService);

const buildlane = (args: string[], env: Record<string, string> = {}) => runCommand(args, { env });

/** Three chats of four jobs each, one of them with a priority, worked off by two nodes. */
async function work(store: Store): Promise<void> {
  const jobs = ["a", "b", "c"].flatMap((chatId) => [1, 2, 3, 4].map((n) => newJob(`${chatId}${n}`, chatId, { priority: n === 3 ? 2 : 0 })));
  await store.accept([{ jobs, idempotency: null }], limits);
  for (let round = 0; round < 12; round++) {
    const nodeId = `n${round % 2}`;
    await store.pulse({ nodeId, leaseMs: 60_000, slots: 2, draining: false });
    const { claims } = await store.turn({ nodeId, claimId: `c${round}`, endings: [], want: 2 });
    await store.turn({ nodeId, claimId: `e${round}`, want: 0, endings: claims.map((claim) => ({ ...guardOf(claim), end: round === 1 ? ends.released : ends.completed })) });
  }
}

/** An attempt that was given back is said to have completed, and the last event of a chat is gone. */
const broken = (database: Database): Promise<void> =>
  database
    .transaction((tx) =>
      tx.script("update job_events set type = 'job.completed', status = 'completed' where type = 'job.released'; delete from job_events where chat_id = 'c' and number = (select max(number) from job_events where chat_id = 'c')"),
    )
    .finally(() => database.close());

describe("buildlane verify", () => {
  it("proves a stopped service's folder, and leaves alone one that is in use", async () => {
    await using folder = await tempFolder();
    const store = await openStore({ dataDir: folder.path, nodeId: "n0", clock: systemClock });
    await work(store);
    const inUse = await buildlane(["verify", "--data-dir", folder.path]);
    expect(inUse).toMatchObject({ code: 2, out: "" });
    expect(inUse.err).toContain("is in use by another process");
    await store.close();

    const kept = await buildlane(["verify"], { BUILDLANE_DATA_DIR: folder.path });
    expect(kept).toMatchObject({ code: 0, err: "" });
    expect(kept.out).toContain("3 chats, 12 jobs");
    expect(kept.out).not.toContain("BROKEN");
  }, 60_000);

  it("says what is missing when there is nothing to read", async () => {
    await using folder = await tempFolder();
    const nothing = await buildlane(["verify", "--data-dir", folder.path]);
    expect(nothing).toMatchObject({ code: 2, out: "" });
    expect(nothing.err).toContain("There is no embedded database");
    expect((await buildlane(["verify", "--starts-max", "none"])).code).toBe(2);
  }, 60_000);
});

describePostgres("buildlane verify on PostgreSQL", () => {
  it("proves a database while nodes use it, refutes a broken one, and prints JSON", async () => {
    await using fresh = await freshDatabase();
    const env = { DATABASE_URL: fresh.url };
    const empty = await buildlane(["verify"], env);
    expect(empty).toMatchObject({ code: 2, out: "" });
    expect(empty.err).toContain("holds no Buildlane");

    const store = await openStore({ databaseUrl: fresh.url, dataDir: "", nodeId: "n0", clock: systemClock });
    await work(store);
    await store.close();
    const kept = await buildlane(["verify", "--json"], env);
    expect(kept).toMatchObject({ code: 0, err: "" });
    expect(JSON.parse(kept.out)).toMatchObject({ ok: true, chats: 3, jobs: 12, agingMs: limits.agingMs, attempts: 14, attemptsWithSlots: 14, violations: [] });

    await broken(postgresDatabase(fresh.url, { clock: systemClock }));
    const refuted = await buildlane(["verify", "--json", "--cluster-max", "1"], env);
    expect(refuted.code).toBe(1);
    const { counts } = JSON.parse(refuted.out) as { counts: Record<string, number> };
    expect(Object.keys(counts)).toEqual(expect.arrayContaining(["illegalTransition", "lost", "overBudget"]));
    const told = await buildlane(["verify", "--at-rest"], env);
    expect(told.out).toMatch(/BROKEN {2}legal transitions/);
    expect(told.out).toMatch(/lost {2}chat c, event \d+: /);
  }, 60_000);
});
