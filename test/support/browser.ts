/**
 * A headless Chromium for the tests that look at pages: the machine's own, or one that `CHROMIUM_PATH` names, or, as
 * root of a Debian and when `BUILDLANE_TEST_APT` is set, one that apt-get brings. Without one they are skipped with the
 * reason, and fail when CI is set.
 */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";
import { describe, test } from "vitest";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable", "/snap/bin/chromium"];
const installWaitMs = 300_000;

/** Nothing but the page asked for: no updates, no phoning home; no sandbox of its own, which a container does not allow. */
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

const browserFile = (await findBrowser()) ?? (await installBrowser());

/** Why there is no browser; undefined: there is. */
export const browserMissing: string | undefined =
  browserFile === null ? "no Chromium was found; install one, name it in CHROMIUM_PATH, or set BUILDLANE_TEST_APT=1 as root of a Debian" : undefined;

/** `describe` for tests that need a browser. */
export function describeBrowser(name: string, tests: () => void): void {
  if (browserMissing === undefined) return void describe(name, tests);
  process.stderr.write(`Skipped: ${name} (${browserMissing}).\n`);
  if (process.env["CI"]) describe(name, () => test("needs a browser", () => Promise.reject(new Error(browserMissing))));
  else describe.skip(`${name} (${browserMissing})`, tests);
}

/** A fresh browser, one that reaches loopback only; `await using browser = …` closes it. */
export async function openBrowser(): Promise<Browser> {
  if (browserFile === null) throw new Error(browserMissing);
  return chromium.launch({ executablePath: browserFile, args, timeout: 60_000 });
}

async function findBrowser(): Promise<string | null> {
  const named = process.env["CHROMIUM_PATH"];
  return [...(named ? [named] : []), ...places].find(canRun) ?? null;
}

async function installBrowser(): Promise<string | null> {
  if (!process.env["BUILDLANE_TEST_APT"] || process.getuid?.() !== 0 || !canRun("/usr/bin/apt-get")) return null;
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const run = (parameters: string[]) => promisify(execFile)("/usr/bin/apt-get", parameters, { env: environment, timeout: installWaitMs });
  try {
    await run(["update"]);
    await run(["install", "-y", "--no-install-recommends", "chromium"]);
    return await findBrowser();
  } catch (error) {
    process.stderr.write(`apt-get could not bring a Chromium: ${String(error).slice(0, 500)}\n`);
    return null;
  }
}

function canRun(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
