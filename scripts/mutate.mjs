#!/usr/bin/env node
/**
 * npm run mutate [-- --only TEXT] [--skip-baseline] [--write]: applies each deliberate breakage to a scratch copy, runs what should catch
 * it, and expects red. First every run must be green on the copy as it is. `--write` puts the table into docs/proof.md.
 */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { mutations, runs } from "./mutations.mjs";

const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({ options: { only: { type: "string" }, "skip-baseline": { type: "boolean", default: false }, write: { type: "boolean", default: false } } });
const limitMs = 600_000;

const scratch = mkdtempSync(path.join(tmpdir(), "buildlane-mutants-"));
for (const file of execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: project, encoding: "utf8" }).split("\n").filter(Boolean)) {
  mkdirSync(path.dirname(path.join(scratch, file)), { recursive: true });
  cpSync(path.join(project, file), path.join(scratch, file), { verbatimSymlinks: true, force: true, recursive: true });
}
rmSync(path.join(scratch, "node_modules"), { recursive: true, force: true });
symlinkSync(path.join(project, "node_modules"), path.join(scratch, "node_modules"));

/** Whether it was green, and the line that says what went wrong. */
function play([command, ...args]) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: scratch, stdio: ["ignore", "pipe", "pipe"], detached: true, env: { ...process.env, NO_SHRINKING: "1" } });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    child.stderr.on("data", (data) => (text += data));
    const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), limitMs);
    child.on("close", (code) => {
      clearTimeout(timer);
      const seed = /^seed (\d+) broke.*$/m.exec(text)?.[1];
      const kind = /^(?!sim\b)([a-zA-Z]+): .*$/m.exec(text)?.[1];
      const test = /(?:FAIL|×)\s+(?:test\/\S+ > )?(.+)$/m.exec(text)?.[1];
      const what = code === 0 ? "" : seed ? `seed ${seed}${kind ? `: ${kind}` : ""}` : (test ?? "it does not end").replace(/\s+\d+ms$/, "").trim();
      resolve({ green: code === 0, what, text });
    });
  });
}

function edit({ file, find, replace }) {
  const at = path.join(scratch, file);
  const before = readFileSync(at, "utf8");
  const places = before.split(find).length - 1;
  if (places !== 1) throw new Error(`${file} has ${places} places that read ${JSON.stringify(find)}; expected one.`);
  writeFileSync(at, before.replace(find, () => replace));
  return () => writeFileSync(at, before);
}

let failed = false;
const rows = [];
try {
  const chosen = mutations.filter(({ name }) => values.only === undefined || name.includes(values.only));
  for (const run of values["skip-baseline"] ? [] : new Set(chosen.map((one) => one.run))) {
    const { green, text } = await play(runs[run]);
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
    const { green, what } = await play(runs[mutation.run]);
    undo.reverse().forEach((one) => one());
    console.log(`${green ? "MISSED" : "caught"}  ${mutation.name} (${mutation.run}${what ? `: ${what}` : ""})`);
    if (green) failed = true;
    rows.push(`| ${mutation.name} | ${mutation.promise} | ${mutation.run} | ${green ? "**missed**" : what.replaceAll("|", "\\|")} |`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${rows.length} breakages, ${rows.filter((row) => !row.includes("**missed**")).length} caught`);
if (values.write) {
  const at = path.join(project, "docs", "proof.md");
  const table = ["| broken on purpose | promise | caught by | how it shows |", "| --- | --- | --- | --- |", ...rows].join("\n");
  writeFileSync(at, readFileSync(at, "utf8").replace(/(<!-- mutations -->\n)[\s\S]*?(\n<!-- end -->)/, (_, begin, end) => `${begin}${table}${end}`));
}
process.exitCode = failed ? 1 : 0;
