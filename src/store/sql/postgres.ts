/**
 * PostgreSQL through postgres.js: the production store's connection, shared by any number of nodes. Writes, reads and
 * the pulse have connections of their own, so that none waits for another's; and every wait has an end, because
 * postgres.js itself waits for ever for an answer, and up to 20 s before it tries to connect again.
 */
import postgres from "postgres";
import { sleep } from "../../clock.js";
import type { Clock } from "../../clock.js";
import { drizzlePostgres } from "../drizzle.js";
import type { Hint } from "../store.js";
import { channel, driverError } from "./database.js";
import type { Database, Line, Orm } from "./database.js";
import { withoutHoles } from "./dense.js";
import { trackedSockets } from "./sockets.js";
import { refuseUndefined, refusingUndefined } from "./undefined.js";

/** Hints that come within this time go out in one statement: NOTIFY takes a global lock at commit. */
const notifyEveryMs = 20;
/** PostgreSQL refuses payloads of 8,000 bytes and more. */
const payloadBytesMax = 7500;

const connectMsMax = 3000;
/** Between two tries to connect: short, since a node must renew its lease as soon as the database is back. */
const reconnectMs = { from: 50, to: 250 };
/** How long a call waits for its answer: longer than it may wait for a lock. */
const answerMs: Record<Line, number> = { pulse: 2000, together: 5000, lone: 35_000, apart: 15_000, reads: 10_000 };
/** A connection that was silent for so long with an answer due was cut without a word, and is given up. */
const silentMsMax = { pulse: 4000, work: 40_000, ears: 0, steps: 0 };
const tooManyConnections = "53300";
/** How long a call waits for a connection when the server has none left. */
const roomMsMax = 2000;
/** Of batches, a turn and acceptances may be under way at once. */
const hotMax = { together: 3, reads: 2 };

export interface PostgresOptions {
  clock: Clock;
  /** Connections for writes, and for reads. */
  connections?: { work: number; reads: number };
  /** Whether statements are prepared by name; `auto`: unless a transaction pooler stands in between. */
  prepare?: "auto" | "on" | "off" | undefined;
  /** Whether hints are sent to other processes and heard from them. */
  notify?: boolean | undefined;
  /** How long a connection may be silent with an answer due, by what it is for; 0: for ever. */
  silentMs?: typeof silentMsMax;
}

/**
 * A call's client by its way, the one for whole transactions, and the one that listens. `hot`: clients of one connection each, tried before the way's own,
 * always the first that is idle. postgres.js hands out the connection that has rested longest, and a server process that
 * rested has its tables out of the processor's caches, or has yet to plan what another has planned: a tenth of a turn's time.
 */
type Clients = Record<Line, postgres.Sql> & { steps: postgres.Sql; ears: postgres.Sql; hot: { [line in Line]?: postgres.Sql[] } };

/** Connects lazily; `url` is a postgres:// address. */
export function postgresDatabase(url: string, { clock, connections = { work: 10, reads: 5 }, prepare = "auto", notify = true, silentMs = silentMsMax }: PostgresOptions): Database {
  const all: postgres.Sql[] = [];
  const sockets = trackedSockets();
  const client = (max: number, silence: number, pipelined = 0) => {
    const opened = postgres(url, {
      // It asks for array types first thing on a connection, and nobody hears of it when that is cut: the process would die.
      fetch_types: false,
      // One question at a time on a connection: the next would wait for a slow one, and a pooler's session would never be free.
      max_pipeline: pipelined,
      max, idle_timeout: 60, connect_timeout: connectMsMax / 1000, onnotice: () => {}, connection: { application_name: "buildlane" },
      backoff: () => (reconnectMs.from + clock.random() * (reconnectMs.to - reconnectMs.from)) / 1000,
      socket: sockets.dialer(silence),
    } as postgres.Options<Record<string, never>>);
    const { unsafe } = opened;
    opened.unsafe = ((...query: Parameters<typeof unsafe>) => withoutHoles(unsafe(...query))) as typeof unsafe;
    all.push(opened);
    return opened;
  };
  const singly = (count: number) => Array.from({ length: count }, () => client(1, silentMs.work));
  const hot = { together: singly(Math.min(hotMax.together, connections.work - 1)), reads: singly(Math.min(hotMax.reads, connections.reads - 1)) };
  const work = client(connections.work - hot.together.length, silentMs.work);
  const clients: Clients = {
    hot, together: work, lone: work, reads: client(connections.reads - hot.reads.length, silentMs.work, 1),
    // Two: should one be cut without a word, the next pulse has the other.
    pulse: client(2, silentMs.pulse),
    // What a person asks for may wait for a lane that is held; so may pruning. Transactions over `orm` need a place in a pipeline.
    apart: client(2, silentMs.work, 1),
    // A migration may build an index for an hour, and wait that long for another node's.
    steps: client(1, silentMs.steps, 1),
    ears: client(1, silentMs.ears),
  };
  const close = async () => {
    await Promise.all(all.map((one) => one.end({ timeout: 2 })));
    sockets.close();
  };
  return overClients(clients, { clock, prepare, notify, close });
}

/** The same over a client that somebody opened, and who knows whether it may prepare; `close` is what there is to do at the end. */
export function overPostgres(client: postgres.Sql, { clock, close }: { clock: Clock; close(): Promise<void> }): Database {
  const clients: Clients = { pulse: client, together: client, lone: client, apart: client, steps: client, reads: client, ears: client, hot: {} };
  return overClients(clients, { clock, prepare: client.options.prepare ? "auto" : "off", notify: true, close });
}

