/** The webhook of a whole queue, told over HTTP: signed, from two nodes, and silent about its address and secret. */
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { systemClock } from "../../src/clock.js";
import { createBuildQueue } from "../../src/index.js";
import { createLogger, logReports } from "../../src/log.js";
import { queueSettings, readSettings } from "../../src/options.js";
import { sendTo } from "../../src/webhook/send.js";
import { describePostgres, freshDatabase } from "../support/postgres.js";

const key = "canary-secret-of-thirty-two-byte";
const secret = `whsec_${Buffer.from(key).toString("base64")}`;

interface Hit {
  headers: IncomingHttpHeaders;
  body: string;
}

/** An address that keeps what it gets; `until` resolves when what it got is enough. */
async function address(answer: (hit: Hit, response: ServerResponse) => void = (_, response) => response.end("ok")) {
  const hits: Hit[] = [];
  let look = () => {};
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => void (body += chunk.toString()));
    request.on("end", () => {
      hits.push({ headers: request.headers, body });
      answer(hits.at(-1) as Hit, response);
      look();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    hits,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/canary-path`,
    until: (enough: () => boolean) =>
      new Promise<void>((resolve) => {
        look = () => void (enough() && resolve());
        look();
      }),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
const numbersOf = (hits: Hit[], chatId: string): number[] => hits.map(({ body }) => JSON.parse(body) as { chatId: string; number: number }).filter((one) => one.chatId === chatId).map(({ number }) => number);

it("tells each event once it happened, signed so that an independent computation agrees, and keeps address and secret out of the log", async () => {
  let refused = 0;
  await using at = await address((_, response) => void (refused++ === 0 ? response.writeHead(503).end() : response.end()));
  const lines: string[] = [];
  const options = { store: "memory" as const, run: () => "canary-result", webhookUrl: at.url, webhookSecret: secret };
  const logger = createLogger("trace", { write: (line) => void lines.push(line) });
  await using queue = await createBuildQueue({ ...options, onReport: logReports(logger) });
  logger.info({ settings: queue.settings }, "the settings");
  const { id } = await queue.enqueue({ chatId: "a", messageId: "m", code: '"canary-code"' });
  await queue.waitFor(id);
  await at.until(() => numbersOf(at.hits, "a").at(-1) === 3);
  expect(numbersOf(at.hits, "a")).toEqual([1, 1, 2, 3]);
  expect(at.hits.map(({ body }) => (JSON.parse(body) as { type: string }).type)).toEqual(["job.accepted", "job.accepted", "job.started", "job.completed"]);
  for (const { headers, body } of at.hits) {
    const signed = createHmac("sha256", key).update(`${headers["webhook-id"] as string}.${headers["webhook-timestamp"] as string}.${body}`).digest("base64");
    expect(headers["webhook-signature"]).toBe(`v1,${signed}`);
    expect(body).not.toMatch(/canary/);
  }
  expect(new Set(at.hits.map(({ headers }) => headers["webhook-id"])).size).toBe(3);
  const log = lines.join("\n");
  expect(log).toContain("webhook.failed");
  for (const hidden of [secret, key, "canary-path"]) expect([hidden, log.includes(hidden)]).toEqual([hidden, false]);
  expect(JSON.stringify(await queue.node())).not.toMatch(/canary|whsec_/);
});

it("follows no redirect, waits for no endless answer, and names what went wrong without the address", async () => {
  await using other = await address();
  await using at = await address(({ body }, response) => {
    if (body === "redirect") response.writeHead(307, { location: other.url }).end();
    // Headers, and a body that never ends.
    else if (body === "endless") response.writeHead(200).write("…");
  });
  const send = sendTo(at.url, { clock: systemClock, timeoutMs: 1000 });
  const { signal } = new AbortController();
  expect(await send({ headers: {}, body: "redirect" }, signal)).toEqual({ kind: "answered", status: 307, retryAfterMs: null });
  expect(other.hits).toEqual([]);
  expect(await send({ headers: {}, body: "endless" }, signal)).toEqual({ kind: "answered", status: 200, retryAfterMs: null });
  expect(await send({ headers: {}, body: "silent" }, signal)).toEqual({ kind: "unreachable", reason: "timed out" });
  expect(await sendTo("http://127.0.0.1:1/canary", { clock: systemClock, timeoutMs: 5000 })({ headers: {}, body: "" }, signal)).toEqual({ kind: "unreachable", reason: expect.not.stringContaining("canary") });
});

it("is refused with a bad address or secret, which the message does not show, and with one of the two alone", async () => {
  for (const url of ["ftp://host/canary", "canary", "https://me:canary@host/"]) {
    expect(() => readSettings({ BUILDLANE_WEBHOOK_URL: url })).toThrow(/BUILDLANE_WEBHOOK_URL/);
    expect(() => readSettings({ BUILDLANE_WEBHOOK_URL: url })).not.toThrow(/canary/);
  }
  for (const text of ["canary", "whsec_canary", `whsec_${Buffer.alloc(65).toString("base64")}`]) expect(() => queueSettings({ webhookSecret: text })).toThrow(/webhookSecret/);
  await expect(createBuildQueue({ store: "memory", webhookUrl: "https://host/" })).rejects.toThrow(/together/);
  await expect(createBuildQueue({ store: "memory", webhookSecret: secret })).rejects.toThrow(/together/);
});

describePostgres("two nodes with one webhook", () => {
  it("tell every chat's events in their order, one request of a chat at a time", async () => {
    await using database = await freshDatabase();
    const inside = new Set<string>();
    const overlaps: string[] = [];
    let count = 0;
    await using at = await address(({ body }, response) => {
      const { chatId } = JSON.parse(body) as { chatId: string };
      if (inside.has(chatId)) overlaps.push(chatId);
      inside.add(chatId);
      systemClock.after(5, () => {
        inside.delete(chatId);
        response.writeHead(count++ % 7 === 0 ? 500 : 204).end();
      });
    });
    const open = () => createBuildQueue({ databaseUrl: database.url, run: () => "", webhookUrl: at.url, webhookSecret: secret });
    const [one, two] = await Promise.all([open(), open()]);
    try {
      const chats = ["a", "b", "c"];
      for (let round = 0; round < 3; round++) await Promise.all([one, two].flatMap((node) => chats.map((chatId) => node.enqueue({ chatId, messageId: "m", code: "1" }))));
      const inOrder = (chatId: string) => numbersOf(at.hits, chatId).filter((number, index, all) => number !== all[index - 1]);
      // Six jobs a chat: accepted, started, completed.
      await at.until(() => chats.every((chatId) => new Set(numbersOf(at.hits, chatId)).size === 18));
      for (const chatId of chats) expect(inOrder(chatId)).toEqual(Array.from({ length: 18 }, (_, index) => index + 1));
      expect(overlaps).toEqual([]);
    } finally {
      await Promise.all([one.stop(), two.stop()]);
    }
  }, 120_000);
});
