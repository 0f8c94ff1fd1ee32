/** The turns alone, with a store whose answers the test gives. */
import { expect, it } from "vitest";
import type { SupervisorEvent } from "../machines/supervisor.machine.js";
import type { Clock } from "../src/clock.js";
import { createSimulatedClock } from "../src/simulated-clock.js";
import type { TurnAnswer } from "../src/store/store.js";
import { createHand } from "../src/hand.js";
import { ContendedError } from "../src/store/store.js";
import { createTurns } from "../src/turns.js";

const handOf = (clock: Clock) => createHand({ clock, handMs: 4000, max: 0, tellStarts() {}, recorded() {}, recall() {}, refused() {}, lost() {} });
const rest = { handMs: 4000, nodeId: "n1", nodeLossesMax: 5, lineFrom: () => undefined, claimed() {}, landed() {}, failed() {} };
/** What no turn of these tests says anything about. */
const unsaid = { settled: [], onRecord: [], refused: [], atMs: 0 };

it("an answer from before the loss of the lease brings no claims, though the lease was renewed meanwhile: they may be another node's by now", async () => {
  const answers: ((answer: TurnAnswer) => void)[] = [];
  const taken: Extract<SupervisorEvent, { type: "turn.taken" }>[] = [];
  let leaseLosses = 0;
  const clock = createSimulatedClock();
  const turns = createTurns({
    store: { turn: () => new Promise<TurnAnswer>((resolve) => answers.push(resolve)) } as never,
    ...rest, clock, hand: handOf(clock), free: () => (answers.length === 0 || taken.length > 0 ? 1 : 0), takesSlot: () => false,
    leaseLosses: () => leaseLosses, tell: (event) => void taken.push(event),
  });
  const claim = (id: string) => ({ job: { id, chatId: id }, fence: 1, claimId: "c" }) as never;
  const turnOf = async (index: number, id: string) => {
    turns.take();
    while (answers.length <= index) await new Promise((resolve) => setImmediate(resolve));
    return (): void => answers[index]?.({ ...unsaid, claims: [claim(id)] });
  };
  const slow = await turnOf(0, "old");
  // Lost and renewed while the answer is on its way.
  leaseLosses++;
  slow();
  while (taken.length < 1) await new Promise((resolve) => setImmediate(resolve));
  expect(taken[0]?.grants).toEqual([]);
  (await turnOf(1, "new"))();
  while (taken.length < 2) await new Promise((resolve) => setImmediate(resolve));
  expect(taken[1]?.grants.map((grant) => grant.claim.job.id)).toEqual(["new"]);
});

it("a lane that ends with one turn and is claimed by another, heard first, leaves no slot free twice (P6)", async () => {
  // The ledger as the supervisor keeps it: chat to fence.
  const held: Record<string, number> = { x: 1, y: 1 };
  const asked: { endings: number; want: number; answer(answer: object): void }[] = [];
  const clock = createSimulatedClock();
  const ask = (endings: number, want: number) => new Promise<never>((resolve) => asked.push({ endings, want, answer: resolve as never }));
  const turns = createTurns({
    store: {
      turn: ({ endings, want }: { endings: unknown[]; want: number }) => ask(endings.length, want),
      acceptAndStart: async (_groups: unknown, _limits: unknown, { want }: { want: number }) => ({ ...(await ask(0, want) as object), answers: [] }),
      accept: async () => [],
    } as never,
    ...rest, clock, hand: handOf(clock), free: () => 3 - Object.keys(held).length, takesSlot: ({ chatId, fence }) => held[chatId] === fence,
    leaseLosses: () => 0,
    tell(event) {
      if (event.type !== "turn.taken") return;
      for (const { chatId, fence } of event.ended) if (held[chatId] === fence) delete held[chatId];
      for (const { claim } of event.grants) held[claim.job.chatId] = claim.fence;
    },
  });
  const idle = () => new Promise((resolve) => setImmediate(resolve));
  const group = (chatId: string) => [{ jobs: [{ chatId }], idempotency: null }] as never;
  const claim = (chatId: string, fence: number) => ({ job: { id: chatId, chatId }, fence, claimId: "c" }) as never;

  // One slot is free: the acceptance may fill it.
  const accepted = turns.accept(group("z"), {} as never);
  // x ends: its turn may fill that slot, and no other.
  const settled = turns.settle({ jobId: "x", chatId: "x", attempt: 1, fence: 1, claimId: "c" }, { kind: "released" });
  await idle();
  expect(asked.map(({ endings, want }) => [endings, want])).toEqual([[0, 1], [1, 1]]);
  // The store took the turn first, and gave the acceptance the lane x anew; its answer is heard first.
  asked[0]?.answer({ ...unsaid, claims: [claim("x", 2)] });
  await accepted;
  // x and y run, and the turn's claim is on its way: nothing is free.
  await turns.accept(group("v"), {} as never);
  expect(asked).toHaveLength(2);
  asked[1]?.answer({ ...unsaid, claims: [claim("w", 1)] });
  await settled;
  expect(held).toEqual({ x: 2, y: 1, w: 1 });
});

