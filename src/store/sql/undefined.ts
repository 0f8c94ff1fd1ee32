/**
 * postgres.js 3.4.9 takes a query for sent before it writes its arguments. One that cannot be written, which is what
 * `undefined` is to it, ends there: the query is never answered, nor is the one that its connection does next.
 */
import type postgres from "postgres";

export function refuseUndefined(args: readonly unknown[]): void {
  const at = args.indexOf(undefined);
  if (at >= 0) throw new TypeError(`Argument ${at + 1} of a statement is undefined.`);
}

/** The client, whose `unsafe` refuses such a query before it is begun. */
export const refusingUndefined = (client: postgres.Sql): postgres.Sql =>
  new Proxy(client, {
    get(target, name) {
      if (name !== "unsafe") return Reflect.get(target, name) as unknown;
      return (...query: Parameters<postgres.Sql["unsafe"]>) => {
        refuseUndefined(query[1] ?? []);
        return target.unsafe(...query);
      };
    },
  });
