import { afterEach, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { openStore } from "../../src/store/open.js";
import { limits, newJob } from "../store/programs.js";
import { startNodeProcess } from "../support/node-process.js";
import type { NodeProcess } from "../support/node-process.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";
import { buildService } from "../support/service.js";

beforeAll(() => buildService(), 120_000);

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) await end();
});

/** A database, a way to submit to it, and nodes in processes of their own. */
async function cluster(options: Record<string, unknown> = {}) {
  const database = await freshDatabase();
  ended.push(() => database.drop());
  const store = await openStore({ databaseUrl: database.url, dataDir: "", nodeId: "test", clock: systemClock });
  ended.push(() => store.close());
  let count = 0;
  return {
    store,
    async submit(chatId: string, code: string, codeHash?: string): Promise<string> {
      const id = `job${count++}`;
      await store.accept([{ jobs: [newJob(id, chatId, { code, timeoutMs: 60_000, ...(codeHash ? { codeHash } : {}) })], idempotency: null }], limits);
      store.hint({ kind: "ready" });
      return id;
    },
    async start(extra: Record<string, unknown> = {}): Promise<NodeProcess> {
      const node = await startNodeProcess({ databaseUrl: database.url, drainMs: 0, ...options, ...extra });
      ended.push(() => (node.child.kill("SIGKILL"), node.exited));
      return node;
    },
  };
}
const began = (node: NodeProcess, jobId: string, attempt?: number) => node.saw("attempt.started", (report) => report.jobId === jobId && report.attempt === (attempt ?? report.attempt));
const endedAs = (node: NodeProcess, jobId: string, outcome: string) => node.saw("attempt.ended", (report) => report.jobId === jobId && report.outcome === outcome);

describePostgres("nodes in processes of their own", () => {
  it("take over what three killed ones had in hand within 5 s, at default settings", async () => {
    const { start, submit, store } = await cluster({ concurrency: 1 });
    const victims = await Promise.all([start(), start(), start()]);
    const held = await Promise.all(["a", "b", "c"].map((chatId) => submit(chatId, "hold")));
    await Promise.all(held.map((id) => Promise.race(victims.map((victim) => began(victim, id)))));
    const survivor = await start({ concurrency: 3 });
    victims.forEach((victim) => victim.child.kill("SIGKILL"));
    const killedAt = performance.now();
    for (const id of held) {
      const { at } = await began(survivor, id);
      // The lease is 4 s; the rest is what noticing it takes. A busy machine gets another second.
      expect(at - killedAt).toBeLessThan(6000);
      expect(await store.get("everyone", id)).toMatchObject({ status: "running", attempt: 2, attempts: [{ outcome: "rescued" }, {}] });
    }
  });

  it("that were frozen for longer than their lease do no harm when they wake: they write nothing, say so, and go on", async () => {
    const { start, submit, store } = await cluster({ leaseMs: 1000 });
    const frozen = await start();
    const id = await submit("chat", "hold");
    await began(frozen, id);
    frozen.child.kill("SIGSTOP");
    const other = await start();
    await began(other, id);
    frozen.child.kill("SIGCONT");
    await Promise.race([frozen.saw("lease.lost"), frozen.saw("lane.lost")]);
    expect(await store.get("everyone", id)).toMatchObject({ status: "running", attempt: 2, attempts: [{ outcome: "rescued" }, {}] });
    // The only one left, it takes what the other gives back at its clean stop, at once and at no cost.
    other.child.kill("SIGTERM");
    const [, { at: givenBackAt }] = [await other.exited, await endedAs(other, id, "released")];
    const { at } = await began(frozen, id, 3);
    expect(at - givenBackAt).toBeLessThan(1000);
    expect(await store.get("everyone", id)).toMatchObject({ attempt: 3, attempts: [{ outcome: "rescued" }, { outcome: "released" }, {}] });
  });

  it("that some code kills, again and again, are lost to it only so many times; then it is quarantined and its chat goes on", async () => {
    const { start, submit, store } = await cluster({ leaseMs: 1000, maxNodeLosses: 2, concurrency: 1 });
    const poison = await submit("chat", "die", "poison");
    const next = await submit("chat", "1");
    for (let loss = 0; loss < 2; loss++) {
      // A new one each time, as a supervisor of processes would start.
      const node = await start();
      expect(await node.exited).toBe("SIGKILL");
    }
    const last = await start();
    await endedAs(last, next, "completed");
    const again = await submit("other", "die", "poison");
    await endedAs(last, await submit("other", "1"), "completed");
    expect(await store.get("everyone", poison)).toMatchObject({ status: "failed", failure: { code: "node_lost", quarantined: true } });
    expect(await store.get("everyone", again)).toMatchObject({ status: "failed", attempt: 0, failure: { code: "node_lost", quarantined: true } });
  });
});
