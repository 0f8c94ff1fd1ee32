/** Who may talk to a service that asks for no key: not a foreign name that resolves to this machine, and not another site's page. */
import type { IncomingMessage } from "node:http";
import { BuildlaneError } from "../errors.js";

const loopbackNames = ["localhost", "127.0.0.1", "[::1]"];
const isLoopback = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i.test(host);
const nameOf = (host: string): string => host.toLowerCase().replace(/:\d+$/, "");

/** Tells whether a Host header is answered. On for loopback binds, elsewhere when a list is set. */
export function hostCheck({ host, allowedHosts }: { host: string; allowedHosts?: string[] | undefined }): (header: string | undefined) => boolean {
  if (!isLoopback(host) && allowedHosts === undefined) return () => true;
  const bound = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  const allowed = new Set([...loopbackNames, ...(isLoopback(host) ? [bound.toLowerCase()] : []), ...(allowedHosts ?? []).map((name) => name.toLowerCase())]);
  return (header) => header !== undefined && (allowed.has(nameOf(header)) || allowed.has(header.toLowerCase()));
}

const safe = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Anything that changes something must come from here. A browser says where a request comes from (Fetch Metadata), but only
 * to https and loopback addresses; to others it tells the page's origin, which must be the host that it asks for. Where both
 * are said the first counts: a proxy that does TLS may have changed Host.
 */
export function isCrossSite({ method = "", headers }: Pick<IncomingMessage, "method" | "headers">): boolean {
  if (safe.has(method)) return false;
  const { origin, host, "sec-fetch-site": site } = headers;
  if (site !== undefined) return site === "cross-site" || site === "same-site";
  return origin !== undefined && !isOriginOf(origin, host);
}

/** Ports count; those of the scheme may be left out. `null` is nobody's origin. */
function isOriginOf(origin: string, host = ""): boolean {
  try {
    const page = new URL(origin);
    return host !== "" && page.host === new URL(`${page.protocol}//${host}`).host;
  } catch {
    return false;
  }
}

export const forbiddenHost = (header: string | undefined): BuildlaneError =>
  new BuildlaneError("forbidden_host", `Requests for host ${JSON.stringify(header?.slice(0, 100) ?? "")} are not answered. Add it to BUILDLANE_ALLOWED_HOSTS if it is yours.`);
export const crossSiteRefused = (): BuildlaneError => new BuildlaneError("cross_site_refused", "A page of another site may not change anything here. If it is yours, name its origin in BUILDLANE_CORS_ORIGINS, or have the proxy before the service pass Host.");