/** Turns over a ledger as the supervisor keeps it, of three slots that are taken; the first `aheadTurns` of them ask for three lanes ahead. */
function ledgered(aheadTurns: number) {
  const held: Record<string, number> = { x: 1, y: 1, z: 1 };
  const asked: { verb: string; endings: number; want: number; answer(answer: object): void }[] = [];
  const ask = (verb: string, endings: number, want: number) => new Promise<never>((resolve) => asked.push({ verb, endings, want, answer: resolve as never }));
  const clock = createSimulatedClock();
  const hand = handOf(clock);
  let ahead = aheadTurns;
  const turns = createTurns({
    store: {
      turn: ({ endings, want }: { endings: unknown[]; want: number }) => ask("turn", endings.length, want),
      acceptAndStart: (_groups: unknown, _limits: unknown, { want }: { want: number }) => ask("acceptAndStart", 0, want),
      accept: async () => (asked.push({ verb: "accept", endings: 0, want: 0, answer: () => {} }), []),
    } as never,
    ...rest, clock,
    hand: { ...hand, depart: (endings, mayTake) => ({ ...hand.depart(endings, mayTake), ahead: ahead-- > 0 ? 3 : 0 }) },
    free: () => 3 - Object.keys(held).length, takesSlot: ({ chatId, fence }) => held[chatId] === fence, leaseLosses: () => 0,
    tell(event) {
      for (const { chatId, fence } of event.ended) if (held[chatId] === fence) delete held[chatId];
      for (const { claim } of event.grants) held[claim.job.chatId] = claim.fence;
    },
  });
  return {
    turns, held, asked,
    told: () => asked.map(({ verb, endings, want }) => [verb, endings, want]),
    idle: () => new Promise((resolve) => setImmediate(resolve)),
    end: (chatId: string) => void turns.settle({ jobId: chatId, chatId, attempt: 1, fence: 1, claimId: "c" }, { kind: "released" }),
    claims: (...chats: string[]) => ({ ...unsaid, claims: chats.map((chatId) => ({ job: { id: chatId, chatId }, fence: 1, claimId: "c", startedAt: null })) }),
  };
}

it("an end that waits alone for a lane that is stuck tells when its run was over: others begin ahead in its slot meanwhile (P6)", async () => {
  const clock = createSimulatedClock();
  const told: { patient: boolean; endedMs: number | undefined }[] = [];
  const turns = createTurns({
    store: {
      async turn({ endings, patient }: { endings: { endedMs?: number }[]; patient: boolean }) {
        for (const { endedMs } of endings) told.push({ patient, endedMs });
        if (!patient) throw new ContendedError("turn");
        return { ...unsaid, settled: [{ kind: "notMine", jobId: "x" }], claims: [] };
      },
    } as never,
    ...rest, clock, hand: handOf(clock), free: () => 0, takesSlot: () => true, leaseLosses: () => 0, tell() {},
  });
  await turns.settle({ jobId: "x", chatId: "x", attempt: 1, fence: 1, claimId: "c" }, { kind: "released" }, { runMs: 1, endedMs: 1234 });
  expect(told).toEqual([{ patient: false, endedMs: undefined }, { patient: false, endedMs: 1234 }, { patient: true, endedMs: 1234 }]);
});

it("a turn that ends more than it may claim frees nothing before it is answered (P6)", async () => {
  const { turns, held, asked, told, idle, end, claims } = ledgered(1);
  end("x");
  await idle();
  end("y");
  // One is claimed for x's slot, and nothing was there to take ahead; y's turn goes out before the supervisor has heard of it.
  asked[0]?.answer(claims("w"));
  await idle();
  expect(told()).toEqual([["turn", 1, 1], ["turn", 1, 1]]);
  expect(held).toEqual({ y: 1, z: 1, w: 1 });
  // y runs until its turn is done.
  await turns.accept([{ jobs: [{ chatId: "v" }], idempotency: null }] as never, {} as never);
  expect(asked[2]?.verb).toBe("accept");
});

it("what ended with a turn and was not claimed anew is asked for by the next, though that goes out before it is heard", async () => {
  const { held, asked, told, idle, end, claims } = ledgered(1);
  end("x");
  end("y");
  await idle();
  end("z");
  asked[0]?.answer(claims());
  await idle();
  expect(told()).toEqual([["turn", 2, 2], ["turn", 1, 3]]);
  asked[1]?.answer(claims());
  await idle();
  expect(held).toEqual({});
  expect(asked).toHaveLength(2);
});

it("a turn that finds nothing is not followed by another, though nobody has heard of it when that is sent", async () => {
  const { turns, held, asked, idle, claims } = ledgered(0);
  delete held["x"];
  delete held["y"];
  turns.take();
  await idle();
  turns.take();
  for (let answered = 0; answered < asked.length && answered < 10; answered++) {
    asked[answered]?.answer(claims());
    await idle();
  }
  expect(asked).toHaveLength(2);
});

it("a turn that finds nothing is the last while something else is on its way, however much was left to that", async () => {
  const { turns, held, asked, told, idle, end, claims } = ledgered(0);
  delete held["x"];
  delete held["y"];
  const accepted = turns.accept([{ jobs: [{ chatId: "v" }], idempotency: null }] as never, {} as never);
  end("z");
  await idle();
  asked[1]?.answer(claims());
  await idle();
  expect(told()).toEqual([["acceptAndStart", 0, 1], ["turn", 1, 2]]);
  // The acceptance starts nothing: one turn more looks for what might have been claimed in its stead.
  asked[0]?.answer({ ...claims(), answers: [] });
  await accepted;
  await idle();
  expect(told().slice(2)).toEqual([["turn", 0, 3]]);
  asked[2]?.answer(claims());
  await idle();
  expect(asked).toHaveLength(3);
});
