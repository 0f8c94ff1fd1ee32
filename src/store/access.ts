/** What the store keeps beside jobs: API keys, secrets that all nodes share, and what operators did. */
import type { Scope } from "./scope.js";

export interface KeyRow {
  /** The public part of the key's own text. */
  id: string;
  name: string;
  /** `` the house's own, `*` everybody's jobs, else one tenant's. */
  tenant: string;
  scopes: string[];
  /** SHA-256 of the whole key, hexadecimal. */
  hash: string;
  /** ISO 8601, like all times. */
  createdAt: string;
  expiresAt: string | null;
  revokedAt: string | null;
}

export interface OperatorAction {
  /** Counts up; pages go by it. */
  id: number;
  at: string;
  /** A key's id, or who an embedder said it was. */
  actor: string;
  /** Whose jobs were meant; `` the house's own, `*` everybody's. */
  tenant: string;
  /** A dotted name such as `job.cancelled`. */
  action: string;
  /** A job, a chat or a key. */
  target: string | null;
  reason: string | null;
  data: Record<string, unknown>;
}

/** Actions that are kept; older ones go as new ones come. */
export const actionsMax = 100_000;

export interface AccessStore {
  addKey(key: Omit<KeyRow, "revokedAt">): Promise<void>;
  findKey(id: string): Promise<KeyRow | null>;
  /** Whether there ever was a key; revoked ones count. */
  hasKeys(): Promise<boolean>;
  /** Newest first, at most 1,000. */
  listKeys(scope: Scope): Promise<KeyRow[]>;
  /** Revokes a key from a time on (ISO), or earlier when that was said before. Null when the scope has no such key. */
  revokeKey(scope: Scope, id: string, at: string): Promise<KeyRow | null>;
  /** The secret of that name; `made` becomes it when there was none. */
  secret(name: string, made: string, at: string): Promise<string>;
  record(action: Omit<OperatorAction, "id">): Promise<void>;
  /** Newest first, those before `before`. */
  actions(scope: Scope, query: { limit: number; before?: number | undefined }): Promise<OperatorAction[]>;
}
