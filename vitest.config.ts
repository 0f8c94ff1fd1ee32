import { defineConfig } from "vitest/config";
import { tempRoot } from "./test/support/temp-root.js";

// Before anything asks for it: for this process, its workers, and what these start.
const root = process.env["TMPDIR"] ? undefined : tempRoot();
if (root !== undefined) process.env["TMPDIR"] = root;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/fixtures/**"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    // One more than CI's processors: a good part of a run is spent waiting, for leases to end, silence to be noticed, browsers.
    maxWorkers: 3,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ["default", "./scripts/closing-reporter.mjs"],
  },
});
