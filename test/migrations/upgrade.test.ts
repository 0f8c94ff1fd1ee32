/** The short form of `npm run migration-check`, which takes 100,000 jobs. */
import { expect, test } from "vitest";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import { upgrade } from "./upgrade.js";

describePostgres("a database of the version before", () => {
  test("is brought up to date by two nodes that start at once, while a third works: each migration once, nothing lost", async () => {
    await using database = await freshDatabase();
    const { applied, latest, verdict, ended, totalQueued, totalCompleted } = await upgrade({ url: database.url, jobs: 2000 });
    expect(applied.flat()).toEqual([latest]);
    expect(verdict.violations).toEqual([]);
    expect(verdict).toMatchObject({ ok: true, jobs: 2000 });
    expect({ totalCompleted, totalQueued }).toEqual({ totalCompleted: ended, totalQueued: 2000 - ended });
    expect(ended).toBeGreaterThanOrEqual(1000);
  }, 120_000);
});
