/** PostgreSQL through postgres.js: the production store's connection, shared by any number of nodes. */
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import type { Clock } from "../../clock.js";
import type { Hint } from "../store.js";
import { channel } from "./database.js";
import type { Database, Orm } from "./database.js";

/** Hints that come within this time go out in one statement: NOTIFY takes a global lock at commit. */
const notifyEveryMs = 20;
/** PostgreSQL refuses payloads of 8,000 bytes and more. */
const payloadBytesMax = 7500;

/** Connects lazily; `url` is a postgres:// address. `connections` bounds the pool. */
export function postgresDatabase(url: string, { clock, connections = 10 }: { clock: Clock; connections?: number }): Database {
  const client = postgres(url, { max: connections, idle_timeout: 60, connect_timeout: 5, onnotice: () => {}, connection: { application_name: "buildlane" } });
  return overPostgres(client, { clock, close: () => client.end({ timeout: 2 }) });
}

/** The same over a client that somebody opened; `close` is what there is to do at the end. */
export function overPostgres(client: postgres.Sql, { clock, close }: { clock: Clock; close(): Promise<void> }): Database {
  // A pooler between may forbid prepared statements; who opened the client knows.
  const prepare = client.options.prepare;
  const orm = drizzle(client) as unknown as Orm;
  const self = clock.id();
  const waiting = new Map<string, Hint>();
  let sending = false;
  let listening: Promise<{ unlisten(): Promise<void> } | undefined> = Promise.resolve(undefined);

  async function send(): Promise<void> {
    const hints = [...waiting.values()];
    waiting.clear();
    let payload = JSON.stringify({ from: self, hints });
    if (payload.length > payloadBytesMax) payload = JSON.stringify({ from: self, hints: [{ kind: "ready" }] });
    // Lost is fine: a hint only makes another node faster than its next pulse.
    await client.unsafe("select pg_notify($1, $2)", [channel, payload], { prepare }).catch(() => undefined);
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
      const rows = await client.unsafe(statement, args as never[], { prepare });
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
      for (const hint of hints) waiting.set(`${hint.kind} ${"chatId" in hint ? hint.chatId : "nodeId" in hint ? hint.nodeId : ""}`, hint);
      schedule();
    },
    onNotify(listener) {
      // postgres.js listens on a connection of its own and comes back by itself after a cut.
      listening = client
        .listen(channel, (payload) => {
          const message = JSON.parse(payload) as { from: string; hints: Hint[] };
          if (message.from !== self) message.hints.forEach(listener);
        })
        .catch(() => undefined);
    },
    async close() {
      // Not waited for: when the database is away it would never come.
      void listening.then((one) => one?.unlisten()).catch(() => undefined);
      await close();
    },
  };
}
