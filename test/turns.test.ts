/** The turns alone, with a store whose answers the test gives. */
import { expect, it } from "vitest";
import type { SupervisorEvent } from "../machines/supervisor.machine.js";
import { createSimulatedClock } from "../src/simulated-clock.js";
import type { TurnAnswer } from "../src/store/store.js";
import { createTurns } from "../src/turns.js";

it("an answer from before the loss of the lease brings no claims, though the lease was renewed meanwhile: they may be another node's by now", async () => {
  const answers: ((answer: TurnAnswer) => void)[] = [];
  const taken: Extract<SupervisorEvent, { type: "turn.taken" }>[] = [];
  let leaseLosses = 0;
  const turns = createTurns({
    store: { turn: () => new Promise<TurnAnswer>((resolve) => answers.push(resolve)) } as never,
    nodeId: "n1", clock: createSimulatedClock(), nodeLossesMax: 5, slots: 1, free: () => (answers.length === 0 || taken.length > 0 ? 1 : 0), takesSlot: () => false,
    leaseLosses: () => leaseLosses, tell: (event) => void taken.push(event), failed: () => {},
  });
  const claim = (id: string) => ({ job: { id, chatId: id }, fence: 1, claimId: "c" }) as never;
  const turnOf = async (index: number, id: string) => {
    turns.take();
    while (answers.length <= index) await new Promise((resolve) => setImmediate(resolve));
    return (): void => answers[index]?.({ settled: [], claims: [claim(id)] });
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
