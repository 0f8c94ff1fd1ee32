/** How far the webhook has told each chat's history, and who tells it now. `chatId` is the lane's key (scope.ts). */

/** The right to tell one chat's events, alone, until the lease given with the claim is over. */
export interface WebhookClaim {
  chatId: string;
  /** Number of the latest event that was told. */
  delivered: number;
  /** Tries that failed since then. */
  failures: number;
}

export interface WebhookStore {
  /** Says that there is a webhook: at the very first time history begins here for it, later nothing happens. */
  begin(now?: number): Promise<void>;
  /**
   * Puts `chatIds` into the webhook's line, those of them that have news, then takes up to `limit` chats that are due, the
   * longest due first. `claimId` is made for this call. `dueInMs`: until the first of the line is due (≤ 0: now); null: nobody is in it.
   */
  claim(request: { nodeId: string; claimId: string; chatIds: string[]; limit: number; leaseMs: number }, now?: number): Promise<{ claims: WebhookClaim[]; dueInMs: number | null }>;
  /**
   * Records what was told and gives the chat back. With `retryInMs` it is not due before that; else, with news, it goes to the
   * end of the line. False when the claim is no longer held: somebody else tells the chat, and nothing was written.
   */
  record(request: { claimId: string; chatId: string; delivered: number; failures: number; retryInMs: number | null }, now?: number): Promise<boolean>;
  /** Looks for news among the latest events and in the `limit` lanes after `after`, and puts what it finds into the line. `next` is empty behind the last lane. */
  sweep(request: { after: string; limit: number }, now?: number): Promise<{ next: string; dueInMs: number | null }>;
}
