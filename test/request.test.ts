import { describe, expect, it } from "vitest";
import { BuildlaneError } from "../src/errors.js";
import type { BuildRequest } from "../src/job.js";
import { queueSettings } from "../src/options.js";
import { newJob, requestHash } from "../src/request.js";
import { createSimulatedClock } from "../src/simulated-clock.js";

const settings = queueSettings({ maxCodeBytes: 1000 });
const clock = createSimulatedClock();
const good: BuildRequest = { chatId: "c", messageId: "m", code: "1" };
const make = (change: object) => newJob("everyone", { ...good, ...change } as BuildRequest, settings, clock);
function refusal(change: object): BuildlaneError {
  try {
    make(change);
  } catch (error) {
    return error as BuildlaneError;
  }
  throw new Error(`${JSON.stringify(change)} was taken`);
}

describe("a request", () => {
  it("gets every default", () => {
    expect(make({})).toMatchObject({ priority: 0, maxAttempts: 3, timeoutMs: 10_000, delayMs: 0, options: {}, files: null, entry: null, code: "1" });
  });

  it.each([
    [{ chatId: "" }, "/chatId"],
    [{ chatId: 5 }, "/chatId"],
    [{ chatId: "x".repeat(101) }, "/chatId"],
    [{ chatId: "ü".repeat(17) }, "/chatId"],
    [{ chatId: "." }, "/chatId"],
    [{ chatId: ".." }, "/chatId"],
    [{ messageId: "a\0" }, "/messageId"],
    [{ messageId: "\ud800" }, "/messageId"],
    [{ code: 5 }, "/code"],
    [{ code: undefined }, "/code"],
    [{ code: "a\0b" }, "/code"],
    [{ code: "a\udfffb" }, "/code"],
    [{ files: { "a.ts": "1" }, entry: "a.ts" }, "/files"],
    [{ code: undefined, files: {}, entry: "a.ts" }, "/files"],
    [{ code: undefined, files: { "../a.ts": "1" }, entry: "../a.ts" }, "/files/..~1a.ts"],
    [{ code: undefined, files: { "/a.ts": "1" }, entry: "/a.ts" }, "/files/~1a.ts"],
    [{ code: undefined, files: { "a.ts": "\0" }, entry: "a.ts" }, "/files/a.ts"],
    [{ code: undefined, files: { "a.ts": "1" }, entry: "b.ts" }, "/entry"],
    [{ options: { loader: "wasm" } }, "/options/loader"],
    [{ options: { plugins: [] } }, "/options/plugins"],
    [{ options: { __proto__: null, constructor: 1 } }, "/options/constructor"],
    [{ priority: 11 }, "/priority"],
    [{ priority: 1.5 }, "/priority"],
    [{ maxAttempts: 0 }, "/maxAttempts"],
    [{ delayMs: -1 }, "/delayMs"],
    [{ nope: 1 }, "/nope"],
  ])("with %j is refused with its path", (change, path) => {
    const error = refusal(change);
    expect(error.code).toBe("validation_failed");
    expect(error.issues?.map((issue) => issue.path)).toContain(path);
  });

  it("may have chat ids of exactly 100 bytes as they stand in a URL", () => {
    expect(make({ chatId: "x".repeat(100) }).chatId).toHaveLength(100);
    expect(make({ chatId: "ü".repeat(16) }).chatId).toHaveLength(16);
  });

  it("may have exactly as many bytes of code as allowed, all files together", () => {
    expect(make({ code: "x".repeat(1000) }).code).toHaveLength(1000);
    expect(refusal({ code: "x".repeat(1001) }).code).toBe("payload_too_large");
    expect(refusal({ code: "ü".repeat(501) }).code).toBe("payload_too_large");
    expect(refusal({ code: undefined, files: { "a.ts": "x".repeat(600), "b.ts": "x".repeat(401) }, entry: "a.ts" }).code).toBe("payload_too_large");
  });

  it("has the same hash for the same build, whatever the order of files and options", () => {
    const one = make({ code: undefined, files: { "a.ts": "1", "b.ts": "2" }, entry: "a.ts", options: { minify: true, jsx: "automatic" } });
    const two = make({ code: undefined, files: { "b.ts": "2", "a.ts": "1" }, entry: "a.ts", options: { jsx: "automatic", minify: true, target: undefined } });
    expect(one.codeHash).toBe(two.codeHash);
    expect(make({ code: "2" }).codeHash).not.toBe(make({}).codeHash);
    expect(requestHash([good], false)).not.toBe(requestHash([{ ...good, priority: 1 } as BuildRequest], false));
  });
});
