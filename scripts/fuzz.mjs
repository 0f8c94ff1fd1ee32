#!/usr/bin/env node
/** `npm run fuzz -- [inputs] [seed]`: the fuzzer of test/hostile for longer than `npm test` does; 20,000 inputs unless said. */
import { spawn } from "node:child_process";

const [inputs = "20000", seed = String(Date.now() % 1_000_000_000)] = process.argv.slice(2);
spawn(process.execPath, ["node_modules/vitest/vitest.mjs", "run", "test/hostile/fuzz.test.ts"], {
  cwd: new URL("..", import.meta.url), stdio: "inherit", env: { ...process.env, FUZZ_INPUTS: inputs, FUZZ_SEED: seed },
}).on("close", (code) => process.exit(code ?? 1));
