/** The embedder's own `run` in the place of the build, doing its worst: each job ends, and the neighbours complete. */
import { expect, test } from "vitest";
import { createBuildQueue } from "../../src/index.js";

const circle: Record<string, unknown> = {};
circle["self"] = circle;
const throws = (thrown: unknown) => () => {
  throw thrown;
};

const runs: Record<string, { run: () => unknown; ends: string }> = {
  "throws an error": { run: throws(new Error("no")), ends: "run_failed" },
  "throws nothing": { run: throws(undefined), ends: "run_failed" },
  "throws null": { run: throws(null), ends: "run_failed" },
  "throws a text with NUL and half a letter": { run: throws(new Error("\0\ud800")), ends: "run_failed" },
  "throws what cannot be read": { run: throws(Object.create(null, { message: { get: throws(new Error("gotcha")) } })), ends: "run_failed" },
  "throws what cannot be a text": { run: throws({ toString: throws(new Error("gotcha")), [Symbol.toPrimitive]: throws(new Error("gotcha")) }), ends: "run_failed" },
  "throws a symbol": { run: throws(Symbol("x")), ends: "run_failed" },
  "throws a text of ten million letters": { run: throws(new Error("x".repeat(10_000_000))), ends: "run_failed" },
  "returns a circle": { run: () => circle, ends: "run_failed" },
  "returns a number too large for JSON": { run: () => 10n, ends: "run_failed" },
  "returns what throws when it is written": { run: () => ({ toJSON: throws(new Error("gotcha")) }), ends: "run_failed" },
  "returns a proxy that throws": { run: () => new Proxy({}, { get: throws(new Error("gotcha")), ownKeys: throws(new Error("gotcha")) }), ends: "run_failed" },
  "returns a thenable that throws": { run: () => ({ then: throws(new Error("gotcha")) }), ends: "run_failed" },
  "returns a thenable that answers twice": { run: () => ({ then: (resolve: (value: string) => void) => (resolve("once"), resolve("twice")) }), ends: "completed" },
  "returns nothing": { run: () => undefined, ends: "completed" },
  "returns a function": { run: () => () => {}, ends: "completed" },
  "returns NUL and half a letter": { run: () => "\0\ud800", ends: "completed" },
  "returns more than is kept": { run: () => "x".repeat(9 * 2 ** 20), ends: "output_too_large" },
  "never ends, and hears no signal": { run: () => new Promise(() => {}), ends: "timed_out" },
  "rejects long after nobody waits": { run: () => new Promise((_, reject) => void setTimeout(() => reject(new Error("late")), 600)), ends: "timed_out" },
};

test("whatever a run of one's own does, its job ends and its neighbours complete", async () => {
  await using queue = await createBuildQueue({
    store: "memory", concurrency: 2, maxAttempts: 1,
    run: ({ messageId }) => (messageId === "neighbour" ? "fine" : runs[messageId]?.run()),
  });
  const names = Object.keys(runs);
  const jobs = await Promise.all(names.map(async (name, index) => ({
    name,
    hostile: await queue.enqueue({ chatId: `hostile${index}`, messageId: name, code: "", timeoutMs: 300 }),
    neighbour: await queue.enqueue({ chatId: `neighbour${index}`, messageId: "neighbour", code: "" }),
  })));
  for (const { name, hostile, neighbour } of jobs) {
    const ended = await queue.waitFor(hostile.id);
    expect(ended.failure?.code ?? ended.status, name).toBe(runs[name]?.ends);
    expect((ended.error ?? "").length, name).toBeLessThanOrEqual(16_000);
    expect((await queue.waitFor(neighbour.id)).status, `the neighbour of ${name}`).toBe("completed");
  }
});
