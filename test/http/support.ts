/** A real queue on the memory store whose builds end when the test says so, the server around it, and a reader of its streams. */
import type { AddressInfo } from "node:net";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { pino } from "pino";
import { systemClock } from "../../src/clock.js";
import type { Clock } from "../../src/clock.js";
import { databaseUnavailable } from "../../src/errors.js";
import { buildServer } from "../../src/http/server.js";
import type { ServerOptions } from "../../src/http/server.js";
import { createBuildQueue } from "../../src/queue.js";
import type { BuildQueueOptions } from "../../src/queue.js";
import type { BuildQueue } from "../../src/queue-api.js";
import { createMemoryStore } from "../../src/store/memory.js";

export const request = (fields: Record<string, unknown> = {}) => ({ chatId: "chat1", messageId: "msg1", code: 'console.log("test")', ...fields });

/** A build whose code is `hold` waits for `release()`; one whose code starts with `fail` fails for good; others are built at once. */
export async function controlledQueue(options: BuildQueueOptions = {}) {
  let held: (() => void)[] = [];
  const queue = await createBuildQueue({
    store: "memory",
    run: async (job, { signal }) => {
      if (job.code?.startsWith("fail")) throw Object.assign(new Error(`no: ${job.code}`), { retryable: false });
      if (job.code === "hold") {
        await new Promise<void>((resolve, reject) => {
          held.push(resolve);
          signal.addEventListener("abort", () => reject(new Error("aborted")));
        });
      }
      return `built ${job.code}`;
    },
    ...options,
  });
  return {
    queue,
    release: () => {
      for (const resolve of held) resolve();
      held = [];
    },
    [Symbol.asyncDispose]: () => queue.stop(),
  };
}

/** The queue with some of its verbs replaced. */
export const withFaults = (queue: BuildQueue, faults: Partial<BuildQueue>): BuildQueue =>
  Object.create(queue, Object.fromEntries(Object.entries(Object.getOwnPropertyDescriptors(faults)).map(([name, descriptor]) => [name, { ...descriptor, enumerable: true }]))) as BuildQueue;

/** A memory store whose reads are refused, as by a database that is away, while the test says so. */
export function storeWithOutages() {
  const store = createMemoryStore({ clock: systemClock });
  let away = false;
  const faulty = <A extends unknown[], T>(verb: (...args: A) => Promise<T>) => (...args: A): Promise<T> => (away ? Promise.reject(databaseUnavailable(new Error("away"))) : verb(...args));
  const { get, ended, events, eventStart, news, stats, lanes, access } = store;
  const { hasKeys, findKey } = access;
  Object.assign(store, { get: faulty(get), ended: faulty(ended), events: faulty(events), eventStart: faulty(eventStart), news: faulty(news), stats: faulty(stats), lanes: faulty(lanes) });
  Object.assign(access, { hasKeys: faulty(hasKeys), findKey: faulty(findKey) });
  return { store, isAway: (now: boolean) => void (away = now) };
}

export function memoryLog(level = "info") {
  const lines: string[] = [];
  const logger = pino({ level, base: null }, { write: (line: string) => void lines.push(line) }) as unknown as FastifyBaseLogger;
  return { logger, lines };
}

export async function server(queue: BuildQueue, options: Partial<ServerOptions["settings"]> & { clock?: Clock; logger?: FastifyBaseLogger } = {}) {
  const { clock = systemClock, logger = memoryLog().logger, ...settings } = options;
  const app = await buildServer({ queue, settings: { host: "127.0.0.1", allowedHosts: undefined, maxBodyBytes: 8 * 1024 * 1024, ...settings }, logger, clock });
  return Object.assign(app, { [Symbol.asyncDispose]: () => app.close() });
}

export async function listening(app: FastifyInstance): Promise<string> {
  await app.listen({ port: 0, host: "127.0.0.1" });
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
}

export interface Received {
  id?: string;
  event?: string;
  data?: Record<string, unknown>;
  comment?: string;
  retry?: string;
}

/** Reads a stream by the rules of server-sent events, comments included. */
export async function openStream(url: string, headers: Record<string, string> = {}) {
  const controller = new AbortController();
  const response = await fetch(url, { headers: { accept: "text/event-stream", ...headers }, signal: controller.signal });
  async function* parts(): AsyncGenerator<Received, void, undefined> {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        yield parse(text.slice(0, end));
        text = text.slice(end + 2);
      }
    }
  }
  const reader = parts();
  return {
    response,
    /** The next event or comment; undefined at the end. */
    next: async (): Promise<Received | undefined> => (await reader.next()).value ?? undefined,
    /** The next `count` events, without comments and the like. */
    async events(count = Number.POSITIVE_INFINITY): Promise<Received[]> {
      const found: Received[] = [];
      while (found.length < count) {
        const { value } = await reader.next();
        if (!value) break;
        if (value.event) found.push(value);
      }
      return found;
    },
    close: () => controller.abort(),
    [Symbol.asyncDispose]: async () => controller.abort(),
  };
}

function parse(block: string): Received {
  const found: Received = {};
  for (const line of block.split("\n")) {
    const [, name = "", value = ""] = /^(\w*): ?(.*)$/.exec(line) ?? [];
    if (name === "") found.comment = value;
    else if (name === "data") found.data = JSON.parse(value) as Record<string, unknown>;
    else Object.assign(found, { [name]: value });
  }
  return found;
}
