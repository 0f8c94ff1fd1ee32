/** The secrets that hostile builds are after, planted for one run, and the look through all that builds say. */
import { spawnSync } from "node:child_process";
import { symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { systemClock } from "../../src/clock.js";
import { tempFolder } from "../support/temp.js";

export interface PlantedSecrets extends AsyncDisposable {
  folder: string;
  secret: string;
  /** Fails when `said` holds a secret, or anything else that is the host's own. */
  mustNotTell(said: unknown, about: string): void;
}

/** What no text of a build ever has a reason to hold, whatever was submitted. */
const hostWords = /goroutine \d+|\.go:\d+|github\.com\/evanw|GOMAXPROCS|GOMEMLIMIT|buildlane-worker-|too many open files|no such file|permission denied|ENOENT|EACCES|ECONN|EPIPE|\n\s+at [^\n]+:\d+:\d+|node:internal/;

export async function plantSecrets(): Promise<PlantedSecrets> {
  const folder = await tempFolder();
  const secret = `secret-${systemClock.id()}`;
  const put = (name: string, text: string) => writeFile(path.join(folder.path, name), text);
  await put("canary.js", `export default "${secret}"; console.log("${secret}")`);
  await put("canary-1.js", `export default "${secret}"; console.log("${secret}")`);
  await put("canary.txt.js", `${secret} does not parse`);
  await put("canary.txt", `${secret} in a text`);
  await put("canary.json", JSON.stringify({ secret }));
  await put("canary.css", `a::after{content:"${secret}"}`);
  await put("canary.map", JSON.stringify({ version: 3, sources: [secret], sourcesContent: [secret], names: [secret], mappings: "AAAAA" }));
  await symlink(path.join(folder.path, "canary.js"), path.join(folder.path, "link.js"));
  spawnSync("mkfifo", [path.join(folder.path, "fifo")]);
  process.env["HOSTILE_SECRET"] = secret;
  const project = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
  const values = Object.entries(process.env).filter(([name, value]) => /^(HOME|PATH|HOSTILE_SECRET)$/.test(name) && (value?.length ?? 0) > 6).map(([, value]) => value as string);
  return {
    folder: folder.path,
    secret,
    mustNotTell(said, about) {
      const text = typeof said === "string" ? said : JSON.stringify(said);
      for (const word of [secret, project, ...values]) expect(text.includes(word), `${about} tells ${word}`).toBe(false);
      expect(hostWords.exec(text)?.[0] ?? null, about).toBeNull();
    },
    async [Symbol.asyncDispose]() {
      delete process.env["HOSTILE_SECRET"];
      await folder[Symbol.asyncDispose]();
    },
  };
}
