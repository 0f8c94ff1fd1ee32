/**
 * A wire between the store and its database, as a TCP proxy on loopback, that a test can trouble: cut it, silence it
 * (nothing comes through and nobody is told), or lose answers while questions still arrive.
 */
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** Answers beyond this are large. */
const largeBytes = 256 * 1024;

export interface Wire {
  /** The database's address by way of this wire. */
  readonly url: string;
  /** How many were made so far. */
  readonly connections: number;
  /** Silences what is connected now and, until `restore`, what connects later. */
  silence(): void;
  /** Questions arrive, answers do not, and after the next answer every connection is cut. Resolves then. */
  loseNextAnswer(): Promise<void>;
  /** From within the next large answer on nothing is read any more, on either side, nor of connections that are new: as of a process or a network that stands still. Resolves then. */
  freezeInLargeAnswer(): Promise<void>;
  cut(): void;
  /** New connections are good again; silenced and frozen ones stay dead, as after a failover. */
  restore(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function wireTo(databaseUrl: string): Promise<Wire> {
  const target = new URL(databaseUrl);
  const pairs = new Set<{ near: Socket; far: Socket }>();
  let silent = false;
  let losing: (() => void) | null = null;
  let freezing: (() => void) | null = null;
  let isFrozen = false;
  let connections = 0;
  const server = createServer({ noDelay: true }, (near) => {
    connections++;
    const far = connect({ port: Number(target.port || 5432), host: target.hostname, noDelay: true });
    const pair = { near, far };
    let dead = silent;
    let answered = 0;
    Object.assign(pair, { kill: () => (dead = true) });
    pairs.add(pair);
    if (isFrozen) for (const socket of [near, far]) socket.pause();
    for (const socket of [near, far]) socket.on("error", () => {});
    near.on("data", (bytes) => {
      answered = 0;
      if (!dead) far.write(bytes);
    });
    far.on("data", (bytes) => {
      answered += bytes.length;
      if (freezing && answered > largeBytes) {
        freezing();
        freezing = null;
        isFrozen = true;
        for (const one of pairs) for (const socket of [one.near, one.far]) socket.pause();
      } else if (losing) {
        const lost = losing;
        losing = null;
        cut();
        lost();
      } else if (!dead) near.write(bytes);
    });
    near.on("close", () => (far.destroy(), pairs.delete(pair)));
    far.on("close", () => void (dead || near.destroy()));
  });
  function cut(): void {
    for (const { near, far } of pairs) for (const socket of [near, far]) socket.destroy();
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(databaseUrl);
  url.port = String((server.address() as AddressInfo).port);
  url.hostname = "127.0.0.1";
  return {
    url: url.href,
    get connections() {
      return connections;
    },
    silence() {
      silent = true;
      for (const pair of pairs) (pair as unknown as { kill(): void }).kill();
    },
    loseNextAnswer: () => new Promise((resolve) => (losing = resolve)),
    freezeInLargeAnswer: () => new Promise((resolve) => (freezing = resolve)),
    cut,
    restore() {
      silent = false;
      isFrozen = false;
    },
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
