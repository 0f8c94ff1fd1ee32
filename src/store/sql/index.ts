/** The SQL store: verbs, reads and figures over one database, and the hints between its users. */
import type { Clock } from "../../clock.js";
import type { Hint, Store } from "../store.js";
import type { Database } from "./database.js";
import { sqlAccepting } from "./accept.js";
import { sqlLive } from "./live.js";
import { sqlAccess } from "./access.js";
import { createNovelties, sqlCode } from "./code.js";
import { sqlHistory } from "./history.js";
import { sqlReads } from "./reads.js";
import { sqlStats } from "./stats.js";
import { sqlVerbs } from "./verbs.js";
import { sqlWebhook } from "./webhook.js";

/** `nodeId` names the running totals that this store's writes go to. */
export function createSqlStore(database: Database, { nodeId, clock }: { nodeId: string; clock: Clock }): Store {
  const listeners = new Set<(hint: Hint) => void>();
  const novelties = createNovelties();
  const tell = (hint: Hint) => listeners.forEach((listener) => listener(hint));
  database.onNotify(tell);
  return {
    kind: database.kind,
    access: sqlAccess(database, clock),
    webhook: sqlWebhook(database),
    code: sqlCode(database, novelties),
    ...sqlAccepting(database, nodeId, clock),
    ...sqlVerbs(database, nodeId, clock, novelties),
    ...sqlReads(database, clock),
    ...sqlStats(database, clock),
    ...sqlLive(database, clock),
    ...sqlHistory(database),
    hint(hint) {
      tell(hint);
      database.notify([hint]);
    },
    onHint(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ...(database.backUp ? { backUp: database.backUp } : {}),
    close: () => database.close(),
  };
}
