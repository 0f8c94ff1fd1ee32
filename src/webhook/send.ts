/** The only file that makes requests: one POST to the operator's address, bounded in time, its answer's body left unread. */
import type { Clock } from "../clock.js";
import type { WebhookMessage } from "./message.js";

export type Sent =
  | { kind: "answered"; status: number; /** Asked for by `Retry-After`; null: not, or as a date. */ retryAfterMs: number | null }
  /** `reason` names the kind of failure; never the address. */
  | { kind: "unreachable"; reason: string };

export type Send = (message: WebhookMessage, signal: AbortSignal) => Promise<Sent>;

/** Rejects never. Redirects are answers like others: following one would take the chat's events to where nobody said. */
export const sendTo = (url: string, { clock, timeoutMs }: { clock: Clock; timeoutMs: number }): Send => async ({ headers, body }, signal) => {
  const abort = new AbortController();
  const stop = () => abort.abort();
  let timedOut = false;
  const timer = clock.after(timeoutMs, () => {
    timedOut = true;
    stop();
  });
  signal.addEventListener("abort", stop, { once: true });
  try {
    signal.throwIfAborted();
    const answer = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal: abort.signal });
    const { status } = answer;
    const seconds = answer.headers.get("retry-after") ?? "";
    void answer.body?.cancel().catch(() => undefined);
    return { kind: "answered", status, retryAfterMs: /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1000 : null };
  } catch (error) {
    return { kind: "unreachable", reason: timedOut ? "timed out" : signal.aborted ? "stopped" : codeOf(error) };
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", stop);
  }
};

/** Such as ECONNREFUSED. A message could hold the address. */
function codeOf(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === "string" && /^[A-Z0-9_]{1,60}$/.test(code)) return code;
  }
  return "no answer";
}
