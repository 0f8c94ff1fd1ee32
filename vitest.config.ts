import { defineConfig } from "vitest/config";
import { quickWasm } from "./test/support/quick-wasm.js";
import { tempRoot } from "./test/support/temp-root.js";

// Before anything asks for it: for this process, its workers, and what these start.
const root = process.env["TMPDIR"] ? undefined : tempRoot();
if (root !== undefined) process.env["TMPDIR"] = root;

const each = { pool: "forks", execArgv: quickWasm, testTimeout: 30_000, hookTimeout: 60_000 } as const;
/**
 * Files whose tests stay within their process follow one another in the same few: loading the service and its packages takes
 * a second of a processor's time, more than most of these files do with it. Those that start or kill processes, work in a
 * folder or change the environment have a process each, and so has every file that is in no room of this list.
 */
const together = [
  "test/*.test.ts", ...["explore", "history", "http", "inspect", "machines", "sim", "webhook"].map((room) => `test/${room}/**/*.test.ts`),
  "test/nodes/!(processes).test.ts", "test/store/!(embedded*).test.ts",
];

export default defineConfig({
  test: {
    globalSetup: ["test/support/global-setup.ts"],
    // One more than CI's processors: a good part of a run is spent waiting, for leases to end, silence to be noticed, browsers.
    maxWorkers: 3,
    reporters: ["default", "./scripts/closing-reporter.mjs"],
    projects: [
      { test: { ...each, name: "alone", include: ["test/**/*.test.ts"], exclude: ["test/fixtures/**", ...together] } },
      { test: { ...each, name: "together", include: together, isolate: false } },
    ],
  },
});
