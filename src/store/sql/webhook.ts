/** The webhook's cursors over SQL: migrations/0014_webhook.sql. */
import type { WebhookClaim, WebhookStore } from "../webhook.js";
import { reaching } from "./database.js";
import type { Database } from "./database.js";

const beginSql = "select buildlane_webhook_begin($1) as answer";
const claimSql = "select buildlane_webhook_claim($1, $2, array(select json_array_elements_text($3::text::json)), $4, $5, $6) as answer";
const recordSql = "select buildlane_webhook_record($1, $2, $3, $4, $5, $6) as answer";
const sweepSql = "select buildlane_webhook_sweep($1, $2, $3) as answer";

export function sqlWebhook(database: Database): WebhookStore {
  const call = <T>(statement: string, args: unknown[]): Promise<T> => reaching(() => database.call<T>(statement, args, "apart"));
  return {
    begin: async (now) => void (await call(beginSql, [now ?? null])),
    claim: ({ nodeId, claimId, chatIds, limit, leaseMs }, now) => call<{ claims: WebhookClaim[]; dueInMs: number | null }>(claimSql, [nodeId, claimId, JSON.stringify(chatIds), limit, leaseMs, now ?? null]),
    record: ({ claimId, chatId, delivered, failures, retryInMs }, now) => call<boolean>(recordSql, [claimId, chatId, delivered, failures, retryInMs, now ?? null]),
    sweep: ({ after, limit }, now) => call<{ next: string; dueInMs: number | null }>(sweepSql, [after, limit, now ?? null]),
  };
}
