/** The packed package in the folder of somebody who uses it: nothing there but the package and what it depends on. */
import { spawn } from "node:child_process";
import { cp, mkdir, readFile, symlink } from "node:fs/promises";
import path from "node:path";
import { project } from "./fences.js";
import { tempFolder } from "./temp.js";

export const modules = path.join(project, "node_modules");
/** What packing reads. */
const needed = ["bin", "src", "machines", "migrations", "scripts", "docs", "examples", "package.json", "tsconfig.json", "README.md", "CHANGELOG.md", "SOLUTION.md", "LICENSE"];

export interface Ran {
  status: number | null;
  stdout: string;
  all: string;
}

export interface Packed extends AsyncDisposable {
  tarball: string;
  user: string;
  installed: string;
  manifest: { exports: Record<string, unknown>; dependencies: Record<string, string>; version: string; engines: { node: string } };
  /** Runs a command with the user's environment, which has nothing of ours. */
  run(command: string, args: string[], cwd: string): Promise<Ran>;
  /** One more package in the user's folder. */
  link(name: string): Promise<void>;
}

export async function packProject(): Promise<Packed> {
  const home = await tempFolder();
  const run: Packed["run"] = async (command, args, cwd) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", HOME: home.path } });
    let stdout = "";
    let all = "";
    child.stdout.on("data", (data: Buffer) => void ((stdout += String(data)), (all += String(data))));
    child.stderr.on("data", (data: Buffer) => void (all += String(data)));
    const status = await new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
    return { status, stdout, all };
  };
  // A copy, so that packing does not rebuild the dist/ that other tests are running.
  const copy = path.join(home.path, "project");
  await mkdir(copy);
  for (const name of needed) await cp(path.join(project, name), path.join(copy, name), { recursive: true });
  await symlink(modules, path.join(copy, "node_modules"));
  const manifest = JSON.parse(await readFile(path.join(copy, "package.json"), "utf8")) as Packed["manifest"];
  const pack = await run("npm", ["pack", "--silent", "--offline", "--no-update-notifier", "--pack-destination", home.path], copy);
  if (pack.status !== 0) throw new Error(`npm pack failed: ${pack.all}`);
  const tarball = path.join(home.path, `buildlane-${manifest.version}.tgz`);
  const user = path.join(home.path, "user");
  const installed = path.join(user, "node_modules", "buildlane");
  await mkdir(installed, { recursive: true });
  const unpack = await run("tar", ["-xzf", tarball, "--strip-components=1", "-C", installed], home.path);
  if (unpack.status !== 0) throw new Error(`tar failed: ${unpack.all}`);
  const link = async (name: string): Promise<void> => {
    const to = path.join(user, "node_modules", name);
    await mkdir(path.dirname(to), { recursive: true });
    await symlink(path.join(modules, name), to);
  };
  for (const name of Object.keys(manifest.dependencies)) await link(name);
  return { tarball, user, installed, manifest, run, link, [Symbol.asyncDispose]: () => home[Symbol.asyncDispose]() };
}
