/** What operators did: who, what, when and why. Kept in the database, newest 100,000. */
import type { Clock } from "./clock.js";
import type { AccessStore, OperatorAction } from "./store/access.js";
import type { Scope } from "./store/scope.js";

export type { OperatorAction } from "./store/access.js";

export interface Audit {
  record(action: Pick<OperatorAction, "actor" | "tenant" | "action" | "target" | "reason" | "data">): Promise<void>;
  /** Newest first. */
  list(scope: Scope, query: { limit: number; before?: number | undefined }): Promise<OperatorAction[]>;
}

export const createAudit = ({ store, clock }: { store: AccessStore; clock: Clock }): Audit => ({
  record: (action) => store.record({ ...action, at: new Date(clock.now()).toISOString() }),
  list: (scope, query) => store.actions(scope, query),
});
