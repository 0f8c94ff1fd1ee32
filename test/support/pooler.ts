/**
 * A transaction pooler on loopback, as PgBouncer is one: many clients share few sessions of the server, and each
 * transaction goes to the next free session. The first clients' own log-in opens the sessions; later ones are let in.
 * Nothing is rewritten, so a statement that was prepared in one session is unknown in the next.
 */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

export interface Pooler {
  /** The database's address by way of the pooler. */
  readonly url: string;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Session {
  socket: Socket;
  client: Client | null;
}
interface Client {
  socket: Socket;
  session: Session | null;
  /** Frames that wait for a session. */
  held: Buffer[];
  /** Answers that the session still owes: one `ReadyForQuery` for each `Sync` and `Query`. */
  owed: number;
  /** It has sent part of a question: its `Sync` is to come. */
  midway: boolean;
}

const sslRequest = 80877103;
const frame = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const authenticated = frame("R", Buffer.alloc(4));
const ready = frame("Z", Buffer.from("I"));
/** A pooler makes up its own key for cancelling: its process id is none of the server's. */
const madeUpKey = frame("K", Buffer.from([0x7f, 0xff, 0xff, 0x01, 0, 0, 0, 1]));

/** Calls back with each whole frame of a stream. */
function frames(told: (type: string, whole: Buffer) => void): (bytes: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= 5 && rest.length >= rest.readInt32BE(1) + 1) {
      const length = rest.readInt32BE(1) + 1;
      const whole = rest.subarray(0, length);
      rest = rest.subarray(length);
      told(String.fromCharCode(whole[0] as number), whole);
    }
  };
}

export async function poolerTo(databaseUrl: string, sessionsMax: number): Promise<Pooler> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const free: Session[] = [];
  const queue: Client[] = [];
  let sessions = 0;

  function assign(): void {
    while (free.length > 0 && queue.length > 0) {
      const session = free.shift() as Session;
      const client = queue.shift() as Client;
      session.client = client;
      client.session = session;
      for (const one of client.held.splice(0)) session.socket.write(one);
    }
  }
  function release(session: Session): void {
    if (session.client) session.client.session = null;
    session.client = null;
    free.push(session);
    assign();
  }
  /** The client's log-in is the session's. */
  function openSession(client: Client, startup: Buffer): void {
    const socket = connect({ port: Number(target.port), host: target.hostname, noDelay: true }, () => socket.write(startup));
    const session: Session = { socket, client };
    client.session = session;
    sockets.add(socket);
    socket.on("error", () => {});
    let loggedIn = false;
    socket.on("data", frames((type, whole) => {
      session.client?.socket.write(type === "K" ? madeUpKey : whole);
      if (type !== "Z") return;
      if (loggedIn && session.client) session.client.owed--;
      loggedIn = true;
      if (whole[5] === 73 && !session.client?.midway && !session.client?.owed) release(session);
    }));
    socket.on("close", () => session.client?.socket.destroy());
  }

  const server = createServer({ noDelay: true }, (socket) => {
    const client: Client = { socket, session: null, held: [], owed: 0, midway: false };
    sockets.add(socket);
    let greeted = false;
    const hear = frames((type, whole) => {
      if (type === "X") return void socket.end();
      // A password is part of no question.
      client.midway = type !== "S" && type !== "Q" && type !== "p";
      if (type === "S" || type === "Q") client.owed++;
      if (client.session) return void client.session.socket.write(whole);
      if (client.held.push(whole) === 1) queue.push(client);
      assign();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      sockets.delete(socket);
      // In the middle of a transaction its session cannot be given to another.
      if (client.session) client.session.socket.destroy();
    });
    socket.on("data", (bytes) => {
      if (greeted) return hear(bytes);
      if (bytes.readInt32BE(4) === sslRequest) return void socket.write("N");
      greeted = true;
      if (sessions++ < sessionsMax) openSession(client, bytes);
      else socket.write(Buffer.concat([authenticated, madeUpKey, ready]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
