/** How far the webhook came, and who tells which chat: the same answers from every store. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../src/store/store.js";
import { describePostgres } from "../support/postgres.js";
import { T0 } from "./programs.js";
import { openMemory, openPglite, openPostgres } from "./stores.js";
import type { OpenStore } from "./stores.js";

const limits = { agingMs: 0, pendingPerChatMax: 1000, pendingMax: 1000, rate: null };
let ids = 0;
const job = (chatId: string) => ({
  id: `w${ids++}`, chatId, messageId: "m", code: "1", files: null, entry: null, options: {} as never, codeHash: "h", priority: 0, maxAttempts: 1, timeoutMs: 1000, delayMs: 0, supersede: null,
});

const contract = (open: () => Promise<OpenStore>) => () => {
  let opened: OpenStore;
  let store: Store;
  beforeAll(async () => void (opened = await open()), 120_000);
  beforeEach(async () => void (store = await opened.reset()));
  afterAll(() => opened.close());

  const accept = (chatId: string, at: number) => store.accept([{ jobs: [job(chatId)], idempotency: null }], limits, T0 + at);
  const claim = (claimId: string, chatIds: string[], at: number, limit = 10) => store.webhook.claim({ nodeId: "n1", claimId, chatIds, limit, leaseMs: 1000 }, T0 + at);
  const record = (claimId: string, chatId: string, delivered: number, at: number, retryInMs: number | null = null, failures = 0) =>
    store.webhook.record({ claimId, chatId, delivered, failures, retryInMs }, T0 + at);

  it("begins where the history stands when the webhook is first set, and not anew later", async () => {
    for (const at of [0, 1, 2]) await accept("old", at);
    await accept("quiet", 3);
    await store.webhook.begin(T0 + 10);
    await accept("old", 20);
    await accept("new", 21);
    await store.webhook.begin(T0 + 1000);
    expect(await claim("c1", ["old", "quiet", "new", "unknown"], 2000)).toEqual({ claims: [{ chatId: "new", delivered: 0, failures: 0 }, { chatId: "old", delivered: 3, failures: 0 }], dueInMs: 1000 });
  });

  it("gives a chat to one claim at a time, until it is recorded or its lease is over, and a late record changes nothing", async () => {
    await store.webhook.begin(T0);
    await accept("a", 1);
    await accept("a", 2);
    expect((await claim("c1", ["a"], 10)).claims).toEqual([{ chatId: "a", delivered: 0, failures: 0 }]);
    expect(await claim("c2", ["a"], 11)).toEqual({ claims: [], dueInMs: 999 });
    expect((await claim("c3", ["a"], 1010)).claims).toEqual([{ chatId: "a", delivered: 0, failures: 0 }]);
    expect(await record("c1", "a", 2, 1011)).toBe(false);
    expect(await record("c3", "a", 1, 1012)).toBe(true);
    expect(await record("c3", "a", 2, 1013)).toBe(false);
    // What is left goes to the end of the line by itself.
    expect((await claim("c4", [], 1014)).claims).toEqual([{ chatId: "a", delivered: 1, failures: 0 }]);
    expect(await record("c4", "a", 2, 1015)).toBe(true);
    expect(await claim("c5", ["a"], 1016)).toEqual({ claims: [], dueInMs: null });
  });

  it("keeps a chat that failed waiting until its time, and others not", async () => {
    await store.webhook.begin(T0);
    await accept("bad", 1);
    await accept("good", 1);
    expect((await claim("c1", ["bad"], 10)).claims).toHaveLength(1);
    expect(await record("c1", "bad", 0, 20, 500, 3)).toBe(true);
    expect((await claim("c2", ["bad", "good"], 30)).claims).toEqual([{ chatId: "good", delivered: 0, failures: 0 }]);
    expect(await record("c2", "good", 1, 40)).toBe(true);
    expect(await claim("c3", ["bad"], 519)).toEqual({ claims: [], dueInMs: 1 });
    expect((await claim("c4", [], 520)).claims).toEqual([{ chatId: "bad", delivered: 0, failures: 3 }]);
  });

  it("takes no more than asked for, the longest due first, and remembers the others", async () => {
    await store.webhook.begin(T0);
    for (const chatId of ["a", "b", "c", "d"]) await accept(chatId, 1);
    expect((await claim("c1", ["d"], 10, 1)).claims.map(({ chatId }) => chatId)).toEqual(["d"]);
    expect((await claim("c2", ["c", "b"], 20, 1)).claims.map(({ chatId }) => chatId)).toEqual(["b"]);
    expect((await claim("c3", ["a"], 30, 1)).claims.map(({ chatId }) => chatId)).toEqual(["c"]);
    expect((await claim("c4", [], 40, 1)).claims.map(({ chatId }) => chatId)).toEqual(["a"]);
  });

  it("finds by page or among the latest events what no hint told of", async () => {
    await store.webhook.begin(T0);
    for (const chatId of ["a", "b", "c"]) await accept(chatId, 1);
    const late = 10 * 60_000;
    expect(await store.webhook.sweep({ after: "", limit: 2 }, T0 + late)).toEqual({ next: "b", dueInMs: 0 });
    expect((await claim("c1", [], late + 1)).claims.map(({ chatId }) => chatId)).toEqual(["a", "b"]);
    expect(await store.webhook.sweep({ after: "b", limit: 2 }, T0 + late + 2)).toEqual({ next: "", dueInMs: 0 });
    expect((await claim("c2", [], late + 3)).claims.map(({ chatId }) => chatId)).toEqual(["c"]);
    await accept("z", late + 4);
    await store.webhook.sweep({ after: "", limit: 1 }, T0 + late + 5);
    expect((await claim("c3", [], late + 6)).claims.map(({ chatId }) => chatId)).toEqual(["z"]);
  });
};

describe("the webhook's cursors in memory", contract(openMemory));
describe("the webhook's cursors on PGlite", contract(openPglite));
describePostgres("the webhook's cursors on PostgreSQL", contract(openPostgres));
