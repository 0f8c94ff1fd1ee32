/**
 * API keys. A key is `bl_`, its public id (12 letters and digits), a secret (42) and a checksum (6): a scanner can tell a
 * leaked one, and a mistyped one is refused without asking the database. Only its SHA-256 is kept; it is shown once.
 * A found key is believed for `freshMs`, so a key revoked on another node works on this one for at most that long.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Clock } from "./clock.js";
import { BuildlaneError, validationFailed } from "./errors.js";
import type { Issue } from "./errors.js";
import { keepLatest } from "./keep-latest.js";
import type { AccessStore, KeyRow } from "./store/access.js";
import { isTenantName } from "./store/scope.js";
import type { Scope } from "./store/scope.js";

/** What a key may be allowed to do: `operate` changes what was submitted and holds lanes, `admin` is allowed everything. */
export const accessScopes = ["submit", "read", "operate", "admin"] as const;
export type AccessScope = (typeof accessScopes)[number];

export interface KeyInfo {
  id: string;
  name: string;
  /** `` the house's own, `*` everybody's jobs, else one tenant's. */
  tenant: string;
  scopes: AccessScope[];
  createdAt: string;
  expiresAt: string | null;
  revokedAt: string | null;
}
export type NewKeyInfo = KeyInfo & {
  /** The key itself, told this once. */
  key: string;
};

export interface KeyRequest {
  name?: string | undefined;
  tenant?: string | undefined;
  scopes?: readonly AccessScope[] | undefined;
  /** Milliseconds from now; unset: never. */
  expiresInMs?: number | undefined;
}

export interface Keys {
  /** Rejects with BuildlaneError validation_failed. */
  create(request: KeyRequest): Promise<NewKeyInfo>;
  list(scope: Scope): Promise<KeyInfo[]>;
  /** Rejects with BuildlaneError key_not_found. */
  revoke(scope: Scope, id: string): Promise<KeyInfo>;
  /** A new key with the same rights; the old one works for `graceMs` more, at most 30 days. Rejects with BuildlaneError validation_failed, key_not_found. */
  rotate(scope: Scope, id: string, graceMs: number): Promise<NewKeyInfo>;
  /** The key that this text is, when it may be used now. */
  verify(text: string): Promise<KeyInfo | null>;
  /** Whether there ever was a key: from then on one is asked for. */
  exist(): Promise<boolean>;
}

export const everyTenant = "*";
export const graceMsMax = 30 * 24 * 3_600_000;
const freshMs = 2000;
const rememberedMax = 10_000;
const nameCharsMax = 100;
const yearMs = 365 * 24 * 3_600_000;
const shape = /^bl_([0-9A-Za-z]{12})[0-9A-Za-z]{42}([0-9A-Za-z]{6})$/;

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
const base36 = (count: number): string => count.toString(36).padStart(6, "0").slice(-6);
const checksum = (body: string): string => base36(crc32(body));

/** The id of a well-formed key; null for anything else. */
export function keyId(text: string): string | null {
  const found = shape.exec(text);
  return found && found[2] === checksum(text.slice(0, -6)) ? (found[1] as string) : null;
}

const infoOf = ({ hash: _hash, scopes, ...row }: KeyRow): KeyInfo => ({ ...row, scopes: scopes as AccessScope[] });

function issuesOf({ name, tenant, scopes, expiresInMs }: KeyRequest): Issue[] {
  const issues: Issue[] = [];
  if (name !== undefined && (typeof name !== "string" || name.length > nameCharsMax || /\p{Cc}/u.test(name) || !name.isWellFormed())) issues.push({ path: "/name", message: `Expected at most ${nameCharsMax} characters without control characters.` });
  if (tenant !== undefined && tenant !== "" && tenant !== everyTenant && !isTenantName(tenant)) issues.push({ path: "/tenant", message: "Expected 1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit, or *." });
  if (scopes !== undefined && (scopes.length === 0 || scopes.some((scope) => !accessScopes.includes(scope)))) issues.push({ path: "/scopes", message: `Expected some of ${accessScopes.join(", ")}.` });
  if (expiresInMs !== undefined && !(expiresInMs >= 1000 && expiresInMs <= 10 * yearMs)) issues.push({ path: "/expiresInMs", message: "Expected one second to ten years, in milliseconds." });
  return issues;
}

