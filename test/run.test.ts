/** What becomes of a caller's own run: what it returns, and whatever it may throw. */
import { DrizzleQueryError } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { limits } from "../src/options.js";
import { ownRunner } from "../src/run.js";
import type { Run } from "../src/run.js";
import { StopSignal } from "../src/stop-signal.js";

const outcomeOf = (run: Run) => ownRunner(run, 1000).run({} as never, { signal: new StopSignal(), attempt: 1 } as never);
const failureOf = async (thrown: unknown) => {
  const outcome = await outcomeOf(() => Promise.reject(thrown));
  if (outcome.kind !== "failed") throw new Error(outcome.kind);
  return { error: outcome.error, message: outcome.failure.message };
};

describe("what a run returns", () => {
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  it.each<[string, unknown, RegExp]>([
    ["a BigInt", { count: 1n }, /BigInt/],
    ["a circle", cyclic, /circular/],
    ["what throws when it is written", { toJSON() { throw new Error("not me\nat all"); } }, /: not me$/],
  ])("is refused for good when it cannot be written: %s", async (_, value, says) => {
    const outcome = await outcomeOf(() => value);
    const message = expect.stringMatching(says) as string;
    expect(outcome).toEqual({ kind: "failed", failure: { code: "run_failed", message, retryable: false, diagnostics: [] }, error: message });
    expect(outcome).toMatchObject({ error: expect.stringMatching(/^The result cannot be written as JSON: /) });
  });
});

describe("what a run throws", () => {
  const cyclic = new Error("outer", { cause: new Error("inner") });
  (cyclic.cause as Error).cause = cyclic;
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();

  it.each<[string, unknown, string, string]>([
    ["several lines", new Error("one\ntwo"), "one\ntwo", "one"],
    ["a message that begins with empty lines", new Error("\n\n  Invalid call:\n  no such table"), "\n\n  Invalid call:\n  no such table", "Invalid call:"],
    ["an error with a cause", new DrizzleQueryError("select 1", [], new Error("no such table")), "Failed query: select 1\nparams: \nCaused by: no such table", "Failed query: select 1"],
    ["causes that go in a circle", cyclic, "outer\nCaused by: inner", "outer"],
    ["several errors in one", new AggregateError([new Error("a"), "b"], "all failed"), "all failed\nOne of them: a\nOne of them: b", "all failed"],
    ["an error without a message", new RangeError(), "RangeError", "RangeError"],
    ["a plain object with a message", { message: "plain" }, "plain", "plain"],
    ["a plain object", { status: 500 }, '{"status":500}', '{"status":500}'],
    ["a text", "just a text", "just a text", "just a text"],
    ["nothing", undefined, "undefined", "undefined"],
    ["what cannot be read", { get message() { throw new Error("evil"); }, toJSON() { throw new Error("evil"); } }, "Something was thrown that cannot be written as text.", "Something was thrown that cannot be written as text."],
    ["what is not even a thing any more", revoked.proxy, "Something was thrown that cannot be written as text.", "Something was thrown that cannot be written as text."],
  ])("is told whole: %s", async (_, thrown, error, message) => {
    expect(await failureOf(thrown)).toEqual({ error, message });
  });

  it("is told whole when a schema refused its data", async () => {
    const { error, message } = await failureOf(z.object({ name: z.string() }).safeParse({}).error);
    expect(error).toContain("expected string");
    expect(message).toContain("expected");
  });

  it("is bounded, and never a stack", async () => {
    const deep = Array.from({ length: 1000 }).reduce<Error>((cause, _, depth) => new Error(`${depth}`, { cause }), new Error("first"));
    expect((await failureOf(deep)).error.split("\n")).toHaveLength(50);
    const wide = new AggregateError(Array.from({ length: 100 }, () => new Error("x".repeat(limits.errorCharsMax))), "wide");
    const { error, message } = await failureOf(wide);
    expect(error.length).toBeLessThan(2 * limits.errorCharsMax);
    expect(message).toBe("wide");
    expect((await failureOf(new Error("plain"))).error).not.toContain("run.test");
  });
});
