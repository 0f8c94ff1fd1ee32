/** Quarantine over the API, with code that really kills its workers. */
import { expect, test } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { memoryBomb } from "../workers/support.js";
import { request, server } from "./support.js";

test("code that killed two workers is listed with its hash, fails without a run from any chat, and runs again when it is lifted", async () => {
  await using queue = await createBuildQueue({ store: "memory", workerMemoryMb: 128, retryBaseMs: 1 });
  await using app = await server(queue);
  const list = async () => (await app.inject({ url: "/api/builds/quarantine" })).json().data;
  const lift = (hash: string) => app.inject({ method: "POST", url: `/api/builds/quarantine/${hash}/lift` });
  const ended = async (chatId: string) => {
    const answer = await app.inject({ method: "POST", url: "/api/builds", payload: request({ chatId, code: memoryBomb }) });
    return queue.waitFor(answer.json().data.id);
  };
  expect(await list()).toEqual([]);
  const first = await ended("one");
  expect(first).toMatchObject({ status: "failed", attempt: 2, failure: { code: "out_of_memory", quarantined: true } });
  const [entry] = await list();
  expect(entry).toEqual({ codeHash: expect.stringMatching(/^[0-9a-f]{64}$/), cause: "out_of_memory", crashes: 2, quarantinedAt: expect.any(String) });
  expect(await ended("two")).toMatchObject({ status: "failed", attempt: 0, failure: { code: "out_of_memory", quarantined: true } });

  expect((await lift(entry.codeHash)).json()).toEqual({ ok: true, data: { lifted: true } });
  expect(await list()).toEqual([]);
  const again = await lift(entry.codeHash);
  expect([again.statusCode, again.json().code]).toEqual([404, "not_quarantined"]);
  expect((await lift("nonsense")).statusCode).toBe(400);
  expect(await ended("three")).toMatchObject({ attempt: 2 });
});
