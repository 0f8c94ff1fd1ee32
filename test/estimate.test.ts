/** What an estimate must say whatever the figures are; how often it is right is measured by bench/estimates.ts. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { systemClock } from "../src/clock.js";
import { estimate } from "../src/estimate.js";
import type { Ahead, Measured } from "../src/estimate.js";
import { createReaders } from "../src/readers.js";

const calm: Measured = { mean: 100, p50: 90, p90: 200, slots: 4, running: 0, queued: 0, chats: 0 };
const first: Ahead = { inChat: 0, delayMs: 0, paused: false };

it("says that a job with a free slot and nobody before it starts at once", () => {
  expect(estimate(first, calm)).toEqual({ p50: 0, p90: 0 });
});

it("says nothing while paused, and not less than a job's own delay", () => {
  expect(estimate({ ...first, paused: true }, calm)).toBeNull();
  expect(estimate({ ...first, delayMs: 5000 }, calm)?.p50).toBe(5000);
});

it("counts those before it in its chat one after another, however many slots are free", () => {
  const found = estimate({ ...first, inChat: 10 }, { ...calm, queued: 10, chats: 1 });
  expect(found?.p50).toBeGreaterThan(900);
  expect(found?.p50).toBeLessThan(1200);
});

it("lets each other chat run one job before its turn, and not its whole backlog", () => {
  const deep = estimate(first, { ...calm, running: 4, queued: 4000, chats: 20 });
  expect(deep?.p50).toBeGreaterThan(400);
  expect(deep?.p50).toBeLessThan(800);
});

it("never says less for more before it, nor a ninetieth percentile below the median", () => {
  const figures = fc.record({
    mean: fc.integer({ min: 1, max: 10_000 }), p50: fc.integer({ min: 1, max: 10_000 }), p90: fc.integer({ min: 1, max: 20_000 }),
    slots: fc.integer({ min: 1, max: 64 }), running: fc.integer({ min: 0, max: 64 }), queued: fc.integer({ min: 0, max: 5000 }), chats: fc.integer({ min: 0, max: 500 }),
  });
  fc.assert(
    fc.property(figures, fc.integer({ min: 0, max: 200 }), (measured, inChat) => {
      const near = estimate({ ...first, inChat }, measured);
      const far = estimate({ ...first, inChat: inChat + 1 }, measured);
      expect(near?.p90).toBeGreaterThanOrEqual(near?.p50 ?? 0);
      expect(far?.p50).toBeGreaterThanOrEqual(near?.p50 ?? 0);
    }),
  );
});

it("counts of all nodes' slots only those that the cluster's cap allows", async () => {
  const waitWith = async (clusterCap: number | null) => {
    const nodes = [1, 2, 3].map((id) => ({ id: String(id), slots: 4, running: 1, draining: false, alive: true }));
    const stats = { nodes, clusterCap, averageProcessingTime: 100, processing: { p50: 100, p90: 120 }, totalQueued: 120, totalRunning: 3, activeChats: 120 };
    const readers = createReaders({ store: { stats: async () => stats } as never, clock: { ...systemClock, monotonic: () => 0 }, slots: 4 });
    await readers.stats("everyone");
    return readers.estimateAt(1, 0).estimatedWaitTime as number;
  };
  const [free, loose, tight] = [await waitWith(null), await waitWith(50), await waitWith(3)];
  expect(loose).toBe(free);
  expect(tight / free).toBeGreaterThan(3.5);
});
