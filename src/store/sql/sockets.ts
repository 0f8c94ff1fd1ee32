/** What postgres.js talks over: sockets that end when they fall silent, and all of them when the store is closed. */
import { connect } from "node:net";
import type { Socket } from "node:net";

/**
 * Every client's sockets, to be closed with them: postgres.js forgets one that is not connected yet when its client ends, and opens one
 * that it meant to open after a while all the same. Either would keep the process from ending.
 */
export function trackedSockets() {
  const open = new Set<Socket>();
  let closed = false;
  return {
    dialer(silentMs: number) {
      const dial = dialer(silentMs);
      return (address: Address): Socket => {
        if (closed) throw Object.assign(new Error("The store is closed."), { code: "CONNECTION_ENDED" });
        const socket = dial(address);
        open.add(socket);
        return socket.once("close", () => open.delete(socket));
      };
    },
    close() {
      closed = true;
      for (const socket of open) socket.destroy();
    },
  };
}

interface Address {
  host: string[];
  port: number[];
  path: string | false;
}

/**
 * Connects as postgres.js would, hosts in turn, to sockets that end when they have been silent for too long (0: never), and say so when
 * they were closed before a word came: that is how a proxy refuses that has nobody behind it. To postgres.js it is no error: it tells
 * nobody, and tries again at once, thousands of times a second.
 */
function dialer(silentMs: number) {
  let turn = 0;
  return ({ host, port, path }: Address): Socket => {
    const at = turn++ % port.length;
    const socket = path ? connect(path) : connect({ host: host[at] as string, port: port[at] as number, noDelay: true });
    // What TLS checks the certificate against.
    Object.assign(socket, { host: host[at], port: port[at] });
    socket.once("end", () => socket.bytesRead === 0 && socket.destroy(Object.assign(new Error("The database's address took the connection and closed it."), { code: "ECONNREFUSED" })));
    socket.setTimeout(silentMs, () => socket.destroy(Object.assign(new Error("The database was silent for too long."), { code: "ETIMEDOUT" })));
    return socket;
  };
}
