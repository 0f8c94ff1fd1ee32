/** A cancel asked of one node for a job that another one runs: from the request to the recorded end, by the database's clock. */
import { afterEach, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { createBuildQueue } from "../../src/index.js";
import { openStore } from "../../src/store/open.js";
import type { Hint, Store } from "../../src/store/store.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) await end();
});

describePostgres("a cancel of what another node runs", () => {
  it("is done within a second, and also when no word between nodes arrives", async () => {
    const database = await freshDatabase();
    ended.push(() => database.drop());
    const opened = await openStore({ databaseUrl: database.url, dataDir: "", nodeId: "holder", clock: systemClock });
    let deaf = false;
    let pulsed = () => {};
    const store = new Proxy(opened, {
      get(target, name: keyof Store) {
        if (name === "onHint") return (listener: (hint: Hint) => void) => target.onHint((hint) => !deaf && listener(hint));
        if (name !== "pulse") return target[name];
        return async (...args: Parameters<Store["pulse"]>) => {
          const answer = await target.pulse(...args);
          pulsed();
          return answer;
        };
      },
    });
    const holder = await createBuildQueue({ store, concurrency: 4, run: (_job, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true })) });
    ended.push(() => holder.stop());
    const ids: string[] = [];
    for (const chatId of ["a", "b", "c", "d"]) ids.push((await holder.enqueue({ chatId, messageId: "m", code: "1" })).id);
    for (const id of ids) while ((await holder.get(id)).status !== "running");
    // It comes when all are taken, and is asked for nothing that it runs itself.
    const asked = await createBuildQueue({ databaseUrl: database.url, run: () => "" });
    ended.push(() => asked.stop());

    /** Milliseconds from the request to the recorded end. */
    async function cancel(id: string): Promise<number> {
      expect(await asked.cancel(id)).toBe("requested");
      const done = await asked.waitFor(id);
      expect(done).toMatchObject({ status: "failed", failure: { code: "cancelled" }, attempt: 1 });
      for await (const event of asked.events({ jobId: id }, { after: 0, signal: AbortSignal.timeout(20_000) }))
        if (event !== "reset" && event.type === "job.cancelRequested") return Date.parse(done.completedAt) - Date.parse(event.at);
      throw new Error("no cancel was recorded");
    }
    for (const id of ids.slice(0, 2)) expect(await cancel(id)).toBeLessThan(1000);
    deaf = true;
    for (const id of ids.slice(2)) {
      // The worst moment: the holder has just looked.
      await new Promise<void>((resolve) => (pulsed = resolve));
      const tookMs = await cancel(id);
      expect(tookMs).toBeLessThan(1000);
      // It was the pulse that told, not a word.
      expect(tookMs).toBeGreaterThan(200);
    }
  });
});
