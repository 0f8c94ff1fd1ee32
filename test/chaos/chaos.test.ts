import { beforeAll, expect, it } from "vitest";
import { describePostgres } from "../support/postgres.js";
import { buildService } from "../support/service.js";
import { chaos } from "./chaos.js";
import { shortChaos } from "./short.js";

beforeAll(buildService, 120_000);

const seedOf = (what: string): number => {
  const seed = Number(process.env["CHAOS_SEED"] ?? Math.floor(performance.timeOrigin % 1e9));
  console.log(`${what}: seed ${seed} (CHAOS_SEED=${seed} finds the same faults again)`);
  return seed;
};

describePostgres("three nodes on one PostgreSQL, under faults", () => {
  it("lose nothing, overlap nothing, overtake nothing and stay within the cluster's cap", { timeout: 180_000 }, async () => {
    const result = await chaos({ seed: seedOf("chaos"), nodes: 3, clients: 3, chats: 8, cap: 6, kills: 1, pauses: 0, stops: 1, crashes: 1, restarts: 0, cuts: 2 });
    expect(result.verdict).not.toMatch(/BROKEN/);
    expect(result.verified).toBe(true);
    expect(result.faults).toEqual({ kill: 1, stop: 1, crash: 1, cut: 2 });
    expect(result.accepted).toBeGreaterThan(50);
    // 5 s are promised; a machine that is busy with other tests may add to them.
    expect(Math.max(0, ...result.rescueMs)).toBeLessThan(8000);
    expect(result.restMs).toBeLessThan(30_000);
  });

  it("with runs that take no time lose nothing, and the runs themselves see no overlap, no overtaking and none again", { timeout: 120_000 }, async () => {
    const { verdict, verified, testimony, ...result } = await shortChaos({ seed: seedOf("chaos of short runs"), nodes: 3, chats: 250, backlog: 400, kills: 1, stops: 1, freezes: 0, crashes: 1, outages: 0, cuts: 1, pauses: 1 });
    expect(verdict).not.toMatch(/BROKEN/);
    expect(verified).toBe(true);
    expect(testimony.broken).toEqual([]);
    expect(result.faults).toEqual({ kill: 1, stop: 1, crash: 1, cut: 1, pause: 1 });
    expect(result.accepted).toBeGreaterThan(300);
    // Lanes were taken ahead of free slots: many, and some at the moment of a fault.
    expect(result.ranThrough).toBeGreaterThan(result.jobs / 20);
    expect(result.takenAt + result.inHandUntil).toBeGreaterThan(0);
    expect(result.restMs).toBeLessThan(30_000);
  });
});
