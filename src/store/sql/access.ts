/** Keys, secrets and operators' actions over SQL. */
import type { Clock } from "../../clock.js";
import { actionsMax } from "../access.js";
import type { AccessStore, KeyRow, OperatorAction } from "../access.js";
import { and, desc, eq, lt, lte, sql } from "../drizzle.js";
import { apiKeys, operatorActions, serviceSecrets } from "../schema.js";
import type { Scope } from "../scope.js";
import { reaching, reads } from "./database.js";
import type { Database } from "./database.js";

const keysMax = 1000;

const iso = (at: Date | null): string | null => at?.toISOString() ?? null;
const keyOf = (row: typeof apiKeys.$inferSelect): KeyRow => ({ ...row, createdAt: row.createdAt.toISOString(), expiresAt: iso(row.expiresAt), revokedAt: iso(row.revokedAt) });
const actionOf = (row: typeof operatorActions.$inferSelect): OperatorAction => ({ ...row, at: row.at.toISOString() });

export function sqlAccess(database: Database, clock: Clock): AccessStore {
  const { orm } = database;
  // Every request waits for some of these: none may hang on a connection that fell silent.
  const reading = reads(database, clock);
  /** Of what is written nobody knows, when the connection is cut, whether it was: not tried again, and answered in time as well. */
  const writing = <T>(write: () => Promise<T>): Promise<T> => reaching(() => database.reading(write));
  const ofKeys = (scope: Scope) => (scope === "everyone" ? undefined : eq(apiKeys.tenant, scope.tenant));
  return {
    addKey: (key) =>
      writing(async () => void (await orm.insert(apiKeys).values({ ...key, createdAt: new Date(key.createdAt), expiresAt: key.expiresAt === null ? null : new Date(key.expiresAt) }))),
    findKey: (id) =>
      reading(async () => {
        const [row] = await orm.select().from(apiKeys).where(eq(apiKeys.id, id));
        return row ? keyOf(row) : null;
      }),
    hasKeys: () => reading(async () => (await orm.select({ id: apiKeys.id }).from(apiKeys).limit(1)).length > 0),
    listKeys: (scope) => reading(async () => (await orm.select().from(apiKeys).where(ofKeys(scope)).orderBy(desc(apiKeys.createdAt), desc(apiKeys.id)).limit(keysMax)).map(keyOf)),
    revokeKey: (scope, id, at) =>
      writing(async () => {
        const [row] = await orm.update(apiKeys).set({ revokedAt: sql`least(${apiKeys.revokedAt}, ${at}::timestamptz)` }).where(and(eq(apiKeys.id, id), ofKeys(scope))).returning();
        return row ? keyOf(row) : null;
      }),
    secret: (name, made, at) =>
      reading(async () => {
        await orm.insert(serviceSecrets).values({ name, secret: made, createdAt: new Date(at) }).onConflictDoNothing();
        const [row] = await orm.select({ secret: serviceSecrets.secret }).from(serviceSecrets).where(eq(serviceSecrets.name, name));
        return (row as { secret: string }).secret;
      }),
    async record(action) {
      const [row] = await writing(async () => orm.insert(operatorActions).values({ ...action, at: new Date(action.at) }).returning({ id: operatorActions.id }));
      if (row) await writing(async () => orm.delete(operatorActions).where(lte(operatorActions.id, row.id - actionsMax)));
    },
    actions: (scope, { limit, before }) =>
      reading(async () => {
        const where = and(scope === "everyone" ? undefined : eq(operatorActions.tenant, scope.tenant), before === undefined ? undefined : lt(operatorActions.id, before));
        return (await orm.select().from(operatorActions).where(where).orderBy(desc(operatorActions.id)).limit(limit)).map(actionOf);
      }),
  };
}
