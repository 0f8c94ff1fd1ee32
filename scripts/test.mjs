#!/usr/bin/env node
/**
 * `npm test`: checks the types and runs all tests (or those whose files match the arguments), side by side, and ends with
 * a line alone, `123 passed, 0 failed`, and the status that goes with it. Types that are wrong stop the tests.
 */
import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { print } from "./closing-reporter.mjs";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
/** What is told when the run ended before it could count. */
const nothingRan = { passed: 0, failed: 1, skipped: 0, refused: [] };
const tsc = path.join("node_modules", "typescript", "bin", "tsc");

const wrong = new AbortController();
const [types, tests] = await Promise.all([
  checkTypes(),
  run(path.join("node_modules", "vitest", "vitest.mjs"), ["run", ...process.argv.slice(2)], { signal: wrong.signal }),
]);
if (types.status !== 0) {
  // Last, where it is seen.
  process.stdout.write(types.said);
  finish(nothingRan, types.status);
}
const summary = tests.summary ?? nothingRan;
if (tests.status !== 0 && summary.failed === 0) summary.failed = 1;
finish(summary, tests.status || (summary.failed > 0 ? 1 : 0));

async function checkTypes() {
  // What runs in the browser has a world of its own.
  for (const args of [["--noEmit"], ["-p", "src/dashboard"]]) {
    const types = await run(tsc, args, { quiet: true });
    if (types.status === 0) continue;
    process.stderr.write("The types are wrong: stopping the tests.\n");
    wrong.abort();
    return types;
  }
  process.stderr.write("The types are right.\n");
  return { status: 0, said: "" };
}

/** Runs a script of Node's; a signal to us is one to it, and it ends first. `quiet`: what it prints is returned. */
async function run(script, args, { quiet = false, signal: stop } = {}) {
  const output = quiet ? "pipe" : "inherit";
  const child = spawn(process.execPath, [script, ...args], { cwd: project, stdio: ["inherit", output, output, "ipc"] });
  let summary;
  let said = "";
  child.on("message", (message) => void (summary = message?.summary ?? summary));
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => void (said += data));
  const pass = (signal) => child.kill(signal);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, pass);
  stop?.addEventListener("abort", () => pass("SIGTERM"));
  const status = await new Promise((resolve, reject) => child.on("error", reject).on("close", (code) => resolve(code ?? 1)));
  for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, pass);
  return { status, summary, said };
}

function finish(summary, status) {
  print(summary);
  process.exit(status);
}
