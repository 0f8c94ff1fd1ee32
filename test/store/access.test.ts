/** Keys, secrets and operators' actions: the same answers from every store. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AccessStore } from "../../src/store/access.js";
import { describePostgres } from "../support/postgres.js";
import { openMemory, openPglite, openPostgres } from "./stores.js";
import type { OpenStore } from "./stores.js";

const at = (second: number): string => new Date(1_800_000_000_000 + second * 1000).toISOString();
const key = (id: string, tenant: string, second = 0) => ({ id, name: `key ${id}`, tenant, scopes: ["submit", "read"], hash: `hash-${id}`, createdAt: at(second), expiresAt: id === "k2" ? at(99) : null });

const contract = (open: () => Promise<OpenStore>) => () => {
  let opened: OpenStore;
  let store: AccessStore;
  beforeAll(async () => {
    opened = await open();
    store = (await opened.reset()).access;
  }, 120_000);
  afterAll(() => opened.close());

  it("keeps keys by id, and shows each tenant its own, newest first", async () => {
    expect(await store.hasKeys()).toBe(false);
    for (const [index, [id, tenant]] of ([["k1", "a"], ["k2", "b"], ["k3", "a"]] as const).entries()) await store.addKey(key(id, tenant, index));
    expect(await store.hasKeys()).toBe(true);
    expect(await store.findKey("k2")).toEqual({ ...key("k2", "b", 1), revokedAt: null });
    expect(await store.findKey("nope")).toBeNull();
    expect((await store.listKeys("everyone")).map(({ id }) => id)).toEqual(["k3", "k2", "k1"]);
    expect((await store.listKeys({ tenant: "a" })).map(({ id }) => id)).toEqual(["k3", "k1"]);
  });

  it("revokes a key once and for all, the earliest time wins, and never another tenant's", async () => {
    expect(await store.revokeKey({ tenant: "b" }, "k1", at(50))).toBeNull();
    expect(await store.revokeKey({ tenant: "a" }, "k1", at(50))).toMatchObject({ id: "k1", revokedAt: at(50) });
    expect(await store.revokeKey("everyone", "k1", at(60))).toMatchObject({ revokedAt: at(50) });
    expect(await store.revokeKey("everyone", "k1", at(40))).toMatchObject({ revokedAt: at(40) });
    expect(await store.findKey("k1")).toMatchObject({ revokedAt: at(40) });
  });

  it("gives every node the first one's secret", async () => {
    const [one, other] = await Promise.all([store.secret("s", "mine", at(0)), store.secret("s", "yours", at(0))]);
    expect(other).toBe(one);
    expect(await store.secret("s", "a later one", at(1))).toBe(one);
    expect(["mine", "yours"]).toContain(one);
    expect(await store.secret("other", "yours", at(0))).toBe("yours");
  });

  it("records actions, and reads them back by tenant and page", async () => {
    for (let index = 0; index < 5; index++) await store.record({ at: at(index), actor: "key:k1", tenant: index % 2 ? "a" : "b", action: "chat.paused", target: `c${index}`, reason: index === 0 ? null : "why", data: { index } });
    const all = await store.actions("everyone", { limit: 10 });
    expect(all.map(({ target }) => target)).toEqual(["c4", "c3", "c2", "c1", "c0"]);
    expect(all[0]).toEqual({ id: expect.any(Number), at: at(4), actor: "key:k1", tenant: "b", action: "chat.paused", target: "c4", reason: "why", data: { index: 4 } });
    expect((await store.actions({ tenant: "a" }, { limit: 10 })).map(({ target }) => target)).toEqual(["c3", "c1"]);
    expect((await store.actions("everyone", { limit: 2, before: all[1]?.id })).map(({ target }) => target)).toEqual(["c2", "c1"]);
  });
};

describe("access in memory", contract(openMemory));
describe("access on PGlite", contract(openPglite));
describePostgres("access on PostgreSQL", contract(openPostgres));
