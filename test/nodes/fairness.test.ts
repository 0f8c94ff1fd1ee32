import { afterEach, expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import type { BuildQueue } from "../../src/index.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

const open: BuildQueue[] = [];
const slots = 2;
const agingMs = 1000;
afterEach(async () => {
  await Promise.all(open.splice(0).map((queue) => queue.stop()));
});

/** Two nodes on one database, where all was accepted before the first start; the jobs in the order of their starts. */
async function startsOf(databaseUrl: string, requests: { chatId: string; priority?: number; tenant?: string }[], tenantWeights?: string) {
  const run = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return "built";
  };
  const nodes = await Promise.all([1, 2].map(() => createBuildQueue({ databaseUrl, run, concurrency: slots, agingMs, maxPendingPerChat: 1000, tenantWeights })));
  open.push(...nodes);
  const [first, second] = nodes as [BuildQueue, BuildQueue];
  await first.pause();
  const ids: string[] = [];
  for (const tenant of new Set(requests.map((request) => request.tenant ?? ""))) {
    const own = requests.filter((request) => (request.tenant ?? "") === tenant).map(({ tenant: _tenant, ...request }) => ({ messageId: "m", code: "1", ...request }));
    ids.push(...(await (tenant === "" ? first : first.forTenant(tenant)).enqueueMany(own)).jobs.map((job) => job.id));
  }
  await second.resume();
  const done = await Promise.all(ids.map((id) => second.waitFor(id)));
  return [...done].sort((a, b) => ((a.startedAt ?? "") < (b.startedAt ?? "") ? -1 : 1));
}

describePostgres("two nodes with many chats waiting", () => {
  it("go round: no chat has a second turn while another waits for its first", async () => {
    await using database = await freshDatabase();
    const chats = Array.from({ length: 12 }, (_, index) => `chat${index}`);
    // One chat's jobs all come before the next chat's first.
    const starts = await startsOf(database.url, chats.flatMap((chatId) => [1, 2, 3, 4].map(() => ({ chatId }))));
    const turns = new Map<string, number>(chats.map((chatId) => [chatId, 0]));
    for (const { chatId } of starts) {
      const turn = (turns.get(chatId) ?? 0) + 1;
      turns.set(chatId, turn);
      // Those that are at work have their turn now, and are not waiting; a claim may pass over one that is being written.
      const behind = chats.filter((other) => (turns.get(other) ?? 0) < turn - 1).length;
      expect(behind).toBeLessThanOrEqual(2 * slots);
    }
    await Promise.all(open.splice(0).map((queue) => queue.stop()));
  });

  it("share starts between tenants by weight, however many chats each has", async () => {
    await using database = await freshDatabase();
    const chatsOf = (tenant: string, count: number) => Array.from({ length: count }, (_, index) => ({ tenant, chatId: `chat${index}` }));
    const starts = await startsOf(database.url, [...chatsOf("many", 90), ...chatsOf("acme", 45), ...chatsOf("", 15)], "acme=3");
    // For as long as all three wait, of five starts three are acme's.
    const contested = starts.slice(0, 60).map(({ tenant = "" }) => tenant);
    const count = (tenant: string) => contested.filter((one) => one === tenant).length;
    for (const [tenant, share] of [["acme", 36], ["many", 12], ["", 12]] as const) expect([tenant, Math.abs(count(tenant) - share) <= 2 * slots]).toEqual([tenant, true]);
    await Promise.all(open.splice(0).map((queue) => queue.stop()));
  });

  it("let a priority overtake by its bounded head start only: starts follow the ranks", async () => {
    await using database = await freshDatabase();
    const starts = await startsOf(database.url, Array.from({ length: 60 }, (_, index) => ({ chatId: `chat${index}`, priority: ((index * 7) % 21) - 10 })));
    const ranks = starts.map((job) => Date.parse(job.createdAt) - job.priority * agingMs);
    ranks.forEach((rank, index) => {
      const overtook = ranks.slice(0, index).filter((other) => other > rank).length;
      expect(overtook).toBeLessThanOrEqual(2 * slots);
    });
    await Promise.all(open.splice(0).map((queue) => queue.stop()));
  });
});
