import { defineConfig } from "vitest/config";
import { BaseSequencer } from "vitest/node";
import type { TestSpecification } from "vitest/node";
import { quickWasm } from "./test/support/quick-wasm.js";
import { tempRoot } from "./test/support/temp-root.js";

// Before anything asks for it: for this process, its workers, and what these start.
const root = process.env["TMPDIR"] ? undefined : tempRoot();
if (root !== undefined) process.env["TMPDIR"] = root;

/** The files that take longest begin first, so that no processor waits for one of them at the end. */
const longest = ["dashboard/dashboard", "faults/database", "chaos/chaos", "e2e/service", "store/postgres", "e2e/guarded", "e2e/package", "store/embedded", "store/model"];
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // All others after them: -1 as an unsigned number is the largest.
    const rank = ({ moduleId }: TestSpecification) => longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`)) >>> 0;
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/fixtures/**"],
    globalSetup: ["test/support/global-setup.ts"],
    // Files follow one another in the same few processes: loading the service and its packages takes a second of a
    // processor's time, more than most of them do with it. So a file leaves its process as it found it.
    pool: "forks",
    isolate: false,
    execArgv: quickWasm,
    // One more than CI's processors: a good part of a run is spent waiting, for leases to end, silence to be noticed, browsers.
    maxWorkers: 3,
    // On a machine that is busy with something else. What a test says about time, it says itself.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 15_000 } },
    reporters: ["default", "./scripts/closing-reporter.mjs"],
    sequence: { sequencer: LongestFirst },
  },
});
