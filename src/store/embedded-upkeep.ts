/**
 * What a PostgreSQL server does in the background and PGlite, one process without helpers, never does by itself:
 * checkpoints (without them the WAL grows for ever: measured, 500 MB after 9 s of writing), vacuum and analyze.
 */
import type { PGlite } from "@electric-sql/pglite";
import type { Clock } from "../clock.js";

const upkeepMs = 10_000;
const walBytesMax = 32 * 1024 * 1024;
/** As autovacuum's defaults: a part of the table, and so many rows more. Checked often, so that each pause is short. */
const changedPart = 0.2;
const changedRowsMin = 1000;

export interface Upkeep {
  /** One round now. */
  round(): Promise<void>;
  /** No further round begins; resolves when the current one is over. */
  stop(): Promise<void>;
}

export function startUpkeep(client: PGlite, clock: Clock, onError: (error: unknown) => void): Upkeep {
  let stopped = false;
  let current = Promise.resolve();
  const round = () => (current = current.then(() => (stopped ? undefined : keepUp(client, () => stopped))));
  let timer = clock.after(upkeepMs, tick);
  function tick() {
    void round()
      .catch((error: unknown) => {
        current = Promise.resolve();
        if (!stopped) onError(error);
      })
      .then(() => {
        if (!stopped) timer = clock.after(upkeepMs, tick);
      });
  }
  return {
    round,
    async stop() {
      stopped = true;
      timer.cancel();
      await current.catch(() => {});
    },
  };
}

async function keepUp(client: PGlite, isStopped: () => boolean): Promise<void> {
  const wal = await client.query<{ due: boolean }>(
    "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn) > $1 as due from pg_control_checkpoint()", [walBytesMax]);
  if (wal.rows[0]?.due) await client.exec("checkpoint");
  // Counts are flushed once a second otherwise, and a round may come sooner.
  await client.query("select pg_stat_force_next_flush()");
  const tables = await client.query<{ name: string }>(
    `select format('%I.%I', schemaname, relname) as name from pg_stat_user_tables
      where greatest(n_dead_tup, n_mod_since_analyze, n_ins_since_vacuum) > $1::float8 + $2::float8 * n_live_tup`, [changedRowsMin, changedPart]);
  // One statement each: the application's own may come in between.
  for (const { name } of tables.rows) if (!isStopped()) await client.exec(`vacuum (analyze) ${name}`);
}
