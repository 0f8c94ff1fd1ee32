/**
 * Short-lived tokens for one chat, so that a browser can watch its own chat without a key: `blc_`, what it is for, and an
 * HMAC-SHA256 over that. The secret is made once and kept in the database, so every node knows every token; nothing else
 * is stored, and a token cannot be revoked before it expires.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Clock } from "./clock.js";
import { validationFailed } from "./errors.js";
import type { AccessStore } from "./store/access.js";

export interface ChatGrant {
  tenant: string;
  chatId: string;
  /** ISO 8601. */
  expiresAt: string;
}

export interface ChatTokens {
  /** Rejects with BuildlaneError validation_failed. */
  issue(grant: { tenant?: string | undefined; chatId: string; expiresInMs?: number | undefined }): Promise<ChatGrant & { token: string }>;
  /** What the token grants; null for anything else. */
  verify(token: string): Promise<ChatGrant | null>;
}

export const chatTokenMs = { default: 15 * 60_000, min: 1000, max: 24 * 3_600_000 } as const;
const shape = /^blc_([\w-]{1,1000})\.([\w-]{43})$/;

export const looksLikeChatToken = (text: string): boolean => text.startsWith("blc_");

export function createChatTokens({ store, clock }: { store: AccessStore; clock: Clock }): ChatTokens {
  let secret: Promise<string> | null = null;
  const ourSecret = (): Promise<string> =>
    (secret ??= store.secret("chat_tokens", `${clock.id()}${clock.id()}`, new Date(clock.now()).toISOString()).catch((error: unknown) => {
      secret = null;
      throw error;
    }));
  const signed = async (payload: string): Promise<Buffer> => createHmac("sha256", await ourSecret()).update(`blc_${payload}`).digest();

  return {
    async issue({ tenant = "", chatId, expiresInMs = chatTokenMs.default }) {
      if (!(expiresInMs >= chatTokenMs.min && expiresInMs <= chatTokenMs.max)) throw validationFailed([{ path: "/expiresInMs", message: `Expected ${chatTokenMs.min} to ${chatTokenMs.max} milliseconds.` }]);
      const expiresMs = clock.now() + expiresInMs;
      const payload = Buffer.from(JSON.stringify([tenant, chatId, expiresMs])).toString("base64url");
      return { tenant, chatId, expiresAt: new Date(expiresMs).toISOString(), token: `blc_${payload}.${(await signed(payload)).toString("base64url")}` };
    },
    async verify(token) {
      const [, payload, signature] = shape.exec(token) ?? [];
      if (payload === undefined || signature === undefined) return null;
      const given = Buffer.from(signature, "base64url");
      const expected = await signed(payload);
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
      // Only we can have signed it, so it reads as we wrote it.
      const [tenant, chatId, expiresMs] = JSON.parse(Buffer.from(payload, "base64url").toString()) as [string, string, number];
      return expiresMs > clock.now() ? { tenant, chatId, expiresAt: new Date(expiresMs).toISOString() } : null;
    },
  };
}
