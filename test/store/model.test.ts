/** Random programs: the memory store keeps every promise, and the SQL stores answer each call exactly as it does. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { describePostgres } from "../support/postgres.js";
import { play, programs } from "./programs.js";
import { openMemory, openPglite, openPostgres } from "./stores.js";
import type { OpenStore } from "./stores.js";

const open: OpenStore[] = [];
afterAll(() => Promise.all(open.map((one) => one.close())));

describe("random programs on the memory store", () => {
  it("keep order, one at a time, legal transitions, one outcome an attempt, and lose nothing", async () => {
    const memory = await openMemory();
    await fc.assert(
      fc.asyncProperty(programs, async (program) => {
        expect((await play(await memory.reset(), program)).violations).toEqual([]);
      }),
      { numRuns: 500, seed: 7, endOnFailure: process.env["NO_SHRINKING"] === "1" },
    );
  });
});

const alike = (numRuns: number, seed: number, make: () => Promise<OpenStore>) => async () => {
  const memory = await openMemory();
  const other = await make();
  open.push(other);
  await fc.assert(
    fc.asyncProperty(programs, async (program) => {
      const expected = await play(await memory.reset(), program);
      const got = await play(await other.reset(), program);
      expect(got.violations).toEqual([]);
      expect(got.transcript).toEqual(expected.transcript);
    }),
    { numRuns, seed, endOnFailure: process.env["NO_SHRINKING"] === "1" },
  );
};

describe("random programs on PGlite", () => {
  it("get the memory store's answers, call by call", alike(25, 17, openPglite), 300_000);
});

describePostgres("random programs on PostgreSQL", () => {
  it("get the memory store's answers, call by call", alike(40, 27, openPostgres), 300_000);
});
