/**
 * An event as a signed message, in the way of Standard Webhooks (github.com/standard-webhooks): `webhook-signature` is
 * `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. Libraries of that name verify it as it is.
 */
import { createHash, createHmac } from "node:crypto";
import { eventData } from "../history/event-data.js";
import type { HistoryEvent } from "../job.js";
import { laneOfShown } from "../store/scope.js";

export interface WebhookMessage {
  headers: Record<string, string>;
  body: string;
}

/** `secret` is `whsec_` and base64; `now` milliseconds since 1970. The id stays the same however often the event is sent. */
export function signedMessage(event: HistoryEvent, secret: string, now: number): WebhookMessage {
  const { type, number } = event;
  const body = JSON.stringify(Object.assign({ type, number }, eventData(event), { type, number }));
  // A chat id may hold anything; a hash of it fits into a header and has no full stop, which would make the signed text ambiguous.
  const id = `evt_${createHash("sha256").update(JSON.stringify([laneOfShown(event), number, event.at])).digest("hex").slice(0, 32)}`;
  const timestamp = String(Math.floor(now / 1000));
  const signature = createHmac("sha256", Buffer.from(secret.slice("whsec_".length), "base64")).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { headers: { "content-type": "application/json", "user-agent": "Buildlane", "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` }, body };
}
