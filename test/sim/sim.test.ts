/** The short form of the simulation; `npm run sim` plays many more seeds. */
import { expect, it } from "vitest";
import { simulate } from "./simulate.js";

const options = { nodes: 3, chats: 40, jobs: 600, clients: 6, faultEveryMs: 400 };

it("keeps every promise on three nodes through crashes, freezes, cuts and outages", async () => {
  for (let seed = 1; seed <= 6; seed++) expect({ seed, violations: (await simulate({ ...options, seed })).violations }).toEqual({ seed, violations: [] });
}, 240_000);

it.each([
  [1, "a lane that took no slot frees none when it ends"],
  [12, "a lost lease stops the builds before another node may have their lanes"],
])("seed %i: %s", async (seed) => {
  expect((await simulate({ ...options, seed })).violations).toEqual([]);
}, 60_000);

it("keeps the cluster's cap on top of all that", async () => {
  for (let seed = 21; seed <= 22; seed++) expect({ seed, violations: (await simulate({ ...options, clusterMax: 4, seed })).violations }).toEqual({ seed, violations: [] });
}, 240_000);

it("gives the same trace for the same seed, and another for another", async () => {
  const [first, again, other] = [await simulate({ ...options, jobs: 150, seed: 77 }), await simulate({ ...options, jobs: 150, seed: 77 }), await simulate({ ...options, jobs: 150, seed: 78 })];
  expect(again.trace).toBe(first.trace);
  expect(other.trace).not.toBe(first.trace);
}, 240_000);
