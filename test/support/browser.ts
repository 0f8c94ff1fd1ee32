/**
 * A headless Chromium for the tests that look at pages: the machine's own, or one that `CHROMIUM_PATH` names. Without one
 * they are skipped with the reason, and fail where `BUILDLANE_TEST_BROWSER=required` says that there must be one:
 * `.ci/run` brings it where it can (scripts/bring-browser.mjs), and says so.
 */
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";
import { describe, test } from "vitest";
import { findChromium } from "../../scripts/bring-browser.mjs";

/** Nothing but the page asked for: no updates, no phoning home; no sandbox of its own, which a container does not allow. */
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

const browserFile = findChromium();

/** Why there is no browser; undefined: there is. */
export const browserMissing: string | undefined =
  browserFile === null ? "no Chromium was found; install one, name it in CHROMIUM_PATH, or run node scripts/bring-browser.mjs as root of a Debian" : undefined;

/** `describe` for tests that need a browser. */
export function describeBrowser(name: string, tests: () => void): void {
  if (browserMissing === undefined) return void describe(name, tests);
  process.stderr.write(`Skipped: ${name} (${browserMissing}).\n`);
  if (process.env["BUILDLANE_TEST_BROWSER"] === "required") describe(name, () => test("needs a browser", () => Promise.reject(new Error(browserMissing))));
  else describe.skip(`${name} (${browserMissing})`, tests);
}

/** A fresh browser, one that reaches loopback only; `await using browser = …` closes it. */
export async function openBrowser(): Promise<Browser> {
  if (browserFile === null) throw new Error(browserMissing);
  return chromium.launch({ executablePath: browserFile, args, timeout: 60_000 });
}
