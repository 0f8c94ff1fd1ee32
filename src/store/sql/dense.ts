/**
 * postgres.js 3.4.9 counts a result's rows for each connection and does not start anew when the connection is cut in the
 * middle of one: the next result then has holes where the rows of the cut one would be. Its own rows are all there.
 */
interface PendingQuery {
  resolve(result: unknown): void;
}

/** The query, whose result will have no holes. */
export function withoutHoles<Q>(query: Q): Q {
  const pending = query as Q & PendingQuery;
  const { resolve } = pending;
  const withoutHoles = (result: unknown): void => {
    if (Array.isArray(result)) closeHoles(result);
    resolve.call(pending, result);
  };
  pending.resolve = withoutHoles;
  return query;
}

function closeHoles(rows: unknown[]): void {
  let kept = 0;
  for (let at = 0; at < rows.length; at++) if (at in rows) rows[kept++] = rows[at];
  if (kept < rows.length) rows.length = kept;
}
