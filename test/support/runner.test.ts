import { execFile } from "node:child_process";
import { expect, test, vi } from "vitest";
import { createActor, createMachine } from "xstate";

test("XState's development build is loaded, whose warnings name mistakes", () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  const actor = createActor(createMachine({})).start();
  actor.stop();
  actor.send({ type: "late" });
  expect(warn).toHaveBeenCalledWith(expect.stringContaining("was sent to stopped actor"));
  warn.mockRestore();
});

/** In plain Node: the module is plain JavaScript and has no types. */
const summarize = (run: unknown, inCi: boolean, allowed = "undefined") =>
  new Promise<unknown>((resolve, reject) => {
    const script = `import { closingLine, summarize } from "./scripts/closing-reporter.mjs";
      console.log(closingLine(summarize(${JSON.stringify(run)}, ${inCi}, ${allowed})));`;
    execFile(process.execPath, ["--input-type=module", "-e", script], (error, out) => (error ? reject(error) : resolve(out.trim())));
  });

test("the closing line counts, and under CI a skip without a listed reason is a failure", async () => {
  const run = { passed: 12, failed: 0, skips: ["a.test.ts > one", "b.test.ts > two"] };
  expect(await summarize({ ...run, skips: [] }, true, "[]")).toBe("12 passed, 0 failed");
  expect(await summarize(run, false, "[]")).toBe("12 passed, 0 failed, 2 skipped");
  expect(await summarize(run, true, "[]")).toBe("12 passed, 2 failed");
  expect(await summarize(run, true, '[{ test: /^a/, reason: "no such machine" }]')).toBe("12 passed, 1 failed, 1 skipped");
  const told = ["a.test.ts > a store > one (not here: it has (no) transactions)", "a.test.ts > a pooler (not here: none was found) > one"];
  expect(await summarize({ ...run, skips: [...told, "a.test.ts > not here: > one"] }, true)).toBe("12 passed, 1 failed, 2 skipped");
});
