/** What a connection that was cut in the middle of a result leaves in the next one. */
import { expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { withoutHoles } from "../../src/store/sql/dense.js";
import { postgresDatabase } from "../../src/store/sql/postgres.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

it("closes the holes in front of a result's own rows, and leaves whole results as they are", () => {
  const resolved: unknown[] = [];
  const query = () => withoutHoles({ resolve: (result: unknown) => void resolved.push(result) });
  const holed: unknown[] = [];
  holed[2] = "a";
  holed[3] = "b";
  query().resolve(holed);
  query().resolve(["c"]);
  query().resolve([]);
  expect(resolved).toEqual([["a", "b"], ["c"], []]);
});

describePostgres("a database whose client closes holes", () => {
  it("answers calls and reads as ever", async () => {
    await using fresh = await freshDatabase();
    const database = postgresDatabase(fresh.url, { clock: systemClock });
    try {
      expect(await database.call("select $1::int as answer", [7], "apart")).toBe(7);
      expect([...(await database.reading(() => database.orm.execute("select generate_series(1, 3) as n"))) as unknown as { n: number }[]]).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    } finally {
      await database.close();
    }
  });
});
