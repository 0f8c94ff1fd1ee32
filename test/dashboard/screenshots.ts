/**
 * Looks at every page in light and dark, wide and narrow: `npm run screenshots` writes docs/screenshots/. A queue with
 * something of everything, whose builds are the real esbuild's, so that frames and outputs are what people see.
 */
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { systemClock } from "../../src/clock.js";
import { buildServer } from "../../src/http/server.js";
import type { Runner } from "../../src/job.js";
import { queueSettings } from "../../src/options.js";
import { composeQueue } from "../../src/queue.js";
import { createMemoryStore } from "../../src/store/memory.js";
import { openPackages } from "../../src/workers/open-packages.js";
import { createWorkerPool } from "../../src/workers/pool.js";
import { memoryLog } from "../http/support.js";
import { openBrowser } from "../support/browser.js";
import { bundle, openPage } from "./support.js";

const { values } = parseArgs({ options: { into: { type: "string", default: "docs/screenshots" }, only: { type: "string" }, all: { type: "boolean", default: false } } });

const counter = `import { useState } from "react";

export default function Counter({ start = 0 }: { start?: number }) {
  const [count, setCount] = useState(start);
  return (
    <button onClick={() => setCount(count + 1)}>
      Pressed {count} times
    </button>
  );
}
`;
const broken = counter.replace("setCount(count + 1)}>", "setCount(count + 1)>");
const greet = `const root = document.getElementById("root");
const list = ["accepted", "built", "shown"];
root.innerHTML = "<h1 style='font-family:system-ui'>It runs</h1><ol>" + list.map((one) => \`<li>\${one}</li>\`).join("") + "</ol>";
console.log("rendered", list.length, "items");
`;
const refused = `import { readFile } from "node:fs/promises";\n\nexport const text = await readFile("/etc/passwd", "utf8");\n`;

await bundle();
const settings = queueSettings({ concurrency: 3, retryBaseMs: 90_000, retryMaxMs: 90_000, buildTimeoutMs: 300_000, inspect: true });
const packages = await openPackages({ packagesDir: undefined, importMap: undefined, clock: systemClock });
const pool = createWorkerPool({ slots: settings.concurrency, memoryMb: settings.workerMemoryMb, outputBytesMax: settings.maxOutputBytes, packages, allowUnconfined: true, clock: systemClock, onEvent: () => {} });
/** The real workers; but what takes long, and a worker that dies once, are told by the code itself. */
const runner: Runner = {
  start: () => pool.start(),
  stop: () => pool.stop(),
  async run(job, context) {
    const code = job.code ?? "";
    if (code.includes("// dies") && context.attempt === 1) return { kind: "failed", failure: { code: "worker_crashed", message: "The worker process died.", retryable: true, diagnostics: [] }, error: "The worker process died." };
    if (code.includes("// slow")) {
      await new Promise<void>((resolve) => {
        const timer = systemClock.after(120_000, resolve);
        context.signal.addEventListener("abort", () => (timer.cancel(), resolve()));
      });
    }
    return pool.run(job, context);
  },
};
const queue = await composeQueue({ nodeId: "node-1", settings, store: createMemoryStore({ clock: systemClock }), runner, clock: systemClock, report: () => {}, counters: {} });
const app = await buildServer({ queue, settings: { host: "127.0.0.1", allowedHosts: undefined, maxBodyBytes: 8e6 }, logger: memoryLog().logger, clock: systemClock });
await app.listen({ port: 0, host: "127.0.0.1" });
const url = `http://127.0.0.1:${(app.server.address() as { port: number }).port}`;
const submit = (chatId: string, code: string, extra: object = {}) => queue.enqueue({ chatId, messageId: `msg-${chatId.length}${code.length}`, code, ...extra } as never);

