/** The service's own answer to who asks: a key of the settings, or one of the table. Nobody needs one while there is none. */
import { createHash } from "node:crypto";
import type { AccessScope } from "../keys.js";
import type { BuildQueue } from "../queue-api.js";
import { credential, operator } from "./access.js";
import type { Authorize, Principal } from "./access.js";

export interface SettingsKey {
  key: string;
  tenant: string;
  scopes: AccessScope[];
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

export function authorizeByKeys(queue: BuildQueue, fromSettings: SettingsKey[] = []): Authorize {
  // Found by hash, so how long the search takes tells nothing about a key.
  const known = new Map<string, Principal>(fromSettings.map(({ key, tenant, scopes }, index) => [sha256(key), { tenant, scopes, name: `setting:${index + 1}` }]));
  return async (request) => {
    const given = credential(request);
    if (given === undefined) return request.headers.authorization === undefined && known.size === 0 && !(await queue.keys.exist()) ? operator : null;
    const ofSettings = known.get(sha256(given));
    if (ofSettings) return ofSettings;
    const key = await queue.keys.verify(given);
    if (!key) return null;
    // After a rotation it is revoked at a time to come.
    const [expiresAt] = [key.expiresAt, key.revokedAt].filter((at) => at !== null).sort();
    return { tenant: key.tenant, scopes: key.scopes, name: `key:${key.id}`, expiresAt };
  };
}
