/** Other versions of Node, from npm's packages of it: the floor that `engines` names, and those that are maintained. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { modules } from "../support/packed.js";

export const versions = ["20.19.0", "22.23.3", "24.21.0", "26.10.0"] as const;
const fetchWaitMs = 120_000;

const packageName = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
const folderOf = (version: string): string => path.join(modules, ".cache", "buildlane", "node", version);

/** The program of a version that was fetched before; null when it was not. */
export function nodeAtHand(version: string): string | null {
  const file = path.join(folderOf(version), "node_modules", packageName, "bin", process.platform === "win32" ? "node.exe" : "node");
  return existsSync(file) ? file : null;
}

/** Fetches what is not there: some 50 MB each. Rejects with npm's reason. */
export async function fetchNode(version: string): Promise<string> {
  const found = nodeAtHand(version);
  if (found !== null) return found;
  await mkdir(folderOf(version), { recursive: true });
  await promisify(execFile)("npm", ["install", "--prefix", folderOf(version), "--ignore-scripts", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--no-update-notifier", `${packageName}@${version}`], { timeout: fetchWaitMs });
  const fetched = nodeAtHand(version);
  if (fetched === null) throw new Error(`${packageName}@${version} has no program where it was expected.`);
  return fetched;
}
