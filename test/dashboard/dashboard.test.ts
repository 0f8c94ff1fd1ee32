/** The dashboard in a real browser, as a person uses it: by eye, by mouse, and by keyboard alone. */
import { gzipSync } from "node:zlib";
import Fastify from "fastify";
import type { Browser, Frame, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { buildRoutes } from "../../src/fastify.js";
import type { BuildQueue } from "../../src/index.js";
import type { AccessScope } from "../../src/keys.js";
import { dashboard } from "../../src/dashboard.js";
import { describeBrowser, openBrowser } from "../support/browser.js";
import { storeWithOutages } from "../http/support.js";
import { buildService, startService } from "../support/service.js";
import type { Service } from "../support/service.js";
import { tempFolder } from "../support/temp.js";
import { bundle, colourRules, faults, openPage, serve, show, slowness } from "./support.js";

let browser: Browser;
beforeAll(() => bundle());
beforeAll(buildService, 120_000);

const chips = (page: Page, chat: string) => page.locator(`[data-chat="${chat}"] .chip`).evaluateAll((all) => all.map((one) => `${one.getAttribute("data-seq")} ${one.getAttribute("data-status")}`));
const code = (what = "") => `const greeting = "hello";\n${what}\nexport default greeting;\n`;
/** Goes on with Tab until the element with this text has the focus. */
async function tabTo(page: Page, name: string | RegExp): Promise<void> {
  for (let count = 0; count < 80; count++) {
    await page.keyboard.press("Tab");
    const label = await page.evaluate<string>('`${document.activeElement?.getAttribute("title") ?? ""}|${document.activeElement?.textContent ?? ""}`');
    if (typeof name === "string" ? label.split("|").includes(name) : name.test(label)) return;
  }
  throw new Error(`the focus never came to ${name}`);
}

/** The page and its routes in somebody's application, which lets in by these keys. */
async function behindKeys(queue: BuildQueue, keys: Record<string, AccessScope>) {
  const app = Fastify();
  const authorize = ({ headers }: { headers: { authorization?: string | undefined } }) => {
    const scope = keys[headers.authorization?.replace("Bearer ", "") ?? ""];
    return scope ? { tenant: "*", scopes: [scope] } : null;
  };
  await app.register(buildRoutes, { queue, prefix: "/api/builds", authorize });
  await app.register(dashboard);
  return { app, url: await app.listen({ port: 0, host: "127.0.0.1" }) };
}

it("is one page with at most 60 KB of scripts, and nothing from elsewhere or inline", async () => {
  await using served = await serve();
  const response = await fetch(served.url);
  const html = await response.text();
  const policy = response.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  expect(html).not.toMatch(/(src|href)="https?:|<style|style="|\son\w+=/);
  const scripts = [...html.matchAll(/src="([^"]+\.js)"/g)].map(([, src]) => src as string);
  const sizes = await Promise.all(scripts.map(async (src) => gzipSync(Buffer.from(await (await fetch(new URL(src, served.url))).arrayBuffer())).length));
  expect(scripts.length).toBeGreaterThan(0);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(60 * 1024);
  const coding = async (accepted: string) => {
    const { headers, text } = await fetch(new URL(scripts[0] as string, served.url), { headers: { "accept-encoding": accepted } }).then(async (answer) => ({ headers: answer.headers, text: await answer.text() }));
    return [headers.get("content-encoding"), headers.get("vary"), text.length];
  };
  const [, , length] = await coding("identity");
  for (const accepted of ["gzip", "br, gzip;q=0.5"]) expect(await coding(accepted)).toEqual(["gzip", "accept-encoding", length]);
  for (const accepted of ["identity", "gzip;q=0, *;q=0.1", "gzip2"]) expect(await coding(accepted)).toEqual([null, "accept-encoding", length]);
});

describeBrowser("the dashboard", () => {
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  it("fills lanes live, in order, while two chats run", async () => {
    await using served = await serve({ concurrency: 2 });
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    await page.getByText("No lanes yet").waitFor();
    for (let index = 1; index <= 3; index++) for (const chatId of ["alpha", "beta"]) await served.queue.enqueue({ chatId, messageId: `m${index}`, code: code("// hold") });
    for (const chat of ["alpha", "beta"]) {
      await page.locator(`[data-chat="${chat}"] .chip.running`).waitFor();
      await expect.poll(() => chips(page, chat)).toEqual(["1 running", "2 pending", "3 pending"]);
    }
    served.release();
    for (const chat of ["alpha", "beta"]) await expect.poll(() => chips(page, chat)).toEqual(["1 completed", "2 running", "3 pending"]);
    served.open();
    for (const chat of ["alpha", "beta"]) await expect.poll(() => chips(page, chat)).toEqual(["1 completed", "2 completed", "3 completed"]);
    expect(errors).toEqual([]);
  });

  it("shows a failing build's frame at its line, its machine's last state, and the steps before", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("this is broken") });
    await served.queue.waitFor(id);
    await page.locator('[data-chat="alpha"] .chip.bad').click();
    const marked = page.locator(".line.marked");
    await marked.waitFor();
    expect(await marked.getAttribute("data-line")).toBe("2");
    expect(await marked.locator(".caret").innerText()).toMatch(/^ {2}\^\^ /);
    expect(await marked.innerText()).toContain('Expected ";" but found "is"');
    // What is wrong comes first.
    expect(await page.locator(".panel h2").allInnerTexts()).toEqual(["Error", "How it went", "Code"]);
    const active = () => page.locator(".chart").getAttribute("data-active");
    await expect.poll(active).toBe("failed");
    await page.getByRole("slider").focus();
    await page.keyboard.press("ArrowLeft");
    await expect.poll(active).toBe("running running.building");
    expect(page.url()).toContain("step=1");
    expect(errors).toEqual([]);
  });

  it("shows how long each attempt waited, built and settled", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    const job = await served.queue.waitFor(id);
    const at = (ms: number) => new Date(Date.parse(job.createdAt) + ms).toISOString();
    const attempts = [
      { attempt: 1, startedAt: at(100), endedAt: at(300), runMs: null, outcome: "rescued", failureCode: "node_lost", nodeId: "n1" },
      { attempt: 2, startedAt: at(400), endedAt: at(1000), runMs: 400, outcome: "completed", failureCode: null, nodeId: "n2" },
    ];
    await page.route(`**/api/builds/${id}`, (route) => route.fulfill({ json: { ok: true, data: { ...job, attempt: 2, startedAt: at(400), completedAt: at(1000), attempts } } }));
    await page.goto(`${served.url}/#/job/${id}`);
    await expect.poll(() => page.locator(".waterfall .times").allInnerTexts()).toEqual(["100 ms waiting · 200 ms building", "100 ms waiting again · 400 ms building · 200 ms settling"]);
    const bars = await page.locator('[data-attempt="2"] rect').evaluateAll((all) => all.map((one) => [one.getAttribute("class")?.split(" ")[0], Number(one.getAttribute("x")), Number(one.getAttribute("width"))]));
    expect(bars).toEqual([["wait", 30, 10], ["work", 40, 40], ["settle", 80, 20]]);
    expect(errors).toEqual([]);
  });

  it("answers why a build is not running where one looks: in the lane, on its chat's page and on its own", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// flaky") });
    const behind = await served.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    await page.locator('[data-chat="alpha"] .state', { hasText: "Backing off #1 attempt 2 in" }).waitFor();
    await page.goto(`${served.url}/#/chat/alpha`);
    await page.locator(".state", { hasText: "Backing off #1 attempt 2 in" }).waitFor();
    await page.goto(`${served.url}/#/job/${behind.id}`);
    const told = () => page.locator("[data-why]").innerText();
    await expect.poll(told).toMatch(/^Behind job 1 of its chat, which backs off after attempt 1 until \d\d:\d\d:\d\d\. Its turn comes when job 1 ends or is cancelled\. See job 1\. Position 2 in its chat; starts in about [\d.]+ s/);
    await served.queue.pause();
    await expect.poll(told).toBe("The whole queue is paused. It goes on when the queue is resumed. See job 1. Position 2 in its chat.");
    await served.queue.enqueue({ chatId: "beta", messageId: "m1", code: code() });
    await page.goto(`${served.url}/#/lanes`);
    await page.locator('[data-chat="beta"] .state', { hasText: "In line until the queue is resumed" }).waitFor();
    expect(errors).toEqual([]);
  });

  it("says the day with the time, in the reader's language, unless it is today", async () => {
    await using served = await serve();
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code(), delayMs: 3 * 86_400_000 });
    const { nextAttemptAt } = await served.queue.get(id);
    for (const locale of ["en-US", "de-DE"]) {
      await using opened = await openPage(browser, served.url, { locale, timezoneId: "Asia/Tokyo" });
      const { page } = opened;
      await page.goto(`${served.url}/#/job/${id}`);
      const day = new Date(nextAttemptAt as string).toLocaleDateString(locale, { month: "short", day: "numeric", timeZone: "Asia/Tokyo" });
      await expect.poll(() => page.locator("[data-why] strong").innerText()).toMatch(new RegExp(`^Delayed by its submitter, until .*${day}.* \\d\\d:\\d\\d:\\d\\d\\.$`));
      expect(await page.locator(".facts time").innerText()).toMatch(/^\d\d:\d\d:\d\d$/);
    }
  });

  it("says of what waits and runs what is so: held jobs wait, a cap is the room, and who outlasts the others ends nobody knows when", async () => {
    await using served = await serve({ concurrency: 2, clusterConcurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const figure = (name: string) => page.locator(".figure", { hasText: name }).locator("dd");
    await expect.poll(() => figure("Queued").innerText()).toMatch(/^0\s+nothing waits$/);
    for (let index = 0; index < 3; index++) await served.queue.waitFor((await served.queue.enqueue({ chatId: "alpha", messageId: `m${index}`, code: code() })).id);
    await served.queue.enqueue({ chatId: "alpha", messageId: "m4", code: code("// hold") });
    const behind = await served.queue.enqueue({ chatId: "alpha", messageId: "m5", code: code() });
    await expect.poll(() => figure("Running").innerText()).toMatch(/^1\s+of 1 \(cluster cap\)/);
    await expect.poll(() => figure("Queued").innerText()).toMatch(/^1\s+all behind another, delayed or held$/);
    await page.goto(`${served.url}/#/job/${behind.id}`);
    await expect.poll(() => page.locator("[data-why]").innerText()).toMatch(/Position 2 in its chat\.$/);
    expect(errors).toEqual([]);
  });

  it("tells a chat that its policy holds from one that a person paused, and leads to the job that failed; to the newer job where one is superseded", async () => {
    await using served = await serve();
    const { queue } = served;
    await queue.setPolicy("alpha", { afterFailure: "hold" });
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const failed = await queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("this is broken") });
    await queue.waitFor(failed.id);
    const old = await queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    const newer = await queue.enqueue({ chatId: "alpha", messageId: "m3", code: code(), supersede: "pending" });
    await queue.pauseChat("beta");
    await queue.enqueue({ chatId: "gamma", messageId: "m", code: code(), delayMs: 60_000 });
    await queue.pauseChat("gamma");
    const state = (chat: string) => page.locator(`[data-chat="${chat}"] .state`);
    for (const again of [false, true]) {
      // By events, then as it is read.
      if (again) await page.reload();
      await expect.poll(() => state("alpha").innerText()).toMatch(/^Held\s+since job 1 failed$/);
      expect(await state("gamma").innerText()).toMatch(/^Paused/);
    }
    await state("alpha").getByRole("link").click();
    await page.getByRole("heading", { name: "Job 1" }).waitFor();
    await page.goto(`${served.url}/#/chat/alpha`);
    await page.locator(".state", { hasText: "Held since job 1 failed" }).waitFor();
    await page.goto(`${served.url}/#/job/${newer.id}`);
    expect(await page.getByRole("link", { name: "See the job that failed." }).getAttribute("href")).toBe(`#/job/${failed.id}`);
    await page.goto(`${served.url}/#/job/${old.id}`);
    await page.locator(".facts div", { hasText: "Superseded by" }).getByRole("link").click();
    await page.locator(".facts", { hasText: newer.id }).waitFor();
    await queue.resumeChat("alpha");
    await page.goto(`${served.url}/#/lanes`);
    await expect.poll(() => state("alpha").innerText()).toBe("Idle");
    expect(errors).toEqual([]);
  });

  it("reads a job once and when something happens to it; while it waits, only why, and only where one looks", async () => {
    await using served = await serve({ concurrency: 1 });
    const done = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    await served.queue.waitFor(done.id);
    await served.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code("// hold") });
    const waiting = await served.queue.enqueue({ chatId: "alpha", messageId: "m3", code: code() });
    const page = await browser.newPage();
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url().replace(`${served.url}/api/builds/`, "")));
    const since = async (act: () => Promise<unknown>, id: string) => {
      asked.length = 0;
      await act();
      return [asked.filter((url) => url === id).length, asked.filter((url) => url === `${id}/why`).length];
    };
    await page.clock.install();
    const later = async () => {
      // Beyond the page's next looks, and until what they ask is answered. A page hears no heartbeat in time that is made:
      // after 40 s of it its stream begins anew, and everything is read again.
      for (let times = 0; times < 3; times++) await page.clock.runFor(5100);
      await page.evaluate(() => fetch("/livez"));
    };
    await page.goto(`${served.url}/#/job/${done.id}`);
    await page.getByRole("heading", { name: "Job 1" }).waitFor();
    await page.locator('.connection[data-state="live"]').waitFor();
    await later();
    expect(await since(later, done.id)).toEqual([0, 0]);
    await page.goto(`${served.url}/#/job/${waiting.id}`);
    await page.reload();
    await page.locator("[data-why]").waitFor();
    await page.locator('.connection[data-state="live"]').waitFor();
    await later();
    const [jobs, whys] = await since(later, waiting.id);
    expect([jobs, whys]).toEqual([0, expect.any(Number)]);
    expect(whys).toBeGreaterThanOrEqual(2);
    await show(page, "hidden");
    await later();
    expect(await since(later, waiting.id)).toEqual([0, 0]);
    await page.close();
    served.open();
  });

  it("runs the output in a frame that has no origin and reaches nothing", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    await served.queue.waitFor(id);
    await opened.page.goto(`${served.url}/#/job/${id}?output=preview`);
    await opened.page.locator(".console", { hasText: "built" }).waitFor();
    const frame = opened.page.frames().find((one) => one.url().endsWith("/preview"));
    expect(await frame?.locator("#root").innerText()).toBe("seen");
    expect(await frame?.evaluate("self.origin")).toBe("null");
    expect(await frame?.evaluate(`fetch("/api/builds/stats").then(() => "reached", () => "refused")`)).toBe("refused");
  });

  it("cancels, retries and redrives in bulk by mouse, with the count first", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    const running = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// hold") });
    const waiting = await served.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    await page.goto(`${served.url}/#/job/${waiting.id}`);
    await page.locator('[data-why="behind"]').waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await expect.poll(async () => (await served.queue.get(waiting.id)).failure?.code).toBe("cancelled");
    await page.getByRole("button", { name: "Retry" }).click();
    await expect.poll(async () => (await served.queue.get(waiting.id)).status).toBe("pending");
    served.open();
    await served.queue.waitFor(running.id);
    const failed = await served.queue.enqueueMany(["a", "b", "c"].map((chatId) => ({ chatId, messageId: "m", code: code("this is broken") })));
    await Promise.all(failed.jobs.map(({ id }) => served.queue.waitFor(id)));
    await page.goto(`${served.url}/#/failures`);
    await page.getByRole("button", { name: "Redrive all" }).click();
    await page.getByText("3 jobs.").waitFor();
    await page.getByRole("button", { name: "Redrive 3", exact: true }).click();
    await expect.poll(async () => (await Promise.all(failed.jobs.map(({ id }) => served.queue.get(id)))).map(({ attempt, status }) => `${status} ${attempt}`)).toEqual(["failed 2", "failed 2", "failed 2"]);
  });

  it("does the same by keyboard alone", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// hold") });
    const waiting = await served.queue.enqueue({ chatId: "beta", messageId: "m2", code: code() });
    await page.locator('[data-chat="beta"] .chip').waitFor();
    await tabTo(page, /message m2/);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Job 1" }).waitFor();
    await tabTo(page, "Cancel");
    await page.keyboard.press("Enter");
    await expect.poll(async () => (await served.queue.get(waiting.id)).failure?.code).toBe("cancelled");
    await page.getByRole("button", { name: "Retry" }).waitFor();
    await tabTo(page, "Retry");
    await page.keyboard.press("Space");
    await expect.poll(async () => (await served.queue.get(waiting.id)).status).toBe("pending");
    served.open();
    const failed = await served.queue.enqueue({ chatId: "gamma", messageId: "m", code: code("this is broken") });
    await served.queue.waitFor(failed.id);
    await tabTo(page, /^\|Failures/);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Redrive all" }).waitFor();
    await tabTo(page, "Redrive all");
    await page.keyboard.press("Enter");
    await page.getByText("1 job.").waitFor();
    await tabTo(page, "Redrive 1");
    await page.keyboard.press("Enter");
    await expect.poll(async () => (await served.queue.get(failed.id)).attempt).toBe(2);
    await page.getByRole("button", { name: "Discard all" }).waitFor();
    await tabTo(page, "Discard all");
    await page.keyboard.press("Enter");
    await page.getByText("1 job.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("1 job.").waitFor({ state: "detached" });
    await tabTo(page, `Discard job 1 of gamma`);
    await page.keyboard.press("Enter");
    await page.getByText("Nothing failed for good").waitFor();
    expect(await served.store.countDeadLetters("everyone", {})).toBe(0);
  });

  it("takes the keyboard along to a new page, names it, and leaves no one behind with a button that is gone", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// hold") });
    await served.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    const focus = () => page.evaluate<string>("document.activeElement.id || document.activeElement.localName");
    expect([await page.title(), await focus()]).toEqual(["Lanes · Buildlane", "body"]);
    await page.getByRole("link", { name: "alpha", exact: true }).press("Enter");
    await expect.poll(() => page.title()).toBe("alpha · Buildlane");
    expect(await focus()).toBe("main");
    await page.locator(".row", { hasText: "message m2" }).getByRole("link").press("Enter");
    await expect.poll(() => page.title()).toBe("Job 2 · alpha · Buildlane");
    expect(await focus()).toBe("main");
    await page.getByRole("button", { name: "Cancel" }).press("Enter");
    await page.getByRole("button", { name: "Retry" }).waitFor();
    expect(await focus()).toBe("h1");
    expect(await page.locator('p[role="status"]').innerText()).toBe("Cancel was asked for.");
    await page.keyboard.press("Tab");
    expect(await page.evaluate<string>("document.activeElement.textContent")).toBe("Previous");
    served.open();
  });

  it("groups dead letters as the service does, and redrives or discards a whole group of more than one answer holds", async () => {
    const many = 1050;
    await using served = await serve({ concurrency: 50, maxPending: 5000, maxAttempts: 1 });
    const { queue, store } = served;
    const request = (index: number, what: string) => ({ chatId: `chat-${index % 100}`, messageId: `m${index}`, code: code(what) });
    for (let from = 0; from < many; from += 525) await queue.enqueueMany(Array.from({ length: 525 }, (_, index) => request(from + index, "this is broken")));
    const crashed = await queue.enqueue({ chatId: "flaky", messageId: "m", code: code("// flaky") });
    await queue.waitFor(crashed.id);
    await expect.poll(() => store.countDeadLetters("everyone", {})).toBe(many + 1);
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    await page.goto(`${served.url}/#/failures`);
    const [broken, flaky] = [page.locator(".group").nth(0), page.locator(".group").nth(1)];
    await expect.poll(() => broken.locator(".group-facts strong").innerText()).toBe(String(many));
    await expect.poll(() => broken.locator(".row").count()).toBe(6);
    await broken.getByRole("button", { name: "Show 50 more" }).click();
    await expect.poll(() => broken.locator(".row").count()).toBe(56);

    await broken.getByRole("button", { name: `Redrive these ${many}` }).click();
    await broken.getByText("1,050 jobs.").waitFor();
    await broken.getByRole("button", { name: "Redrive 1,050" }).click();
    const attempts = async () => {
      const counts: Record<number, number> = {};
      for (let cursor: string | undefined; ; ) {
        const { jobs, nextCursor } = await store.list("everyone", { deadLetters: true, limit: 200, include: { code: false, result: false }, cursor });
        for (const job of jobs) counts[job.attempt] = (counts[job.attempt] ?? 0) + 1;
        if (nextCursor === null) return counts;
        cursor = nextCursor;
      }
    };
    await expect.poll(attempts, { timeout: 20_000 }).toEqual({ 1: 1, 2: many });

    await page.goto(`${served.url}/#/failures?code=worker_crashed`);
    await expect.poll(() => page.locator(".group").count()).toBe(1);
    await page.getByRole("button", { name: "Discard all that match" }).click();
    await page.getByText("1 job.").waitFor();
    await page.getByRole("button", { name: "Discard 1", exact: true }).click();
    await page.getByText("No failure matches").waitFor();
    await page.goto(`${served.url}/#/failures`);
    await page.getByRole("button", { name: "Discard all" }).click();
    await page.getByPlaceholder("Reason (optional)").fill("they are all the same");
    await page.getByRole("button", { name: "Discard 1,050" }).click();
    await page.getByText("Nothing failed for good").waitFor();
    expect(await store.countDeadLetters("everyone", {})).toBe(0);
    expect(await flaky.count()).toBe(0);
    expect(errors).toEqual([]);
  });

  it("says that it is stale while the server is away, and is live and right when it is back", async () => {
    const first = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, first.url);
    const { page } = opened;
    await first.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    await expect.poll(() => chips(page, "alpha")).toEqual(["1 completed"]);
    await first.close();
    await page.locator('.connection[data-state="stale"]').waitFor();
    await using second = await serve({ store: first.store, port: first.port, concurrency: 1 });
    for (let index = 2; index <= 4; index++) await second.queue.enqueue({ chatId: "alpha", messageId: `m${index}`, code: code(index === 3 ? "this is broken" : "") });
    await page.locator('.connection[data-state="live"]').waitFor();
    await expect.poll(() => chips(page, "alpha")).toEqual(["1 completed", "2 completed", "3 failed", "4 completed"]);
    const last = await second.queue.enqueue({ chatId: "alpha", messageId: "m5", code: code() });
    await second.queue.waitFor(last.id);
    await expect.poll(() => chips(page, "alpha")).toEqual(["1 completed", "2 completed", "3 failed", "4 completed", "5 completed"]);
  });

  it("shows on a phone what runs and waits in a lane, and moves nothing when the service goes away", async () => {
    const served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url, { viewport: { width: 390, height: 844 } });
    const { page } = opened;
    for (let index = 1; index <= 8; index++) await served.queue.waitFor((await served.queue.enqueue({ chatId: "alpha", messageId: `m${index}`, code: code() })).id);
    for (const messageId of ["running", "waiting"]) await served.queue.enqueue({ chatId: "alpha", messageId, code: code("// hold") });
    const waiting = page.locator('[data-chat="alpha"] .chip[data-status="pending"]');
    await page.locator('[data-chat="alpha"] .chip.running').waitFor();
    await waiting.waitFor();
    const row = await page.locator('[data-chat="alpha"] .chips').boundingBox();
    const chip = await waiting.boundingBox();
    expect((chip?.x ?? 390) + (chip?.width ?? 0)).toBeLessThanOrEqual((row?.x ?? 0) + (row?.width ?? 0));
    const top = async () => (await page.locator("main").boundingBox())?.y;
    const before = await top();
    await served.close();
    await page.locator('.connection[data-state="stale"]').waitFor();
    expect(await top()).toBe(before);
  });

  it("says that it is stale while the service's database is away, also when it was opened meanwhile, and goes on when it is back; so does a page's own EventSource", async () => {
    const { store, isAway } = storeWithOutages();
    await using service = await serve({ store, concurrency: 1 });
    await using before = await openPage(browser, service.url);
    await using meanwhile = await openPage(browser, service.url);
    const { id } = await service.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    await expect.poll(() => chips(before.page, "alpha")).toEqual(["1 completed"]);
    isAway(true);
    await meanwhile.page.reload();
    for (const { page } of [before, meanwhile]) await page.locator('.connection[data-state="stale"]').waitFor();
    const told = meanwhile.page.evaluate(
      (path) =>
        new Promise<string>((resolve) => {
          const events = new EventSource(path);
          events.addEventListener("job.completed", () => (events.close(), resolve("told")));
          events.onerror = () => events.readyState === EventSource.CLOSED && resolve("gave up for good");
        }),
      `/api/builds/${id}/events`,
    );
    const given = meanwhile.page.evaluate((path) => new Promise<string>((resolve) => (new EventSource(path).onerror = ({ target }) => (target as EventSource).readyState === EventSource.CLOSED && resolve("gave up for good"))), "/api/builds/none/events");
    // Both are open now.
    await expect.poll(async () => (await fetch(`${service.url}/metrics`)).text()).toMatch(/^buildlane_streams 4$/m);
    isAway(false);
    expect([await told, await given]).toEqual(["told", "gave up for good"]);
    for (const { page } of [before, meanwhile]) await page.locator('.connection[data-state="live"]').waitFor();
    await service.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    for (const { page, errors } of [before, meanwhile]) {
      await expect.poll(() => chips(page, "alpha")).toEqual(["1 completed", "2 completed"]);
      expect(errors).toEqual([]);
    }
  });

  it("comes back after a long outage also when the first byte takes its time", async () => {
    const first = await serve();
    const page = await browser.newPage();
    await page.clock.install();
    await page.goto(first.url);
    await page.locator('.connection[data-state="live"]').waitFor();
    await first.close();
    await page.locator('.connection[data-state="stale"]').waitFor();
    const since = await page.locator(".connection").innerText();
    await page.clock.fastForward(60_000);
    // Longer than the page looks whether it has heard something.
    await page.route("**/api/builds/events", (route) => setTimeout(() => void route.continue().catch(() => undefined), 3000));
    await using second = await serve({ store: first.store, port: first.port });
    expect(await page.locator(".connection").innerText()).toBe(since);
    await page.locator('.connection[data-state="live"]').waitFor();
    expect(second.url).toBe(first.url);
    await page.close();
  });

  it("holds no stream while it is hidden, so that many tabs leave each other connections, and is right again when looked at", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// hold") });
    await page.goto(`${served.url}/#/job/${id}`);
    const streams = async () => /^buildlane_streams (\d+)$/m.exec(await (await fetch(`${served.url}/metrics`)).text())?.[1];
    await expect.poll(streams).toBe("2");
    await page.locator('.chart[data-active="running running.building"]').waitFor();
    await show(page, "hidden");
    await expect.poll(streams, { timeout: 15_000 }).toBe("0");
    served.open();
    await served.queue.waitFor(id);
    await show(page, "visible");
    await page.locator('.connection[data-state="live"]').waitFor();
    await page.locator('.chart[data-active="completed"]').waitFor();
    await expect.poll(streams).toBe("1");
    // A glance at another tab closes nothing.
    await show(page, "hidden");
    await show(page, "visible");
    await page.goto(`${served.url}/#/lanes`);
    await expect.poll(() => chips(page, "alpha")).toEqual(["1 completed"]);
    expect(errors).toEqual([]);
  });

  it("goes through a kill -9 of the service: stale, then live, each job and each of its steps once", { timeout: 90_000 }, async () => {
    await using folder = await tempFolder();
    const env = { BUILDLANE_DATA_DIR: folder.path, BUILDLANE_CONCURRENCY: "1" };
    const first = await startService(env);
    const services = [first];
    try {
      await using opened = await openPage(browser, first.url);
      const { page } = opened;
      const ids: string[] = [];
      const submit = async (service: Service, count: number) => {
        for (let index = 0; index < count; index++) ids.push((await service.submit("alpha", `m${ids.length}`, `export default ${ids.length};`)).json.data.id);
      };
      await submit(first, 20);
      await page.locator('[data-chat="alpha"] .chip').first().waitFor();
      first.kill("SIGKILL");
      await first.exited;
      await page.locator('.connection[data-state="stale"]').waitFor();
      const second = await startService({ ...env, PORT: new URL(first.url).port });
      services.push(second);
      await page.locator('.connection[data-state="live"]').waitFor();
      await submit(second, 3);
      for (const id of ids) expect((await second.settled(id))["status"]).toBe("completed");
      // The lane shows the latest; the page of the last job, all that became of it.
      await expect.poll(() => chips(page, "alpha")).toEqual([18, 19, 20, 21, 22, 23].map((seq) => `${seq} completed`));
      await page.goto(`${first.url}/#/job/${ids.at(-1)}`);
      await expect.poll(async () => (await page.locator("main").innerText()).match(/accepted|started|completed/gi)?.length ?? 0).toBeGreaterThan(2);
      const { json } = await second.call("GET", "/api/builds/chat/alpha?limit=200");
      expect(json.data.completed.map((job: { chatSeq: number }) => job.chatSeq)).toEqual(Array.from({ length: 23 }, (_, index) => 23 - index));
    } finally {
      for (const service of services) {
        service.kill("SIGKILL");
        await service.exited;
      }
    }
  });

  it("has no buttons that change something when it is read-only, and the service refuses such requests", async () => {
    await using served = await serve({ readOnly: true });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    const job = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("this is broken") });
    await served.queue.waitFor(job.id);
    await page.locator('[data-chat="alpha"] .chip').waitFor();
    for (const where of ["lanes", `job/${job.id}`, "chat/alpha", "failures", "supervisor", "submit"]) {
      await page.goto(`${served.url}/#/${where}`);
      await page.locator("main h1, main h2").first().waitFor();
      const names = await page.getByRole("button").allInnerTexts();
      expect(names.filter((name) => /Pause|Resume|Cancel|Retry|Redrive|Discard|Build/.test(name))).toEqual([]);
    }
    for (const path of [`/${job.id}/retry`, "/pause", "/dead-letters/discard"]) {
      const response = await fetch(`${served.url}/api/builds${path}`, { method: "POST" });
      expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([403, "read_only"]);
    }
  });

  it("shows another tenant's lane, its chat and its jobs, with the buttons that can work and no others", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const acme = served.queue.forTenant("acme");
    const [, failed] = [await served.queue.enqueue({ chatId: "one", messageId: "ours", code: code() }), await acme.enqueue({ chatId: "one", messageId: "theirs", code: code("this is broken") })];
    await acme.waitFor(failed.id);
    const theirs = page.locator(".lane", { hasText: "acme" });
    await theirs.getByRole("button", { name: "Retry" }).click();
    await expect.poll(async () => (await acme.get(failed.id)).attempt).toBe(2);
    await acme.waitFor(failed.id);
    await acme.enqueue({ chatId: "one", messageId: "held", code: code("// hold") });
    await theirs.locator(".chip.running").waitFor();
    expect(await theirs.getByRole("button").count()).toBe(0);
    await theirs.getByRole("link", { name: "one", exact: true }).click();
    await expect.poll(() => page.locator(".rows .row-main").allInnerTexts()).toEqual(["#2 message held", "#1 message theirs"]);
    expect(await page.locator("main .tools").getByRole("button").count()).toBe(0);
    await page.locator(".row", { hasText: "theirs" }).getByRole("link").click();
    await page.getByRole("link", { name: "Next" }).click();
    await page.getByRole("heading", { name: "Job 2" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await expect.poll(async () => (await acme.chat("one")).failed.map(({ failure }) => failure?.code)).toEqual(["cancelled", "build_failed"]);
    expect(errors).toEqual([]);
  });

  it("shows an erased chat gone: from the lanes, its own page and its jobs' pages, at once", async () => {
    await using served = await serve();
    await using lanes = await openPage(browser, served.url);
    await using chat = await openPage(browser, served.url);
    await using job = await openPage(browser, served.url);
    const { id } = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() });
    await served.queue.waitFor(id);
    await chat.page.goto(`${served.url}/#/chat/alpha`);
    await job.page.goto(`${served.url}/#/job/${id}`);
    await Promise.all([lanes.page.locator('[data-chat="alpha"]').waitFor(), chat.page.locator(".row").waitFor(), job.page.getByRole("heading", { name: "Job 1" }).waitFor()]);
    await served.queue.erase("alpha");
    await Promise.all([lanes.page.locator('[data-chat="alpha"]').waitFor({ state: "detached" }), chat.page.getByText("No jobs").waitFor(), job.page.getByText("No such job").waitFor()]);
    await served.queue.enqueue({ chatId: "alpha", messageId: "m2", code: code() });
    await expect.poll(() => chips(lanes.page, "alpha")).toEqual(["2 completed"]);
  });

  it("asks nothing of a chat or job that no address can hold", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    for (const where of ["chat/..", "chat/.", "job/.."]) {
      await page.goto(`${served.url}/#/${where}`);
      await page.getByText("No address can hold").waitFor();
    }
    expect(errors).toEqual([]);
  });

  it("is never empty: an address that cannot be read has no page, and a page that breaks says so", async () => {
    await using served = await serve();
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    await page.goto(`${served.url}/#/chat/%`);
    await page.getByText("There is no such page").waitFor();
    await page.reload();
    await page.getByText("There is no such page").waitFor();
    expect(errors).toEqual([]);
    await page.route("**/api/builds/node", (route) => route.fulfill({ json: { ok: true, data: {} } }));
    await page.getByRole("link", { name: "Supervisor" }).click();
    await page.getByText("This page broke").waitFor();
    await page.getByRole("link", { name: "Failures" }).click();
    await page.getByText("Nothing failed for good").waitFor();
  });

  it("keeps ids of either direction apart from what stands around them, counts by the service's clock, prints plainly, and says a fault once", async () => {
    await using served = await serve({ concurrency: 1 });
    const { id } = await served.queue.enqueue({ chatId: "שלום 1", messageId: "م 2", code: code("// hold") });
    await using opened = await openPage(browser, served.url, { viewport: { width: 320, height: 700 } });
    const { page, errors } = opened;
    // The reader's clock is an hour behind.
    await page.clock.install({ time: Date.now() - 3_600_000 });
    await page.reload();
    await expect.poll(() => page.locator(".chip .elapsed").innerText()).toMatch(/^[1-9]/);
    expect(await page.locator("bdi").allInnerTexts()).toEqual(["שלום 1"]);
    await page.goto(`${served.url}/#/job/${id}`);
    await expect.poll(() => page.locator("bdi").allInnerTexts()).toEqual(["שלום 1", "م 2"]);
    const crumb = page.locator(".crumbs a").first();
    expect((await crumb.boundingBox())?.height).toBeLessThan(24);
    await page.emulateMedia({ media: "print" });
    expect([await page.getByRole("navigation").count(), await page.getByRole("button", { name: "Cancel" }).count(), await page.getByRole("heading", { name: "Job 1" }).count()]).toEqual([0, 0, 1]);
    await page.emulateMedia({ media: "screen" });
    await page.goto(`${served.url}/#/submit`);
    await page.getByLabel("Chat", { exact: true }).fill("");
    await page.getByRole("button", { name: "Build it" }).click();
    const fault = await page.locator(".act-error", { hasText: "chatId" }).innerText();
    expect(fault.match(/Expected/g)).toHaveLength(1);
    expect(errors).toEqual([]);
    served.open();
  });

  it("shows what went wrong where it was tried", async () => {
    await using served = await serve({ concurrency: 1 });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    const job = await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code("// hold") });
    await page.goto(`${served.url}/#/job/${job.id}`);
    await page.route("**/cancel", (route) => route.fulfill({ status: 409, contentType: "application/json", body: '{"ok":false,"code":"already_final","message":"It has ended."}' }));
    await page.getByRole("button", { name: "Cancel" }).click();
    expect(await page.locator(".act", { hasText: "Cancel" }).getByRole("alert").innerText()).toBe("It has ended.");
    served.open();
  });

  it("scrolls through 2,000 lanes with a few rows in the document, and finds one", async () => {
    await using served = await serve({ maxPending: 5000 });
    await served.queue.pause();
    for (let from = 0; from < 2000; from += 500) await served.queue.enqueueMany(Array.from({ length: 500 }, (_, index) => ({ chatId: `chat-${from + index}`, messageId: "m", code: code() })));
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    await page.locator('[aria-label="2000 lanes"]').waitFor();
    expect(await page.locator(".lane").count()).toBeLessThan(60);
    await page.evaluate("scrollTo(0, document.body.scrollHeight)");
    await page.locator('[data-chat="chat-1999"]').waitFor();
    await page.getByPlaceholder("Filter by chat").fill("chat-1234");
    await page.locator('[aria-label="1 lanes"]').waitFor();
    expect(page.url()).toContain("q=chat-1234");
  });

  it("says where a list ends: the latest idle lanes, the latest jobs of a chat; and opens what is not in it", async () => {
    const idleMax = 300;
    await using served = await serve({ maxPending: 5000, concurrency: 50 });
    const { queue } = served;
    const first = await queue.enqueue({ chatId: "old", messageId: "m", code: code() });
    await queue.waitFor(first.id);
    await queue.enqueueMany(Array.from({ length: idleMax - 1 }, (_, index) => ({ chatId: `chat-${index}`, messageId: "m", code: code() })));
    await expect.poll(async () => (await queue.stats()).totalCompleted).toBe(idleMax);
    await using opened = await openPage(browser, served.url);
    const { page, errors } = opened;
    const all = () => page.getByRole("button", { name: /^All/ }).innerText();
    await expect.poll(all).toBe("All 300+");
    await queue.waitFor((await queue.enqueue({ chatId: "newest", messageId: "m", code: code() })).id);
    await expect.poll(() => page.locator(".lanes").getAttribute("aria-label")).toBe("300 lanes");
    await page.getByPlaceholder("Filter by chat").fill("newest");
    await page.locator('[data-chat="newest"] .chip.good').waitFor();
    await page.getByPlaceholder("Filter by chat").fill(first.id);
    expect(await page.getByRole("link", { name: `open job ${first.id}` }).getAttribute("href")).toBe(`#/job/${first.id}`);
    await page.getByPlaceholder("Filter by chat").fill("old");
    await page.getByRole("link", { name: "open chat old" }).click();
    await page.locator("main .state", { hasText: "Idle" }).waitFor();
    expect(await page.getByText("The latest 100 of each kind").count()).toBe(0);
    await queue.enqueueMany(Array.from({ length: 99 }, (_, index) => ({ chatId: "old", messageId: `n${index}`, code: code() })));
    await page.getByText("The latest 100 of each kind").waitFor();
    expect(errors).toEqual([]);
  });

  it("stays smooth while it goes through 2,000 lanes and news of them comes in", async () => {
    await using served = await serve({ maxPending: 10_000, concurrency: 8 });
    for (let from = 0; from < 2000; from += 500) await served.queue.enqueueMany(Array.from({ length: 500 }, (_, index) => ({ chatId: `chat-${from + index}`, messageId: "m", code: code(), delayMs: 600_000 })));
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    await page.locator('[aria-label="2000 lanes"]').waitFor();
    const round = async () => {
      const frames = page.evaluate<number[]>(`new Promise((resolve) => {
        const frames = [];
        const step = (document.body.scrollHeight - innerHeight) / 90;
        let last = performance.now();
        requestAnimationFrame(function next(now) {
          frames.push(now - last);
          last = now;
          scrollBy(0, step);
          if (frames.length < 90) requestAnimationFrame(next);
          else resolve(frames.slice(1));
        });
      })`);
      for (let index = 0; index < 60; index++) await served.queue.enqueue({ chatId: `news-${index % 20}`, messageId: `m${index}`, code: code() });
      const sorted = (await frames).sort((a, b) => a - b);
      await page.evaluate("scrollTo(0, 0)");
      return { p50: sorted[Math.floor(sorted.length * 0.5)] ?? 0, p95: sorted[Math.floor(sorted.length * 0.95)] ?? 0, worst: sorted.at(-1) ?? 0, slow: await slowness(browser) };
    };
    // Two frames of a screen at 60 Hz on a quiet machine; three are let pass. One more try, as the load may have come in between.
    const isSmooth = ({ p95, slow }: Awaited<ReturnType<typeof round>>) => p95 < 60 * slow;
    let { p50, p95, worst, slow } = await round();
    if (!isSmooth({ p50, p95, worst, slow })) ({ p50, p95, worst, slow } = await round());
    process.stderr.write(`frames over 2,000 lanes: p50 ${p50.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms, longest ${worst.toFixed(1)} ms; the machine was ${slow.toFixed(1)} times slower than a quiet one\n`);
    expect(p95).toBeLessThan(60 * slow);
    expect(await page.locator(".lane").count()).toBeLessThan(60);
  });

  it("has no accessibility fault on any page, in light and dark, wide and narrow", async () => {
    await using served = await serve({ concurrency: 2 });
    const { queue } = served;
    const failed = await queue.enqueue({ chatId: "failed", messageId: "m", code: code("this is broken") });
    const done = await queue.enqueue({ chatId: "done", messageId: "m", code: code() });
    await queue.enqueue({ chatId: "flaky", messageId: "m", code: code("// flaky") });
    await Promise.all([queue.waitFor(failed.id), queue.waitFor(done.id)]);
    const running = await queue.enqueue({ chatId: "alpha", messageId: "m", code: code("// hold") });
    const waiting = await queue.enqueue({ chatId: "alpha", messageId: "m", code: code() });
    await queue.enqueue({ chatId: "paused", messageId: "m", code: code(), delayMs: 60_000 });
    await queue.pauseChat("paused");
    const pages = ["lanes", `job/${failed.id}?raw=1`, `job/${done.id}?output=preview`, `job/${waiting.id}`, `job/${running.id}`, "chat/alpha", "failures", "supervisor", "submit", "nowhere"];
    const found: string[] = [];
    await Promise.all(
      [1280, 390].map(async (width) => {
        await using opened = await openPage(browser, served.url, { colorScheme: "light", viewport: { width, height: 844 }, reducedMotion: "reduce", bypassCSP: true });
        // The dark is the same document in other colours.
        const look = async (where: string) => {
          found.push(...(await faults(opened.page)).map((fault) => `${where} light ${width}: ${fault}`));
          await opened.page.emulateMedia({ colorScheme: "dark" });
          found.push(...(await faults(opened.page, colourRules)).map((fault) => `${where} dark ${width}: ${fault}`));
          await opened.page.emulateMedia({ colorScheme: "light" });
        };
        for (const where of pages) {
          await opened.page.goto(`${served.url}/#/${where}`);
          await opened.page.locator("main h1, main h2").first().waitFor();
          await opened.page.locator(".loading").waitFor({ state: "detached" });
          await look(where);
          const overflow = await opened.page.evaluate<number>("document.documentElement.scrollWidth - innerWidth");
          if (overflow > 0) found.push(`${where} ${width}: ${overflow} px wider than the window`);
        }
        await opened.page.goto(`${served.url}/#/failures`);
        await opened.page.getByRole("button", { name: "Discard all" }).click();
        await opened.page.getByRole("button", { name: "Keep" }).waitFor();
        await look("confirming");
        expect(opened.errors).toEqual([]);
      }),
    );
    expect(found).toEqual([]);
  }, 120_000);

  it("asks for a key when the queue is behind keys, under a prefix of somebody's application", async () => {
    await using served = await serve();
    const app = Fastify();
    await app.register(buildRoutes, { queue: served.queue, prefix: "/jobs/api", authorize: ({ headers }) => (headers.authorization === "Bearer right" ? { tenant: "*", scopes: ["read"] } : null) });
    await app.register(dashboard, { prefix: "/jobs", api: "/jobs/api" });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const page = await browser.newPage();
    // The refusal of the wrong key's first request comes when the right key has long been given.
    let letGo = () => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    await page.route("**/jobs/api/stats", async (route) => {
      if (route.request().headers()["authorization"] === "Bearer wrong") await held;
      await route.continue();
    });
    await page.goto(`${url}/jobs`);
    await page.getByLabel("This queue asks for a key").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText(/not accepted|valid API key/).first().waitFor();
    await page.getByLabel("This queue asks for a key").fill("right");
    await page.keyboard.press("Enter");
    await page.locator('.connection[data-state="live"]').waitFor();
    const late = page.waitForResponse((response) => response.status() === 401);
    letGo();
    await (await late).finished();
    await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
    expect(await page.getByLabel("This queue asks for a key").count()).toBe(0);
    await page.close();
    await app.close();
  });

  it("asks for another key when one may not read, or holds what no request can carry, and whenever one is to be changed", async () => {
    await using served = await serve();
    const { app, url } = await behindKeys(served.queue, { "hand-in": "submit", right: "read" });
    const page = await browser.newPage();
    await page.goto(url);
    const field = page.getByLabel("This queue asks for a key");
    const said = page.locator(".locked [role=alert]");
    for (const [key, why] of [["hand-in", /needs the scope read/], ["ключ", /Latin letters/], ["two words", /without spaces/]] as const) {
      await field.fill(key);
      await page.keyboard.press("Enter");
      await expect.poll(() => said.innerText()).toMatch(why);
    }
    await page.reload();
    await expect.poll(() => said.innerText()).toMatch(/needs the scope read/);
    await field.fill(" right\n");
    await page.keyboard.press("Enter");
    await page.locator('.connection[data-state="live"]').waitFor();
    await page.getByRole("button", { name: "Change key" }).click();
    await field.waitFor();
    expect([await said.innerText(), await page.getByRole("button", { name: "Change key" }).count()]).toEqual(["", 0]);
    await page.close();
    await app.close();
  });

  it("has no link that needs a key: the job's JSON is shown in the page, and Stately's inspector asks for an admin's key", async () => {
    await using served = await serve({ inspect: true });
    const { app, url } = await behindKeys(served.queue, { "admin-key": "admin", "read-key": "read" });
    const context = await browser.newContext();
    const page = await context.newPage();
    const done = await served.queue.waitFor((await served.queue.enqueue({ chatId: "alpha", messageId: "m1", code: code() })).id);
    await page.goto(`${url}/#/job/${done.id}`);
    await page.getByLabel("This queue asks for a key").fill("admin-key");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Raw JSON" }).click();
    const shown = await page.getByRole("region", { name: "The job as JSON" }).locator(".text").allInnerTexts();
    expect(JSON.parse(shown.join("\n"))).toMatchObject({ id: done.id, status: "completed", attempts: [{ outcome: "completed" }] });
    // Whatever else the page links to is the page itself.
    for (const where of ["lanes", `job/${done.id}`, "chat/alpha", "failures", "supervisor", "submit"]) {
      await page.goto(`${url}/#/${where}`);
      await page.locator("main h1").first().waitFor();
      const links = await page.locator("a[href]").evaluateAll((all) => all.map((one) => one.getAttribute("href") as string));
      expect(links.filter((href) => !href.startsWith("#"))).toEqual(where === "supervisor" ? ["/api/builds/inspector"] : []);
    }

    // Stands for Stately's page: says that it is there, and keeps what it is handed.
    await context.route("https://stately.ai/**", (route) => route.fulfill({ contentType: "text/html", body: `<script>const told = []; addEventListener("message", (event) => told.push(event.data)); parent.postMessage({ type: "@statelyai.connected" }, "*");</script>` }));
    const inspector = await context.newPage();
    await inspector.goto(`${url}/api/builds/inspector?chatId=beta`);
    await inspector.getByLabel("This queue asks for an admin's key").fill("read-key");
    await inspector.keyboard.press("Enter");
    await inspector.getByText(/admin/).nth(1).waitFor();
    await inspector.getByLabel("This queue asks for an admin's key").fill("admin-key");
    await inspector.keyboard.press("Enter");
    await inspector.getByText("Attached.").waitFor();
    for (const chatId of ["alpha", "beta"]) await served.queue.waitFor((await served.queue.enqueue({ chatId, messageId: "m2", code: code() })).id);
    const frame = inspector.frames().find((one) => one.url().startsWith("https://stately.ai")) as Frame;
    const names = () => frame.evaluate<string[]>(`told.filter(({ type }) => type === "@xstate.actor").map(({ name }) => name)`);
    await expect.poll(names).toEqual(["supervisor", "beta", "head"]);
    expect(JSON.stringify(await frame.evaluate("told"))).not.toContain("admin-key");
    await context.close();
    await app.close();
  });

  it("shows an event soon after it happened", async () => {
    await using served = await serve({ concurrency: 4 });
    await using opened = await openPage(browser, served.url);
    const { page } = opened;
    // When a chip is in the document and the frame that paints it begins, by the same machine's clock as the event's time.
    await page.evaluate(`globalThis.painted = {};
      new MutationObserver(() => {
        const fresh = [...document.querySelectorAll("[data-job]")].map((one) => one.dataset.job).filter((id) => !(id in painted));
        for (const id of fresh) painted[id] = 0;
        if (fresh.length > 0) requestAnimationFrame(() => fresh.forEach((id) => (painted[id] = Date.now())));
      }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-job"] });`);
    const round = async (number: number) => {
      const accepted: Record<string, number> = {};
      for (let index = 0; index < 40; index++) {
        const { id, createdAt } = await served.queue.enqueue({ chatId: `chat-${index % 8}`, messageId: `m${number}-${index}`, code: code() });
        accepted[id] = Date.parse(createdAt);
        await served.queue.waitFor(id);
      }
      const last = Object.keys(accepted).at(-1) as string;
      await expect.poll(() => page.evaluate<number>(`painted[${JSON.stringify(last)}] ?? 0`)).toBeGreaterThan(0);
      const painted = await page.evaluate<Record<string, number>>("painted");
      const waits = Object.entries(accepted).flatMap(([id, at]) => (painted[id] ? [painted[id] - at] : [])).sort((a, b) => a - b);
      expect(waits.length).toBeGreaterThanOrEqual(20);
      return { p50: waits[Math.floor(waits.length * 0.5)] ?? 0, p95: waits[Math.floor(waits.length * 0.95)] ?? 0, slow: await slowness(browser) };
    };
    let { p50, p95, slow } = await round(0);
    if (p95 >= 250 * slow) ({ p50, p95, slow } = await round(1));
    process.stderr.write(`event to pixel: p50 ${p50} ms, p95 ${p95} ms; the machine was ${slow.toFixed(1)} times slower than a quiet one\n`);
    expect(p95).toBeLessThan(250 * slow);
  });
});
