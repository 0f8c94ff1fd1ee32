/**
 * One process per folder, by a lock that the kernel drops with the process: a Unix socket that listens in the folder.
 * PGlite itself has none, and two openers of one database lose rows silently.
 *
 * Every contender listens under a name of its own that is never used again, and then looks at all the others. One that
 * answers is alive: back off. One that refuses is dead: its name can be removed at any later time, as nobody will ever
 * own it again. Whoever listens and then sees nobody alive holds the lock: of two at once, the later to listen sees the
 * other. (One fixed name would not do: between "it is dead" and "remove it" a third may have taken it over.)
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, realpath, rename, rm, symlink } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { sleep, systemClock } from "../clock.js";
import { SettingsError } from "../errors.js";

export interface FolderLock {
  /** Twice is fine. */
  release(): Promise<void>;
}

/** Other processes are real: a name must be unique among them and waiting must end, also in a simulation. */
const clock = systemClock;
const lockName = /^lock-/;
/** `sun_path` has 104 bytes on macOS and 108 on Linux, its end included; longer is cut off silently. */
const socketPathBytesMax = 100;
/** A holder whose event loop is busy (in WASM) is alive all the same: the kernel takes the call for it. */
const answerMsMax = 500;
const contentionMsMax = 10_000;

/** Locks `folder` for this process. Throws SettingsError when another process (or this one already) holds it. */
export async function lockFolder(folder: string): Promise<FolderLock> {
  if (process.platform === "win32") return lockByPipe(folder);
  const deadline = clock.monotonic() + contentionMsMax;
  for (;;) {
    const mine = await listenInFolder(folder);
    const others = await lookAtOthers(folder, mine.name);
    if (others === "none alive") {
      mine.holds();
      return { release: mine.close };
    }
    await mine.close();
    if (others !== "starting" || clock.monotonic() > deadline) throw held(folder, others === "starting" ? "" : others);
    // Others try at this very moment: one of us comes back first.
    await sleep(clock, 20 + clock.random() * 100);
  }
}

/** Its holder may be asked for what was meant to be done with the folder. */
export class FolderInUse extends SettingsError {}

/** As it is told of a holder. */
const ownName = `process ${process.pid}`;

const held = (folder: string, who: string): FolderInUse =>
  new FolderInUse(
    `The folder ${folder} is in use by another ${who === ownName ? "queue of this process" : `process${who && ` (${who})`}`}. Stop that one, give this one another dataDir (BUILDLANE_DATA_DIR), or set databaseUrl (DATABASE_URL) to share one database.`,
  );

interface Listener {
  name: string;
  /** From now on, callers are told that the lock is held. */
  holds(): void;
  close(): Promise<void>;
}

async function listenInFolder(folder: string): Promise<Listener> {
  const name = `lock-${clock.id()}`;
  const address = await shortPath(folder);
  let state = "starting";
  const server = createServer((socket) => socket.on("error", () => {}).end(`${state} ${process.pid}\n`));
  const close = async () => {
    await rm(path.join(folder, name), { force: true });
    await closeServer(server);
    await address.remove();
  };
  try {
    // Between bind and listen a socket refuses, like a dead one: only a listening one gets a name that others look at.
    await listen(server, path.join(address.folder, `new-${name}`));
    await rename(path.join(folder, `new-${name}`), path.join(folder, name));
  } catch (cause) {
    await close();
    throw new SettingsError(`The folder ${folder} cannot be locked (${String(cause)}). It must be writable and on a local file system that knows Unix sockets.`, { cause });
  }
  return { name, close, holds: () => void (state = "held") };
}

/** What the others say: nobody is alive, somebody is starting too, or (as text for people) who holds the lock. */
async function lookAtOthers(folder: string, mine: string): Promise<string> {
  const address = await shortPath(folder);
  let found = "none alive";
  try {
    for (const name of (await readdir(folder)).filter((entry) => lockName.test(entry) && entry !== mine)) {
      const answer = await ask(path.join(address.folder, name));
      if (answer === "dead") await rm(path.join(folder, name), { force: true });
      else if (answer.startsWith("starting")) found = "starting";
      else return answer.startsWith("held ") ? `process ${answer.slice("held ".length).trim()}` : "it does not answer";
    }
    return found;
  } finally {
    await address.remove();
  }
}

function ask(address: string): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect(address);
    const timer = clock.after(answerMsMax, () => socket.destroy());
    socket.on("data", (data) => void (said += String(data)));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") said = "dead";
    });
    socket.on("close", () => {
      timer.cancel();
      resolve(said);
    });
  });
}

/** The folder by a name that is short enough for a socket in it: its own, or that of a link in the folder for temporary files. */
async function shortPath(folder: string): Promise<{ folder: string; remove(): Promise<void> }> {
  const longest = path.join(folder, `new-lock-${"x".repeat(24)}`);
  if (Buffer.byteLength(longest) <= socketPathBytesMax) return { folder, remove: async () => {} };
  const home = await mkdtemp(path.join(tmpdir(), "bl-"));
  await symlink(path.resolve(folder), path.join(home, "d"));
  return { folder: path.join(home, "d"), remove: () => rm(home, { recursive: true, force: true }) };
}

/** Windows: pipes have a namespace of their own, exclusive and dropped with the process. */
async function lockByPipe(folder: string): Promise<FolderLock> {
  const server = createServer((socket) => socket.on("error", () => {}).end());
  const key = createHash("sha256").update((await realpath(folder)).toLowerCase()).digest("hex").slice(0, 32);
  await listen(server, `\\\\.\\pipe\\buildlane-${key}`).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "EADDRINUSE" ? held(folder, "") : error;
  });
  return { release: () => closeServer(server) };
}

/** `exclusive`: in a worker of node:cluster the primary would listen otherwise, and outlive it. */
const listen = (server: Server, address: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path: address, exclusive: true }, () => {
      // The lock alone keeps no process alive.
      server.unref();
      resolve();
    });
  });

const closeServer = (server: Server): Promise<void> => new Promise((resolve) => void server.close(() => resolve()));
