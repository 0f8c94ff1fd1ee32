#!/usr/bin/env node
/**
 * What tests work with and npm does not bring (a Chromium, a PgBouncer), from apt, as root of a Debian. Says of each whether
 * it is there, and why not; its output is the names of those that must be there, for `BUILDLANE_TEST_REQUIRED`: all but
 * those that cannot be had here (no root, no apt-get, no mirror within its time, not on offer).
 */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

function canRun(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
const finder = (variable, places) => (named = process.env[variable]) => [...(named ? [named] : []), ...places].find(canRun) ?? null;

export const findChromium = finder("CHROMIUM_PATH", ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable", "/snap/bin/chromium"]);
export const findPgbouncer = finder("PGBOUNCER_PATH", ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]);

/** `name`: in `BUILDLANE_TEST_REQUIRED`. `offers`: the Debian packages that will do, best first. */
export const packages = [
  // Without a desktop's browser around it a page opens for a third of the processor's time.
  { name: "chromium", offers: ["chromium-headless-shell", "chromium"], what: "Chromium", tests: "The browser tests", find: findChromium },
  { name: "pgbouncer", offers: ["pgbouncer"], what: "PgBouncer", tests: "The tests behind a pooler that is not their own", find: findPgbouncer },
];

const reasonOf = (error) => (error.killed ? "it took too long" : String(error.stderr || error.message).trim().split("\n").slice(-3).join(" ").slice(0, 400));

/** `apt`, `isRoot` and the times are for its test. Resolves to `{ isRequired, line }`: whether its absence is a fault. */
export async function bring({ offers, what, tests, find }, { apt = "/usr/bin/apt-get", isRoot = process.getuid?.() === 0, listsMs = 90_000, installMs = 300_000 } = {}) {
  const found = find();
  if (found) return { isRequired: true, line: `${tests} use ${found}.` };
  if (!isRoot || !canRun(apt)) return { isRequired: false, line: `No ${what} here, and none is brought: that takes root and apt-get. ${tests} are skipped.` };
  const options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Update::Error-Mode=any"];
  const run = (parameters, timeout) => promisify(execFile)(apt, [...options, ...parameters], { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, timeout, killSignal: "SIGKILL" });
  const install = ["install", "-y", "--no-install-recommends"];
  let name;
  try {
    await run(["update"], listsMs);
    name = await firstOffered(offers, (offer) => run([...install, "--simulate", offer], listsMs));
  } catch (error) {
    return { isRequired: false, line: `No ${what} here, and apt-get offers none: ${reasonOf(error)}. ${tests} are skipped.` };
  }
  try {
    await run([...install, name], installMs);
  } catch (error) {
    return { isRequired: true, line: `apt-get could not install ${name}: ${reasonOf(error)}.` };
  }
  const brought = find();
  return { isRequired: true, line: brought ? `${tests} use ${brought}, which apt-get brought.` : `apt-get installed ${name}, but there is none where it is looked for.` };
}

/** Asked before it is installed: what a mirror does not have is no fault. Throws what was said of the last one. */
async function firstOffered(offers, ask) {
  let refusal;
  for (const offer of offers) {
    try {
      await ask(offer);
      return offer;
    } catch (error) {
      refusal = error;
    }
  }
  throw refusal;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const required = [];
  for (const one of packages) {
    const { isRequired, line } = await bring(one);
    process.stderr.write(`${line}\n`);
    if (isRequired) required.push(one.name);
  }
  process.stdout.write(`${required.join(",")}\n`);
}
