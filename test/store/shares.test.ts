/** For random tenants, weights and turns: no tenant that waits sees more of another's starts than the weights allow. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { laneKey, ofLane } from "../../src/store/scope.js";
import type { Claim, Store } from "../../src/store/store.js";
import { ends, guardOf, newJob, T0 } from "./programs.js";
import { openMemory } from "./stores.js";

const names = ["", "a", "b", "c"];
const tenant = fc.constantFrom(...names);
type Step = { accept: { tenant: string; chats: number; jobs: number } } | { turn: { node: string; want: number; ends: number } };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 1, arbitrary: fc.record({ accept: fc.record({ tenant, chats: fc.integer({ min: 1, max: 8 }), jobs: fc.integer({ min: 1, max: 4 }) }) }) },
    { weight: 3, arbitrary: fc.record({ turn: fc.record({ node: fc.constantFrom("n1", "n2"), want: fc.integer({ min: 1, max: 5 }), ends: fc.nat(5) }) }) },
  ),
  { minLength: 10, maxLength: 120 },
);
const weights = fc.record({ a: fc.integer({ min: 1, max: 7 }), b: fc.integer({ min: 1, max: 3 }) });

/** The most of another tenant's starts that each saw between two of its own while it waited, beyond what is allowed. */
async function excess(store: Store, byTenant: Record<string, number>, program: Step[]): Promise<string[]> {
  await store.weighTenants(byTenant);
  const weightOf = (name: string): number => byTenant[name] ?? 1;
  const pending = new Map<string, number>();
  const running: { claim: Claim; node: string }[] = [];
  /** Starts of others since the tenant has been waiting, or since its own latest. */
  const seen = new Map(names.map((name) => [name, new Map<string, number>()]));
  const waits = (name: string) => [...pending].some(([lane, left]) => left > 0 && ofLane(lane).tenant === name && !running.some(({ claim }) => claim.job.chatId === lane));
  const broken: string[] = [];
  let made = 0;
  for (const [at, step] of program.entries()) {
    const now = T0 + at;
    if ("accept" in step) {
      const jobs = Array.from({ length: step.accept.chats * step.accept.jobs }, (_, index) => newJob(`j${made++}`, laneKey({ tenant: step.accept.tenant }, `c${index % step.accept.chats}`)));
      await store.accept([{ jobs, idempotency: null }], { agingMs: 0, pendingPerChatMax: 1e6, pendingMax: 1e6, rate: null }, now);
      for (const { chatId } of jobs) pending.set(chatId, (pending.get(chatId) ?? 0) + 1);
    } else {
      const { node, want } = step.turn;
      await store.pulse({ nodeId: node, leaseMs: 1e6, slots: 100, draining: false }, now);
      const ended = running.filter((one) => one.node === node).slice(0, step.turn.ends);
      for (const one of ended) running.splice(running.indexOf(one), 1);
      const waiting = names.filter(waits);
      const { claims } = await store.turn({ nodeId: node, claimId: `claim${at}`, endings: ended.map(({ claim }) => ({ ...guardOf(claim), end: ends.completed })), want }, now);
      for (const claim of claims) {
        running.push({ claim, node });
        pending.set(claim.job.chatId, (pending.get(claim.job.chatId) ?? 0) - 1);
      }
      const started = claims.map(({ job }) => ofLane(job.chatId).tenant);
      for (const name of names) {
        const others = seen.get(name) as Map<string, number>;
        if (!waiting.includes(name) || started.includes(name)) others.clear();
        else for (const other of started) others.set(other, (others.get(other) ?? 0) + 1);
        for (const [other, starts] of others)
          if (starts > 1 + weightOf(other) / weightOf(name)) broken.push(`"${name}" (weight ${weightOf(name)}) waited while "${other}" (weight ${weightOf(other)}) started ${starts}`);
      }
    }
  }
  return broken;
}

it("a tenant that waits sees at most 1 + the weights' ratio of another's starts before its own next one", async () => {
  const memory = await openMemory();
  await fc.assert(
    fc.asyncProperty(weights, steps, async (byTenant, program) => {
      expect(await excess(await memory.reset(), byTenant, program)).toEqual([]);
    }),
    { numRuns: 400, seed: 11 },
  );
});
