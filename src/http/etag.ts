/** Strong entity tags from content, and whether a client has it already (RFC 9110, 13.1.2). */
import { createHash } from "node:crypto";

export const etagOf = (content: string): string => `"${createHash("sha256").update(content).digest("base64url")}"`;

export const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined && (ifNoneMatch.trim() === "*" || ifNoneMatch.split(",").some((one) => one.trim().replace(/^W\//, "") === etag));
