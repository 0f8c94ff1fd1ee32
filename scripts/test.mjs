#!/usr/bin/env node
/**
 * `npm test`: checks the types, then runs all tests (or those whose files match the arguments), and ends with a line
 * alone, `123 passed, 0 failed`, and the status that goes with it.
 */
import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { print } from "./closing-reporter.mjs";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
/** What is told when the run ended before it could count. */
const nothingRan = { passed: 0, failed: 1, skipped: 0, refused: [] };

process.stderr.write("Checking the types…\n");
const types = await run(path.join("node_modules", "typescript", "bin", "tsc"), ["--noEmit"]);
if (types.status !== 0) finish(nothingRan, types.status);
// What runs in the browser has a world of its own.
const pageTypes = await run(path.join("node_modules", "typescript", "bin", "tsc"), ["-p", "src/dashboard"]);
if (pageTypes.status !== 0) finish(nothingRan, pageTypes.status);
const tests = await run(path.join("node_modules", "vitest", "vitest.mjs"), ["run", ...process.argv.slice(2)]);
const summary = tests.summary ?? nothingRan;
if (tests.status !== 0 && summary.failed === 0) summary.failed = 1;
finish(summary, tests.status || (summary.failed > 0 ? 1 : 0));

/** Runs a script of Node's; a signal to us is one to it, and it ends first. */
async function run(script, args) {
  const child = spawn(process.execPath, [script, ...args], { cwd: project, stdio: ["inherit", "inherit", "inherit", "ipc"] });
  let summary;
  child.on("message", (message) => void (summary = message?.summary ?? summary));
  const pass = (signal) => child.kill(signal);
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, pass);
  const status = await new Promise((resolve, reject) => child.on("error", reject).on("close", (code) => resolve(code ?? 1)));
  for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, pass);
  return { status, summary };
}

function finish(summary, status) {
  print(summary);
  process.exit(status);
}
