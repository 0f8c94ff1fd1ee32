#!/usr/bin/env node
/**
 * npm run mutate [-- --only TEXT] [--skip-baseline] [--write]: applies each deliberate breakage to a scratch copy, runs what should catch
 * it, and expects red. First every run must be green on the copy as it is. `--write` puts the table into docs/proof.md.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { contain } from "./contained.mjs";
import { mutations, runs } from "./mutations.mjs";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({ options: { only: { type: "string" }, "skip-baseline": { type: "boolean", default: false }, write: { type: "boolean", default: false } } });
/** A run that takes so much longer than nothing broken did does not end. Without a baseline, the limit of each. */
const limit = { factor: 4, leastMs: 60_000, unknownMs: 300_000 };

const scratch = contain("bl-mutants-");
process.on("exit", () => scratch.dispose());
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));
for (const file of execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: project, encoding: "utf8" }).split("\n").filter((name) => name && existsSync(path.join(project, name)))) {
  mkdirSync(path.dirname(path.join(scratch.folder, file)), { recursive: true });
  cpSync(path.join(project, file), path.join(scratch.folder, file), { verbatimSymlinks: true, force: true, recursive: true });
}
rmSync(path.join(scratch.folder, "node_modules"), { recursive: true, force: true });
symlinkSync(path.join(project, "node_modules"), path.join(scratch.folder, "node_modules"));

/** How long each run took with nothing broken. */
const usualMs = new Map();

/** Whether it was green, and the line that says what went wrong. */
async function play(name) {
  const usual = usualMs.get(name);
  const limitMs = usual === undefined ? limit.unknownMs : Math.max(limit.leastMs, limit.factor * usual);
  const { code, outOfTime, text } = await scratch.run(runs[name], { limitMs, env: { NO_SHRINKING: "1" } });
  const seed = /^seed (\d+) broke.*$/m.exec(text)?.[1];
  const kind = /^(?!sim\b)([a-zA-Z]+): .*$/m.exec(text)?.[1];
  const test = /(?:FAIL|×)\s+(?:test\/\S+ > )?(.+)$/m.exec(text)?.[1];
  const what = code === 0 ? "" : outOfTime ? "it does not end" : seed ? `seed ${seed}${kind ? `: ${kind}` : ""}` : (test ?? "it fails").replace(/\s+\d+ms$/, "").trim();
  return { green: code === 0, what, text };
}

function edit({ file, find, replace }) {
  const at = path.join(scratch.folder, file);
  const before = readFileSync(at, "utf8");
  const places = before.split(find).length - 1;
  if (places !== 1) throw new Error(`${file} has ${places} places that read ${JSON.stringify(find)}; expected one.`);
  writeFileSync(at, before.replace(find, () => replace));
  return () => writeFileSync(at, before);
}

let failed = false;
const rows = [];
const chosen = mutations.filter(({ name }) => values.only === undefined || name.includes(values.only));
for (const run of values["skip-baseline"] ? [] : new Set(chosen.map((one) => one.run))) {
  const from = performance.now();
  const { green, text } = await play(run);
  usualMs.set(run, performance.now() - from);
  console.log(`${green ? "green" : "RED  "}  nothing broken: ${run}`);
  if (!green) {
    console.log(text.slice(-3000));
    failed = true;
  }
}
for (const mutation of chosen) {
  let undo = [];
  try {
    undo = [edit(mutation), ...(mutation.also ? [edit(mutation.also)] : [])];
  } catch (error) {
    console.log(`STALE  ${mutation.name}: ${error.message}`);
    failed = true;
    continue;
  }
  const { green, what } = await play(mutation.run);
  undo.reverse().forEach((one) => one());
  console.log(`${green ? "MISSED" : "caught"}  ${mutation.name} (${mutation.run}${what ? `: ${what}` : ""})`);
  if (green) failed = true;
  rows.push(`| ${mutation.name} | ${mutation.promise} | ${mutation.run} | ${green ? "**missed**" : what.replaceAll("|", "\\|")} |`);
}
console.log(`${rows.length} breakages, ${rows.filter((row) => !row.includes("**missed**")).length} caught`);
if (values.write) {
  const at = path.join(project, "docs", "proof.md");
  const table = ["| broken on purpose | promise | caught by | how it shows |", "| --- | --- | --- | --- |", ...rows].join("\n");
  writeFileSync(at, readFileSync(at, "utf8").replace(/(<!-- mutations -->\n)[\s\S]*?(\n<!-- end -->)/, (_, begin, end) => `${begin}${table}${end}`));
}
process.exitCode = failed ? 1 : 0;
