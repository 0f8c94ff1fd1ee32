/** PostgreSQL through postgres.js: the production store's connection, shared by any number of nodes. */
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import type { Clock } from "../../clock.js";
import type { Hint } from "../store.js";
import type { Database, Orm } from "./database.js";

const channel = "buildlane";
/** Hints that come within this time go out in one statement: NOTIFY takes a global lock at commit. */
const notifyEveryMs = 20;
/** PostgreSQL refuses payloads of 8,000 bytes and more. */
const payloadBytesMax = 7500;

/** Connects lazily; `url` is a postgres:// address. `connections` bounds the pool. */
export function postgresDatabase(url: string, { clock, connections = 10 }: { clock: Clock; connections?: number }): Database {
  const client = postgres(url, { max: connections, idle_timeout: 60, connect_timeout: 5, onnotice: () => {}, connection: { application_name: "buildlane" } });
  const orm = drizzle(client) as unknown as Orm;
  const self = clock.id();
  const waiting = new Map<string, Hint>();
  let sending = false;

  async function send(): Promise<void> {
    const hints = [...waiting.values()];
    waiting.clear();
    let payload = JSON.stringify({ from: self, hints });
    if (payload.length > payloadBytesMax) payload = JSON.stringify({ from: self, hints: [{ kind: "ready" }] });
    // Lost is fine: a hint only makes another node faster than its next pulse.
    await client.unsafe("select pg_notify($1, $2)", [channel, payload], { prepare: true }).catch(() => undefined);
    sending = false;
    if (waiting.size > 0) schedule();
  }
  function schedule(): void {
    if (sending) return;
    sending = true;
    clock.after(notifyEveryMs, () => void send());
  }

  return {
    kind: "postgres",
    orm,
    async call<T>(statement: string, args: unknown[]) {
      const rows = await client.unsafe(statement, args as never[], { prepare: true });
      return (rows[0] as unknown as { answer: T }).answer;
    },
    transaction: (work) =>
      client.begin((tx) =>
        work({
          script: async (text) => void (await tx.unsafe(text).simple()),
          rows: async <R>(text: string, args: unknown[] = []) => (await tx.unsafe(text, args as never[])) as unknown as R[],
        }),
      ) as Promise<never>,
    notify(hints) {
      for (const hint of hints) waiting.set(JSON.stringify(hint), hint);
      schedule();
    },
    onNotify(listener) {
      // postgres.js listens on a connection of its own and comes back by itself after a cut.
      client
        .listen(channel, (payload) => {
          const message = JSON.parse(payload) as { from: string; hints: Hint[] };
          if (message.from !== self) message.hints.forEach(listener);
        })
        .catch(() => undefined);
    },
    close: () => client.end({ timeout: 2 }),
  };
}
