/** What a node has in hand ahead of free slots, and the slots' door, each alone. */
import { expect, it } from "vitest";
import { createHand } from "../src/hand.js";
import type { Outcome } from "../src/job.js";
import { createSimulatedClock } from "../src/simulated-clock.js";
import { withinSlots } from "../src/slots.js";
import { StopSignal } from "../src/stop-signal.js";
import type { Claim, Ending, TurnAnswer } from "../src/store/store.js";

const handMs = 1000;
const max = 20;
const unsaid: TurnAnswer = { settled: [], claims: [], onRecord: [], refused: [], atMs: 0 };
const claimOf = (id: string, startedAt: string | null = null): Claim =>
  ({ job: { id, chatId: id, attempt: 1 }, fence: 1, claimId: `claim of ${id}`, startedAt }) as Claim;
const ended = (count: number, runMs: number): Ending[] => Array.from({ length: count }, (_, index) => ({ jobId: `e${index}`, chatId: "c", attempt: 1, fence: 1, claimId: "c", runMs, end: { kind: "released" } }));

function handWith() {
  const clock = createSimulatedClock();
  const told: string[] = [];
  const hand = createHand({
    clock, handMs, max,
    tellStarts: () => told.push("tell"),
    recorded: ({ job }) => told.push(`recorded ${job.id}`),
    recall: ({ job }) => told.push(`recall ${job.id}`),
    refused: ({ job }) => told.push(`refused ${job.id}`),
    lost: ({ job }) => told.push(`lost ${job.id}`),
  });
  /** A turn that takes `ms` there and back and tells of `endings`; what it asked for. */
  async function turn(ms: number, endings: Ending[], answer: Partial<TurnAnswer> = {}) {
    const departure = hand.depart(endings, true);
    await clock.advance(ms);
    departure.land({ ...unsaid, atMs: clock.now(), ...answer });
    return departure;
  }
  return { clock, told, hand, turn };
}

it("takes nothing while runs are long, and as much as slots get through while they are shorter than turns", async () => {
  const { turn } = handWith();
  for (let count = 0; count < 10; count++) expect((await turn(4, ended(3, 50))).ahead).toBe(0);
  const asked: number[] = [];
  for (let count = 0; count < 10; count++) asked.push((await turn(4, ended(3, 0.1))).ahead);
  // Thrice as many as are over with a turn, and one turn's worth of them in hand.
  expect([asked[0], asked.at(-1)]).toEqual([5, 9]);
  for (let count = 0; count < 10; count++) await turn(4, ended(30, 0.1));
  expect((await turn(4, ended(30, 0.1))).ahead).toBe(15);
  // Long runs again, and the hand is empty after a few turns.
  for (let count = 0; count < 12; count++) await turn(4, ended(3, 50));
  expect((await turn(4, ended(3, 50))).ahead).toBe(0);
});

it("takes what slots come free for while a turn is under way where runs last longer than one, and no more than begins soon", async () => {
  const asked = async (ms: number, ends: Ending[], apartMs = 0) => {
    const { clock, turn } = handWith();
    let ahead = 0;
    for (let count = 0; count < 30; count++) {
      ({ ahead } = await turn(ms, ends));
      await clock.advance(apartMs);
    }
    return ahead;
  };
  // Three come free in each turn of 4 ms, and seven in the time that a lane may well wait for one.
  expect(await asked(4, ended(3, 16))).toBe(5);
  // A turn has one end at least, be it the only one for a while; be the other slots at something long.
  expect(await asked(2, ended(1, 16), 6)).toBe(1);
  expect(await asked(2, ended(1, 16), 14)).toBe(0);
  // A slow database: no more than may begin before they are recalled, however many would be over with a turn.
  expect(await asked(15, ended(9, 16))).toBe(4);
  expect(await asked(40, ended(10, 45))).toBe(2);
});

