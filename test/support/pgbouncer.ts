/**
 * A real PgBouncer in front of a database, in transaction mode: the machine's own, or one that `PGBOUNCER_PATH` names.
 * `pooler.ts` is ours and always there.
 */
import { spawn } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPgbouncer } from "../../scripts/bring-packages.mjs";
import { freePort } from "./postgres-cluster.js";

const pgbouncerFile = findPgbouncer();

/** Why there is none; undefined: there is. */
export const pgbouncerMissing: string | undefined =
  pgbouncerFile === null ? "no PgBouncer was found; install one, name it in PGBOUNCER_PATH, or run node scripts/bring-packages.mjs as root of a Debian" : undefined;

export interface PgBouncer {
  /** Through it. */
  url: string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** `sessions`: connections to the server for each database, over all clients. */
export async function pgbouncerTo(url: string, sessions: number): Promise<PgBouncer> {
  if (pgbouncerFile === null) throw new Error(pgbouncerMissing);
  const to = new URL(url);
  const home = await mkdtemp(path.join(tmpdir(), "buildlane-bouncer-"));
  const port = await freePort();
  // It never runs as root, and whoever it runs as must read its files; what they say is for this test's cluster only.
  await chmod(home, 0o755);
  await writeFile(path.join(home, "users.txt"), `"${to.username}" "${to.password}"\n`);
  await writeFile(
    path.join(home, "bouncer.ini"),
    `[databases]\n* = host=${to.hostname} port=${to.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\npool_mode = transaction\ndefault_pool_size = ${sessions}\n` +
      `max_client_conn = 200\nauth_type = scram-sha-256\nauth_file = ${path.join(home, "users.txt")}\n`,
  );
  const asNobody = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
  const child = spawn(pgbouncerFile, [...asNobody, path.join(home, "bouncer.ini")], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    void exited.then(() => reject(new Error(`PgBouncer ended: ${log}`)));
    child.stderr.on("data", (data: Buffer) => {
      log += data.toString();
      if (log.includes("process up")) resolve();
    });
  });
  const through = new URL(url);
  through.host = `127.0.0.1:${port}`;
  return {
    url: through.href,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
      await rm(home, { recursive: true, force: true });
    },
  };
}
