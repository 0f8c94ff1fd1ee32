/** Shares between tenants: by weight, whoever waits, however the turns fall. */
import { expect } from "vitest";
import { laneKey, ofLane } from "../../../src/store/scope.js";
import type { Claim } from "../../../src/store/store.js";
import type { Exercise } from "../exercise-store.js";
import { ends } from "./lab.js";
import type { Lab, Spec } from "./lab.js";

const chatsOf = (tenant: string, count: number, extra: object = {}): Spec[] => Array.from({ length: count }, (_, index): Spec => [laneKey({ tenant }, `c${index}`), extra]);
const tenants = (claims: Claim[]): string[] => claims.map(({ job }) => ofLane(job.chatId).tenant);
const count = (claims: Claim[], tenant: string): number => tenants(claims).filter((one) => one === tenant).length;

/** So many turns of `want` lanes each, of which nothing ends. */
async function turnsOf({ take }: Lab, turns: number, want: number): Promise<Claim[]> {
  const claims: Claim[] = [];
  for (let turn = 0; turn < turns; turn++) claims.push(...(await take(100 + turn, want)));
  return claims;
}

export const shares: Exercise = (check) => {
  for (const [turns, want] of [[12, 1], [4, 3], [1, 12]] as const)
    check(`starts between tenants that wait go by their weights, ${want} in a turn`, async (lab) => {
      await lab.store.weighTenants({ acme: 3 });
      await lab.accept(0, ...chatsOf("acme", 20));
      await lab.accept(1, ...chatsOf("free", 20));
      await lab.accept(2, ...chatsOf("", 20));
      const claims = await turnsOf(lab, turns, want);
      // Tags of starts are 0, ⅓, ⅔, 1 … and 0, 1, 2 …: of equal ones the longer wait goes first.
      expect([count(claims, "acme"), count(claims, "free"), count(claims, "")]).toEqual([7, 3, 2]);
    });

  check("without weights they take turns, however many chats a tenant has and however early it came", async (lab) => {
    await lab.accept(0, ...chatsOf("first", 50));
    await lab.accept(1000, ...chatsOf("late", 5));
    expect(tenants(await turnsOf(lab, 6, 1))).toEqual(["first", "late", "first", "late", "first", "late"]);
  });

  check("a tenant whose only chat is served whenever it waits has its full share beside one with many chats", async (lab) => {
    await lab.accept(0, ...chatsOf("many", 30));
    await lab.accept(1, ...Array.from({ length: 5 }, (): Spec => [laneKey({ tenant: "one" }, "c"), {}]));
    for (let round = 0; round < 5; round++) {
      const claims = await lab.take(100 + round, 3);
      expect(tenants(claims).sort()).toEqual(["many", "many", "one"]);
      for (const claim of claims) await lab.end(100 + round, claim, ends.completed);
    }
  });

  check("a tenant that was idle has saved up nothing", async (lab) => {
    await lab.accept(0, ...chatsOf("busy", 40), ...chatsOf("idle", 1));
    await turnsOf(lab, 20, 1);
    await lab.accept(200, ...chatsOf("idle", 20, {}).slice(1));
    const claims: Claim[] = [];
    for (let turn = 0; turn < 8; turn++) claims.push(...(await lab.take(300 + turn, 1)));
    expect(Math.abs(count(claims, "busy") - count(claims, "idle"))).toBeLessThanOrEqual(1);
  });

  check("priorities count inside a tenant only", async (lab) => {
    await lab.accept(0, ...chatsOf("calm", 4));
    await lab.accept(1, ...chatsOf("eager", 4, { priority: 10 }));
    expect(tenants(await turnsOf(lab, 4, 1)).filter((tenant) => tenant === "calm")).toHaveLength(2);
  });

  check("lanes whose delay is over share like those that were ready", async (lab) => {
    await lab.accept(0, ...chatsOf("now", 10), ...chatsOf("later", 10, { delayMs: 50 }));
    const claims = await turnsOf(lab, 3, 2);
    expect([count(claims, "now"), count(claims, "later")]).toEqual([3, 3]);
  });

  check("of one tenant alone the lanes go in the order of the one line", async (lab) => {
    await lab.store.weighTenants({ acme: 3 });
    await lab.accept(0, ...chatsOf("acme", 3));
    expect((await lab.take(1, 2)).map(({ job }) => ofLane(job.chatId).chatId)).toEqual(["c0", "c1"]);
  });
};