for (const chatId of ["landing-page", "checkout-flow", "chart-demo", "todo-app"]) for (let index = 0; index < 4; index++) await submit(chatId, counter);
const done = await queue.waitFor((await submit("landing-page", greet)).id);
const failed = await queue.waitFor((await submit("todo-app", broken)).id);
for (const chatId of ["support-bot", "weather-card", "a-chat-with-a-name-that-is-longer-than-any-column-would-like-it-to-be-000123"]) await queue.waitFor((await submit(chatId, broken)).id);
await queue.waitFor((await submit("support-bot", refused)).id);
for (let index = 0; index < 9; index++) await queue.waitFor((await submit(`import-${index}`, `import x from "https://cdn${index}.example.com/lib.js";\n`)).id);
await queue.pauseChat("checkout-flow");
for (let index = 0; index < 3; index++) await submit("checkout-flow", counter);
await submit("nightly-report", counter, { delayMs: 3_600_000 });
for (let index = 0; index < 40; index++) await submit("long-line", counter, { delayMs: index === 0 ? 120_000 : 0 });
const waiting = await submit("long-line", counter);
await queue.forTenant("acme").enqueue({ chatId: "tenant-chat", messageId: "m1", code: counter });
await submit("flaky-worker", `// dies\n${counter}`);

const browser = await openBrowser();
await mkdir(values.into, { recursive: true });
const pages: [name: string, where: string, narrow: boolean][] = [
  ["lanes", "lanes", true], ["job", `job/${failed.id}`, true], ["output", `job/${done.id}?output=preview`, true], ["waiting", `job/${waiting.id}`, true], ["chat", "chat/todo-app", true],
  ["failures", "failures", true], ["supervisor", "supervisor", true], ["submit", "submit", true], ["raw", `job/${failed.id}?raw=1`, true],
];
const shown = ["lanes", "job", "output", "failures", "supervisor", "submit"];
for (const colorScheme of ["light", "dark"] as const) {
  for (const width of [1280, 390]) {
    await using opened = await openPage(browser, url, { colorScheme, viewport: { width, height: width === 390 ? 1400 : 1200 }, deviceScaleFactor: values.all ? 1 : 1.5 });
    for (const [name, where, narrow] of pages) {
      if (values.only && values.only !== name) continue;
      if (!values.all && (!shown.includes(name) || (width === 390 && !narrow))) continue;
      if (name === "lanes" || name === "supervisor") for (const chatId of ["chart-demo", "game-board", "login-form"]) if ((await queue.stats()).totalRunning < 3) await submit(chatId, `// slow\n${counter}`);
      await opened.page.goto(`${url}/#/${where}`);
      await opened.page.locator("main h1").first().waitFor();
      await opened.page.locator(".loading").waitFor({ state: "detached" });
      if (name === "output") await opened.page.locator(".console", { hasText: "rendered" }).waitFor();
      if (name === "lanes" || name === "supervisor") await opened.page.locator(".chip.running, .slot.taken").first().waitFor();
      if (name === "output") await opened.page.locator("iframe").scrollIntoViewIfNeeded();
      // The figures are read a second after the last of what happened.
      await opened.page.waitForTimeout(name === "lanes" || name === "supervisor" ? 1300 : 400);
      const tall = await opened.page.evaluate<number>("document.documentElement.scrollHeight");
      const height = name === "lanes" ? Math.min(tall, width === 390 ? 1400 : 1200) : Math.min(tall, 2600);
      const session = await opened.page.context().newCDPSession(opened.page);
      const { data } = (await session.send("Page.captureScreenshot", { format: values.all ? "png" : "webp", quality: 82, captureBeyondViewport: true, clip: { x: 0, y: 0, width, height, scale: 1 } } as never)) as { data: string };
      await writeFile(path.join(values.into, `${name}-${colorScheme}-${width}.${values.all ? "png" : "webp"}`), Buffer.from(data, "base64"));
    }
    for (const error of opened.errors) console.error(error);
  }
}
await browser.close();
await app.close();
await queue.stop();