const scopesDefault: readonly AccessScope[] = ["submit", "read"];
/** Whether it lets its bearer administer the whole service, and not one tenant. */
const administers = ({ tenant = "", scopes = scopesDefault }: Pick<KeyRequest, "tenant" | "scopes">): boolean => scopes.includes("admin") && (tenant === "" || tenant === everyTenant);

/**
 * The first key closes the service to all without one: it must be one that can make others. `others` are keys that are
 * kept elsewhere. Rejects with BuildlaneError validation_failed.
 */
export async function refuseLockout(keys: Pick<Keys, "exist">, request: KeyRequest, others: readonly Pick<KeyRequest, "tenant" | "scopes">[] = []): Promise<void> {
  if (administers(request) || others.some(administers) || (await keys.exist())) return;
  throw validationFailed([{ path: "/scopes", message: "From the first key on everything needs one, and with this one nobody could make another. Make one with admin first, of no tenant: buildlane keys create --name operator --scopes admin." }]);
}

const notFound = (id: string): BuildlaneError => new BuildlaneError("key_not_found", `There is no key ${id}.`);

export function createKeys({ store, clock }: { store: AccessStore; clock: Clock }): Keys {
  const remembered = new Map<string, { row: KeyRow | null; readAt: number }>();
  let existing: { known: boolean; readAt: number } = { known: false, readAt: Number.NEGATIVE_INFINITY };
  const isoIn = (ms: number): string => new Date(clock.now() + ms).toISOString();

  async function find(id: string): Promise<KeyRow | null> {
    const known = remembered.get(id);
    if (known && clock.monotonic() - known.readAt < freshMs) return known.row;
    const readAt = clock.monotonic();
    const row = await store.findKey(id);
    remembered.delete(id);
    remembered.set(id, { row, readAt });
    keepLatest(remembered, rememberedMax);
    return row;
  }

  async function create(request: KeyRequest): Promise<NewKeyInfo> {
    const issues = issuesOf(request);
    if (issues.length > 0) throw validationFailed(issues);
    const { name = "", tenant = "", scopes = scopesDefault, expiresInMs } = request;
    const id = clock.id().slice(0, 12);
    const body = `bl_${id}${clock.id()}${clock.id()}`;
    const key = `${body}${checksum(body)}`;
    const row = { id, name, tenant, scopes: [...new Set(scopes)], hash: sha256(key).toString("hex"), createdAt: isoIn(0), expiresAt: expiresInMs === undefined ? null : isoIn(expiresInMs) };
    await store.addKey(row);
    existing = { known: true, readAt: 0 };
    return { ...infoOf({ ...row, revokedAt: null }), key };
  }

  return {
    create,
    list: async (scope) => (await store.listKeys(scope)).map(infoOf),
    async revoke(scope, id) {
      const row = await store.revokeKey(scope, id, isoIn(0));
      remembered.delete(id);
      if (!row) throw notFound(id);
      return infoOf(row);
    },
    async rotate(scope, id, graceMs) {
      if (!(graceMs >= 0 && graceMs <= graceMsMax)) throw validationFailed([{ path: "/graceMs", message: "Expected up to 30 days, in milliseconds." }]);
      const old = await store.findKey(id);
      if (!old || (scope !== "everyone" && old.tenant !== scope.tenant) || (old.revokedAt !== null && Date.parse(old.revokedAt) <= clock.now())) throw notFound(id);
      const left = old.expiresAt === null ? undefined : Math.max(1000, Date.parse(old.expiresAt) - Date.parse(old.createdAt));
      const fresh = await create({ name: old.name, tenant: old.tenant, scopes: old.scopes as AccessScope[], expiresInMs: left });
      await store.revokeKey(scope, id, isoIn(graceMs));
      remembered.delete(id);
      return fresh;
    },
    async verify(text) {
      const id = keyId(text);
      const row = id === null ? null : await find(id);
      if (!row || !timingSafeEqual(Buffer.from(row.hash, "hex"), sha256(text))) return null;
      const over = (at: string | null): boolean => at !== null && Date.parse(at) <= clock.now();
      return over(row.expiresAt) || over(row.revokedAt) ? null : infoOf(row);
    },
    async exist() {
      if (existing.known || clock.monotonic() - existing.readAt < freshMs) return existing.known;
      const readAt = clock.monotonic();
      existing = { known: await store.hasKeys(), readAt };
      return existing.known;
    },
  };
}