it("finds its pace again after a while without work", async () => {
  const { clock, turn } = handWith();
  const ends = ended(3, 16);
  for (let count = 0; count < 30; count++) await turn(4, ends);
  await clock.advance(600_000);
  const asked: number[] = [];
  for (let count = 0; count < 8; count++) asked.push((await turn(4, ends)).ahead);
  expect([asked[0], asked.at(-1)]).toEqual([0, 5]);
});

it("takes nothing where turns are answered at once, or lanes may not be claimed", async () => {
  const { hand, turn } = handWith();
  for (let count = 0; count < 10; count++) expect((await turn(0, ended(3, 0))).ahead).toBe(0);
  for (let count = 0; count < 10; count++) await turn(4, ended(3, 0));
  const departure = hand.depart(ended(3, 0), false);
  expect(departure.ahead).toBe(0);
});

it("tells the start of a run once it has lasted longer than a turn, until it is on record", async () => {
  const { clock, told, hand, turn } = handWith();
  for (let count = 0; count < 30; count++) await turn(4, ended(1, 0));
  await turn(4, [], { claims: [claimOf("a"), claimOf("b", "on record")] });
  expect(hand.begin(claimOf("a"))).toBe(true);
  expect(hand.begin(claimOf("b", "on record"))).toBe(false);
  const startedMs = hand.now();
  expect((await turn(1, [])).begun).toEqual([]);
  await clock.advance(20);
  expect(told).toContain("tell");
  expect((await turn(4, [])).begun).toEqual([{ jobId: "a", chatId: "a", attempt: 1, fence: 1, claimId: "claim of a", startedMs }]);
  // Neither on record nor refused: somebody held its lane.
  expect((await turn(4, [], { onRecord: ["a"] })).begun).toHaveLength(1);
  expect(told.at(-1)).toBe("recorded a");
  expect((await turn(4, [])).begun).toEqual([]);
  expect((await turn(4, ended(1, 0))).startedMs("a")).toBeUndefined();
});

it("tells no start of what is over: its end says when it began", async () => {
  const { clock, hand, turn } = handWith();
  await turn(4, [], { claims: [claimOf("a")] });
  hand.begin(claimOf("a"));
  const startedMs = hand.now();
  await clock.advance(60);
  hand.end(claimOf("a"));
  const departure = await turn(4, ended(1, 60));
  expect([departure.begun, departure.startedMs("a"), departure.tellsTimes]).toEqual([[], startedMs, true]);
  hand.drop(claimOf("a"));
  const after = hand.depart([], true);
  expect([after.startedMs("a"), after.tellsTimes]).toEqual([undefined, false]);
});

it("tells a start with no turn that may wait for a lane: the next one tells it", async () => {
  const { clock, hand, turn } = handWith();
  await turn(4, [], { claims: [claimOf("a")] });
  hand.begin(claimOf("a"));
  await clock.advance(25);
  const waiting = hand.depart(ended(1, 0), false, true);
  expect(waiting.begun).toEqual([]);
  expect(hand.depart([], false).begun.map(({ jobId }) => jobId)).toEqual(["a"]);
});

it("gives back what no slot comes free for, and begins nothing that waited while the process stood still", async () => {
  const { clock, told, hand, turn } = handWith();
  await turn(4, [], { claims: [claimOf("a")] });
  await clock.advance(15);
  expect(told).toEqual([]);
  await clock.advance(10);
  expect(told).toContain("recall a");
  await clock.advance(100);
  expect(hand.begin(claimOf("a"))).toBe(false);
});

it("loses what does not come on record while it is surely this node's, but not the outcome of what is over", async () => {
  const { clock, told, hand, turn } = handWith();
  await turn(100, [], { claims: [claimOf("a"), claimOf("b")] });
  expect([hand.begin(claimOf("a")), hand.begin(claimOf("b"))]).toEqual([true, true]);
  hand.end(claimOf("b"));
  // Counted from when its turn was sent, and a little before the store gives it to others.
  await clock.advance(840);
  expect(told).not.toContain("lost a");
  await clock.advance(20);
  expect(told.filter((one) => one !== "tell")).toEqual(["lost a"]);
  hand.drop(claimOf("b"));
  await clock.advance(20);
  expect(clock.pendingTimers).toBe(0);
});

