/** The real server with its dashboard, a browser page on it, and what a person would check at a glance. */
import AxeBuilder from "axe-core";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { bundleDashboard, devFolder } from "../../scripts/dashboard.mjs";
import { systemClock } from "../../src/clock.js";
import { buildServer } from "../../src/http/server.js";
import type { Diagnostic, Outcome, Runner } from "../../src/job.js";
import { queueSettings } from "../../src/options.js";
import type { QueueSettingsInput } from "../../src/options.js";
import { composeQueue } from "../../src/queue.js";
import { createMemoryStore } from "../../src/store/memory.js";
import type { Store } from "../../src/store/store.js";
import { memoryLog } from "../http/support.js";

/** Bundles the page into the folder in which the sources' server looks. */
export const bundle = (): Promise<void> => bundleDashboard(devFolder);

const place = (line: number, column: number, lineText: string): Diagnostic => ({ text: 'Expected ";" but found "is"', file: null, line, column, length: 2, lineText, suggestion: null });

/** Builds as the code says: `hold` until released, `broken` fails at its line, `flaky` crashes once and backs off; else at once. */
export function controlledRunner() {
  let held: (() => void)[] = [];
  let released = false;
  const runner: Runner = {
    start: async () => {},
    stop: async () => {},
    async run(job, { signal, attempt }): Promise<Outcome> {
      const code = job.code ?? "";
      if (code.includes("hold") && !released) await new Promise<void>((resolve) => (held.push(resolve), signal.addEventListener("abort", () => resolve())));
      if (code.includes("flaky") && attempt === 1) return { kind: "failed", failure: { code: "worker_crashed", message: "The worker process died.", retryable: true, diagnostics: [] }, error: "The worker process died." };
      const lines = code.split("\n");
      const at = lines.findIndex((line) => line.includes("broken"));
      if (at < 0) return { kind: "built", result: 'console.log("built"); document.getElementById("root").textContent = "seen";\n', sourceMap: null, warnings: [], externals: [] };
      const text = lines[at] as string;
      const found = place(at + 1, text.indexOf("is") + 1, text);
      return { kind: "failed", failure: { code: "build_failed", message: found.text, retryable: false, diagnostics: [found] }, error: `✘ ${found.text}\n    ${at + 1} │ ${text}` };
    },
  };
  return {
    runner,
    release: () => {
      held.forEach((resolve) => resolve());
      held = [];
    },
    /** From now on nothing is held. */
    open() {
      released = true;
      this.release();
    },
  };
}

export interface Served {
  url: string;
  close(): Promise<void>;
}

/** A queue and its server on a store that outlives them. */
export async function serve({ store = createMemoryStore({ clock: systemClock }), port = 0, readOnly = false, ...settings }: QueueSettingsInput & { store?: Store; port?: number; readOnly?: boolean } = {}) {
  const controlled = controlledRunner();
  const queue = await composeQueue({ nodeId: systemClock.id(), settings: queueSettings({ retryBaseMs: 60_000, retryMaxMs: 60_000, ...settings }), store: { ...store, close: async () => {} }, runner: controlled.runner, clock: systemClock, report: () => {}, counters: {} });
  const app = await buildServer({ queue, settings: { host: "127.0.0.1", allowedHosts: undefined, maxBodyBytes: 8e6, readOnly }, logger: memoryLog().logger, clock: systemClock });
  await app.listen({ port, host: "127.0.0.1" });
  const address = app.server.address() as { port: number };
  const close = async () => {
    controlled.open();
    await app.close();
    await queue.stop();
  };
  return { queue, store, ...controlled, url: `http://127.0.0.1:${address.port}`, port: address.port, close, [Symbol.asyncDispose]: close };
}

/** A page that fails its test when anything is said on its console as an error. */
export async function openPage(browser: Browser, url: string, options: BrowserContextOptions = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const errors: string[] = [];
  // What the network does while a server is away is the browser's own line.
  page.on("console", (message) => message.type() === "error" && !/ERR_|Failed to load resource/.test(message.text()) && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => !request.url().startsWith(url) && !/^(data|blob):/.test(request.url()) && errors.push(`asked for ${request.url()}`));
  await page.goto(`${url}/`);
  await page.locator('.connection[data-state="live"]').waitFor();
  return { page, errors, [Symbol.asyncDispose]: () => context.close() };
}

/** As if another tab were in front, or this one again. */
export const show = (page: Page, state: "hidden" | "visible"): Promise<void> =>
  page.evaluate(`Object.defineProperty(document, "visibilityState", { value: "${state}", configurable: true }); document.dispatchEvent(new Event("visibilitychange"));`);

const everyRule = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
/** The rules of these that look at colours. */
export const colourRules = ["color-contrast", "link-in-text-block"];

/** Faults of WCAG 2.2 A and AA, each with the element; `only`: by these rules alone. */
export async function faults(page: Page, only = everyRule): Promise<string[]> {
  // Half a megabyte: once for each document, and the page changes within its own.
  if (!(await page.evaluate<boolean>('"axe" in globalThis'))) await page.evaluate(AxeBuilder.source);
  return page.evaluate(async (runOnly) => {
    const axe = (globalThis as unknown as { axe: { run(options: object): Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }> } }).axe;
    const { violations } = await axe.run({ runOnly, resultTypes: ["violations"], iframes: false });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)} ${failureSummary ?? ""}`));
  }, only);
}

/**
 * How much slower than a quiet one the machine is at the moment, 1 or more: by how much the same work in each frame of an
 * empty page takes longer than it does at its fastest. What a person may expect of time is multiplied by it, for a
 * machine that is busy with something else proves nothing about the page.
 */
export async function slowness(browser: Browser): Promise<number> {
  const context = await browser.newContext();
  const page = await context.newPage();
  const times = await page.evaluate<number[]>(`new Promise((resolve) => {
    const times = [];
    requestAnimationFrame(function next() {
      const from = performance.now();
      let sum = 0;
      for (let index = 0; index < 6e6; index++) sum += index % 7;
      times.push(performance.now() - from + sum * 0);
      if (times.length < 40) requestAnimationFrame(next);
      else resolve(times);
    });
  })`);
  await context.close();
  const sorted = times.slice(5).sort((a, b) => a - b);
  return Math.max(1, (sorted[Math.floor(sorted.length * 0.95)] ?? 1) / (sorted[0] ?? 1));
}
