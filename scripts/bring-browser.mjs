#!/usr/bin/env node
/**
 * A Chromium for the tests that look at pages, from apt, as root of a Debian. Ends with 0: there is one; 3: none can be had
 * here (no root, no apt-get, no mirror within its time); 1: apt offers one and could not install it. Says which and why.
 */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const chromiumPlaces = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable", "/snap/bin/chromium"];

function canRun(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
export const findChromium = (named = process.env.CHROMIUM_PATH) => [...(named ? [named] : []), ...chromiumPlaces].find(canRun) ?? null;

const reasonOf = (error) => (error.killed ? "it took too long" : String(error.stderr || error.message).trim().split("\n").slice(-3).join(" ").slice(0, 400));

/** The parameters are for its test. */
export async function bringBrowser({ find = findChromium, apt = "/usr/bin/apt-get", isRoot = process.getuid?.() === 0, listsMs = 90_000, installMs = 300_000 } = {}) {
  const found = find();
  if (found) return { status: 0, line: `The browser tests use ${found}.` };
  if (!isRoot || !canRun(apt)) return { status: 3, line: "No Chromium here, and none is brought: that takes root and apt-get. The browser tests are skipped." };
  const options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Update::Error-Mode=any"];
  const run = (parameters, timeout) => promisify(execFile)(apt, [...options, ...parameters], { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, timeout, killSignal: "SIGKILL" });
  try {
    await run(["update"], listsMs);
    // Whether it is on offer, before it is asked for.
    await run(["install", "--simulate", "-y", "--no-install-recommends", "chromium"], listsMs);
  } catch (error) {
    return { status: 3, line: `No Chromium here, and apt-get offers none: ${reasonOf(error)}. The browser tests are skipped.` };
  }
  try {
    await run(["install", "-y", "--no-install-recommends", "chromium"], installMs);
  } catch (error) {
    return { status: 1, line: `apt-get could not install its Chromium: ${reasonOf(error)}.` };
  }
  const brought = find();
  return brought ? { status: 0, line: `The browser tests use ${brought}, which apt-get brought.` } : { status: 1, line: "apt-get installed chromium, but there is none where it is looked for." };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { status, line } = await bringBrowser();
  process.stderr.write(`${line}\n`);
  process.exitCode = status;
}
