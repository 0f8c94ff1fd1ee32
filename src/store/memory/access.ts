/** Keys, secrets and operators' actions in memory. */
import type { AccessStore, KeyRow, OperatorAction } from "../access.js";
import { actionsMax } from "../access.js";
import type { Scope } from "../scope.js";
import { copy } from "./tables.js";

const keysMax = 1000;
const isFor = (scope: Scope, { tenant }: { tenant: string }): boolean => scope === "everyone" || tenant === scope.tenant;

export function memoryAccess(): AccessStore {
  const keys = new Map<string, KeyRow>();
  const secrets = new Map<string, string>();
  let actions: OperatorAction[] = [];
  let count = 0;
  const step = async <T>(work: () => T): Promise<T> => work();
  return {
    addKey: (key) => step(() => void keys.set(key.id, copy({ ...key, revokedAt: null }))),
    findKey: (id) => step(() => copy(keys.get(id) ?? null)),
    hasKeys: () => step(() => keys.size > 0),
    listKeys: (scope) => step(() => copy([...keys.values()].filter((key) => isFor(scope, key)).reverse().slice(0, keysMax))),
    revokeKey: (scope, id, at) =>
      step(() => {
        const key = keys.get(id);
        if (!key || !isFor(scope, key)) return null;
        key.revokedAt = key.revokedAt !== null && key.revokedAt < at ? key.revokedAt : at;
        return copy(key);
      }),
    secret: (name, made) =>
      step(() => {
        const secret = secrets.get(name) ?? made;
        secrets.set(name, secret);
        return secret;
      }),
    record: (action) =>
      step(() => {
        actions.push(copy({ id: ++count, ...action }));
        if (actions.length > actionsMax) actions = actions.slice(-actionsMax);
      }),
    actions: (scope, { limit, before = Number.POSITIVE_INFINITY }) => step(() => copy(actions.filter((action) => isFor(scope, action) && action.id < before).reverse().slice(0, limit))),
  };
}
