/** A stopped queue says so alike on every store: to whoever waits, to whoever follows, and to whoever still calls. */
import { describe, expect, it } from "vitest";
import { createBuildQueue } from "../src/index.js";
import type { BuildQueueOptions } from "../src/index.js";
import { systemClock } from "../src/clock.js";
import { openInMemory } from "../src/store/embedded.js";
import { createSqlStore } from "../src/store/sql/index.js";
import { migrate } from "../src/store/sql/migrate.js";
import { pgliteDatabase } from "../src/store/sql/pglite.js";
import { describePostgres, freshDatabase } from "./support/postgres.js";

const stopped = { name: "BuildlaneError", code: "draining", message: "This queue was stopped." };
const never = new AbortController().signal;

function promises(open: () => Promise<{ options: BuildQueueOptions; close(): Promise<unknown> }>): void {
  it("rejects who waits and ends what is followed at its stop, and refuses every call after that", async () => {
    const { options, close } = await open();
    const queue = await createBuildQueue({ ...options, drainMs: 100, run: () => "built" });
    try {
      const { id } = await queue.enqueue({ chatId: "a", messageId: "m", code: "1", delayMs: 3_600_000 });
      const waits = [queue.waitFor(id), queue.waitFor(id, { signal: never })];
      const follow = (items: AsyncIterable<unknown>) => {
        let hear = () => {};
        const heard = new Promise<void>((resolve) => (hear = resolve));
        const read = async () => {
          for await (const _ of items) hear();
        };
        return { heard, end: read() };
      };
      const follows = [queue.events({ chatId: "a" }, { after: 0, signal: never }), queue.stream({ jobId: id }, { signal: never }), queue.stream("all", { signal: never })].map(follow);
      const refused = Promise.all(waits.map((wait) => expect(wait).rejects.toMatchObject(stopped)));
      await Promise.all(follows.map(({ heard }) => heard));
      await queue.stop();
      await refused;
      await Promise.all(follows.map(({ end }) => end));
      const first = (items: AsyncIterable<unknown>) => items[Symbol.asyncIterator]().next();
      const calls: Record<string, () => Promise<unknown>> = {
        enqueue: () => queue.enqueue({ chatId: "a", messageId: "m", code: "1" }), get: () => queue.get(id), waitFor: () => queue.waitFor(id), output: () => queue.output(id), list: () => queue.list({ limit: 5, include: { code: false, result: false } }),
        chat: () => queue.chat("a"), stats: () => queue.stats(), cancel: () => queue.cancel(id), retry: () => queue.retry(id), why: () => queue.why(id), erase: () => queue.erase("a"), pause: () => queue.pause(), resume: () => queue.resume(),
        pauseChat: () => queue.pauseChat("a"), lanes: () => queue.lanes({ limit: 5 }), node: () => queue.node(), keys: () => queue.keys.list("everyone"), lift: () => queue.quarantine.lift("x"), tenant: () => queue.forTenant("acme").get(id),
        events: () => first(queue.events({ chatId: "a" }, { after: 0, signal: never })), stream: () => first(queue.stream("all", { signal: never })),
      };
      for (const [name, call] of Object.entries(calls)) await expect(call(), name).rejects.toMatchObject(stopped);
      expect(await queue.ready()).toEqual({ ready: false, draining: true, database: false });
    } finally {
      await queue.stop();
      await close();
    }
    // Where two cores are shared, opening an embedded database takes its time.
  }, 120_000);
}

describe("a stopped queue in memory", () => promises(async () => ({ options: { store: "memory" }, close: async () => {} })));
describe("a stopped queue of an embedded database", () =>
  promises(async () => {
    const embedded = await openInMemory({ clock: systemClock });
    const database = pgliteDatabase(embedded.client, { clock: systemClock, close: () => embedded.close() });
    await migrate(database);
    return { options: { store: createSqlStore(database, { nodeId: "n1", clock: systemClock }) }, close: async () => {} };
  }),
);
describePostgres("a stopped queue on PostgreSQL", () =>
  promises(async () => {
    const { url, drop } = await freshDatabase();
    return { options: { databaseUrl: url }, close: drop };
  }),
);