function overClients(clients: Clients, { clock, prepare, notify, close }: { clock: Clock; prepare: "auto" | "on" | "off"; notify: boolean; close(): Promise<void> }): Database {
  const { reads, ears, hot } = clients;
  const orm = drizzlePostgres(refusingUndefined(reads)) as unknown as Orm;
  const self = clock.id();
  const busy = new Set<postgres.Sql>();
  const waiting = new Map<string, Hint>();
  let sending = false;
  let closed = false;
  let listening: Promise<{ unlisten(): Promise<void> }> | null = null;

  // A pooler hands each transaction to any of its sessions: what one prepared the next does not know, and a LISTEN hears
  // nothing. It is known by the process id that it tells at the start, which is none of the server's.
  let pooled: Promise<boolean> | null = null;
  let prepared = prepare === "on";
  const isPooled = (): Promise<boolean> =>
    (pooled ??= reads.unsafe("select pg_backend_pid() as pid").then(
      (rows) => {
        const through = rows[0]?.["pid"] !== rows.state?.pid;
        if (prepare === "auto") prepared = !through;
        return through;
      },
      (error: unknown) => {
        pooled = null;
        throw error;
      },
    ));

  /** `tries`: how often the server had no connection left for this. What is open is a hot one first of all: it waits behind each in turn. */
  function clientFor(line: Line, tries: number): postgres.Sql {
    const warm = hot[line] ?? [];
    return (tries > 0 ? warm[(tries - 1) % warm.length] : warm.find((one) => !busy.has(one))) ?? clients[line];
  }
  async function query(line: Line, statement: string, args: unknown[], tries = 0) {
    refuseUndefined(args);
    const client = clientFor(line, tries);
    busy.add(client);
    try {
      return await client.unsafe(statement, args as never[], { prepare: prepared });
    } finally {
      // One that waited behind another leaves it marked idle a moment early: the next then waits behind it, and no more.
      busy.delete(client);
    }
  }

  async function send(): Promise<void> {
    const hints = [...waiting.values()];
    waiting.clear();
    let payload = JSON.stringify({ from: self, hints });
    // What chats have to say is found by who watches them; a cancel and a pause are waited for.
    if (Buffer.byteLength(payload) > payloadBytesMax) payload = JSON.stringify({ from: self, hints: [{ kind: "ready" }, ...hints.filter(({ kind }) => kind === "cancel" || kind === "paused")] });
    // Lost is fine: a hint only makes another node faster than its next pulse.
    await query("together", "select pg_notify($1, $2)", [channel, payload]).catch(() => undefined);
    sending = false;
    if (waiting.size > 0) schedule();
  }
  function schedule(): void {
    if (sending || closed) return;
    sending = true;
    clock.after(notifyEveryMs, () => void send());
  }

  async function listen(listener: (hint: Hint) => void): Promise<void> {
    // A client that has ended would open another of its own for this.
    if ((await isPooled()) || closed) return;
    // postgres.js listens on a connection of its own and comes back by itself after a cut.
    listening = ears.listen(channel, (payload) => {
      const message = JSON.parse(payload) as { from: string; hints: Hint[] };
      if (message.from !== self) message.hints.forEach(listener);
    });
    await listening;
  }

  /**
   * An answer in time, or the error of a connection that is not there. By halves: a process that stood still reads what
   * came meanwhile before it takes the database for silent.
   */
  const within = <T>(ms: number, answer: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const silent = () => reject(Object.assign(new Error(`The database did not answer within ${ms} ms.`), { code: "ETIMEDOUT" }));
      let timer = clock.after(ms / 2, () => (timer = clock.after(ms / 2, silent)));
      answer.then(resolve, reject).finally(() => timer.cancel());
    });

  /** postgres.js wants another connection as long as it may have one; when the server has none, one of ours is free soon. */
  async function withRoom<T>(work: (tries: number) => Promise<T>): Promise<T> {
    const since = clock.monotonic();
    for (let tries = 0; ; tries++) {
      try {
        return await work(tries);
      } catch (error) {
        if (driverError(error).code !== tooManyConnections || clock.monotonic() - since > roomMsMax) throw error;
        await sleep(clock, reconnectMs.from);
      }
    }
  }

  return {
    kind: "postgres",
    orm,
    async call<T>(statement: string, args: unknown[], line: Line) {
      if (pooled === null) void isPooled().catch(() => undefined);
      const rows = await withRoom((tries) => within(answerMs[line], query(line, statement, args, tries)));
      const { answer } = rows[0] as unknown as { answer: T };
      // A query of postgres.js outlives every collection but the full ones (bench/README.md), so what it brought must not hang on it.
      rows.length = 0;
      return answer;
    },
    transaction: (steps) =>
      clients.steps.begin((tx) =>
        steps({
          script: async (text) => void (await tx.unsafe(text).simple()),
          rows: async <R>(text: string, args: unknown[] = []) => (await tx.unsafe(text, args as never[])) as unknown as R[],
        }),
      ) as Promise<never>,
    reading: (read) => withRoom(() => within(answerMs.reads, read())),
    notify(hints) {
      if (!notify) return;
      for (const hint of hints) waiting.set(`${hint.kind} ${"chatId" in hint ? hint.chatId : "nodeId" in hint ? hint.nodeId : ""}`, hint);
      schedule();
    },
    onNotify(listener) {
      if (!notify) return;
      const again = (): void => {
        if (!closed) listen(listener).catch(() => void clock.after(reconnectMs.to, again));
      };
      again();
    },
    async close() {
      closed = true;
      // Not waited for: when the database is away it would never come.
      void listening?.then(({ unlisten }) => unlisten()).catch(() => undefined);
      await close();
    },
  };
}
