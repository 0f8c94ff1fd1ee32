/** A headless Chromium for the tests that look at pages: the machine's own, or one that `CHROMIUM_PATH` names. */
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";
import { findChromium } from "../../scripts/bring-packages.mjs";
import { describeNeeding } from "./needs.js";

/** Nothing but the page asked for: no updates, no phoning home; no sandbox of its own, which a container does not allow. */
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];

const browserFile = findChromium();

/** Why there is no browser; undefined: there is. */
export const browserMissing: string | undefined =
  browserFile === null ? "no Chromium was found; install one, name it in CHROMIUM_PATH, or run node scripts/bring-packages.mjs as root of a Debian" : undefined;

/** `describe` for tests that need a browser. */
export const describeBrowser = (title: string, tests: () => void): void => describeNeeding({ name: "chromium", missing: browserMissing }, title, tests);

/** A fresh browser, one that reaches loopback only; `await using browser = …` closes it. */
export async function openBrowser(): Promise<Browser> {
  if (browserFile === null) throw new Error(browserMissing);
  return chromium.launch({ executablePath: browserFile, args, timeout: 60_000 });
}