it("begins nothing that others may take by the time its answer is here, however fresh that is (P2)", async () => {
  const { clock, told, hand, turn } = handWith();
  await turn(handMs, [], { claims: [claimOf("a"), claimOf("b")] });
  expect(hand.begin(claimOf("a"))).toBe(false);
  await clock.advance(10);
  expect(told.filter((one) => one !== "tell")).toEqual(["lost a", "lost b"]);
});

it("leaves what was refused in hand until its run is over", async () => {
  const { clock, told, hand, turn } = handWith();
  await turn(4, [], { claims: [claimOf("a")] });
  hand.begin(claimOf("a"));
  await clock.advance(20);
  await turn(4, [], { refused: ["a"] });
  expect(told.at(-1)).toBe("refused a");
  const departure = await turn(4, []);
  expect([departure.begun, departure.startedMs("a")]).toEqual([[], expect.any(Number)]);
});

it("reckons the store's time from its answers, never ahead of it and never back", async () => {
  const { clock, hand, turn } = handWith();
  const storeMs = 5_000_000;
  await turn(10, [], { atMs: storeMs });
  const first = hand.now();
  expect(first).toBe(storeMs);
  // The store's clock is set back; what was said stays true.
  await turn(10, [], { atMs: storeMs - 1000 });
  expect(hand.now()).toBe(first + 10);
  await turn(10, [], { atMs: storeMs + 500 });
  expect(hand.now()).toBe(storeMs + 500);
  await clock.advance(7);
  expect(hand.now()).toBe(storeMs + 507);
});

it("lets nobody ahead of its record into a slot that a claim on record has, comes for, or may come for (P6)", async () => {
  const clock = createSimulatedClock();
  const finish = new Map<string, () => void>();
  let promised = 0;
  const slots = withinSlots(
    { start: async () => undefined, stop: async () => undefined, run: ({ chatId }) => new Promise<Outcome>((resolve) => finish.set(chatId, () => resolve({ kind: "built", result: "", sourceMap: null, warnings: [], externals: [] }))) },
    { slots: 2, graceMs: 100, promised: () => promised, clock },
  );
  const began: string[] = [];
  const run = (chatId: string, isOnRecord: boolean) => slots.run({ chatId } as never, { stop: new StopSignal(), attempt: 1, isOnRecord, began: () => began.push(chatId), left: () => began.push(`${chatId} left`), restartLimit: () => {} });
  const rest = () => new Promise((resolve) => setImmediate(resolve));
  promised = 1;
  const runs = [run("ahead1", false), run("ahead2", false), run("ahead3", false)];
  await rest();
  expect(began).toEqual(["ahead1"]);
  // The claim is answered: its run comes when its lane's actor is ready.
  promised = 0;
  slots.expect("own");
  slots.admit();
  await rest();
  expect(began).toEqual(["ahead1"]);
  runs.push(run("own", true));
  await rest();
  expect(began).toEqual(["ahead1", "own"]);
  finish.get("ahead1")?.();
  await rest();
  expect(began).toEqual(["ahead1", "own", "ahead1 left", "ahead2"]);
  // One that never comes leaves its slot.
  slots.expect("gone");
  finish.get("own")?.();
  await rest();
  expect(began).toEqual(["ahead1", "own", "ahead1 left", "ahead2", "own left"]);
  slots.expectNoMore("gone");
  await rest();
  expect(began).toEqual(["ahead1", "own", "ahead1 left", "ahead2", "own left", "ahead3"]);
  for (const end of finish.values()) end();
  await Promise.all(runs);
});
