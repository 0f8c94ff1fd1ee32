/** The heartbeat alone, with a store and turns whose answers the test gives. */
import { expect, it } from "vitest";
import { createHeartbeat } from "../src/heartbeat.js";
import { createSimulatedClock } from "../src/simulated-clock.js";

it("a claim that nobody here knows is given back only when no turn on its way can still bring it", async () => {
  const clock = createSimulatedClock();
  const stranger = { chatId: "a", jobId: "j1", attempt: 1, fence: 1, claimId: "c1", cancelRequested: false };
  const answer = { held: [stranger], queuePaused: false, nextReadyInMs: null, readyLanes: 0, nextLeaseEndInMs: null, pending: 0 };
  const returned: string[] = [];
  let over = false;
  const heartbeat = createHeartbeat({
    store: { pulse: async () => answer } as never,
    turns: { latest: () => 1, isOver: () => over, giveBack: async (claim: { jobId: string }) => void returned.push(claim.jobId) } as never,
    nodeId: "n1", clock, leaseMs: 4000, slots: 1, nodeLossesMax: 5, atWork: new Map(), tell: () => {}, queuePaused: () => {}, report: () => {},
  } as never);
  await heartbeat.start();
  await clock.advance(5000);
  expect(returned).toEqual([]);
  over = true;
  await clock.advance(1000);
  expect(returned).toContain("j1");
  await heartbeat.stop();
});

it("a pause that outlasts the lease is told again when the lease is back, for the supervisor takes turns then", async () => {
  const clock = createSimulatedClock();
  const told: string[] = [];
  let away = false;
  const answer = { held: [], queuePaused: true, nextReadyInMs: null, readyLanes: 0, nextLeaseEndInMs: null, pending: 0 };
  const heartbeat = createHeartbeat({
    store: { pulse: async () => (away ? Promise.reject(new Error("away")) : answer) } as never,
    nodeId: "n1", clock, leaseMs: 4000, slots: 1, nodeLossesMax: 5, atWork: new Map(), queuePaused: () => {}, tell: ({ type }: { type: string }) => void told.push(type), report: () => {},
  } as never);
  await heartbeat.start();
  away = true;
  await clock.advance(5000);
  away = false;
  await clock.advance(1000);
  expect(told).toEqual(["queue.paused", "lease.lost", "lease.renewed", "queue.paused"]);
  await heartbeat.stop();
});

it("a drain is told to the store at once, not when the next pulse is due", async () => {
  const clock = createSimulatedClock();
  const told: [atMs: number, draining: boolean][] = [];
  const answer = { held: [], queuePaused: false, nextReadyInMs: null, readyLanes: 0, nextLeaseEndInMs: null, pending: 0 };
  const heartbeat = createHeartbeat({
    store: { pulse: async ({ draining }: { draining: boolean }) => (told.push([clock.monotonic(), draining]), answer) } as never,
    nodeId: "n1", clock, leaseMs: 4000, slots: 1, nodeLossesMax: 5, atWork: new Map(), tell: () => {}, queuePaused: () => {}, report: () => {},
  } as never);
  await heartbeat.start();
  await clock.advance(100);
  heartbeat.drain();
  await clock.advance(1);
  expect(told).toEqual([[0, false], [100, true]]);
  await heartbeat.stop();
});
