/** The sources where development packages are left out (`npm ci --omit=dev`): they build, without the dashboard, and say so. */
import { execFile } from "node:child_process";
import { cp, mkdir, readFile, readdir, symlink } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { project } from "../support/fences.js";
import { modules } from "../support/packed.js";
import { tempFolder } from "../support/temp.js";

test("a build without the page's packages has no dashboard and says how to get it; the next one with them has it", async () => {
  await using home = await tempFolder();
  const own = path.join(home.path, "node_modules");
  const link = async (name: string) => {
    await mkdir(path.dirname(path.join(own, name)), { recursive: true });
    await symlink(path.join(modules, name), path.join(own, name));
  };
  for (const name of ["src", "machines", "migrations", "scripts", "package.json", "tsconfig.json"]) await cp(path.join(project, name), path.join(home.path, name), { recursive: true });
  const { dependencies } = JSON.parse(await readFile(path.join(home.path, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  for (const name of Object.keys(dependencies)) await link(name);
  // The embedded database's template is the same, and takes long to make.
  await link(".cache/buildlane");
  const node = async (...args: string[]) => promisify(execFile)(process.execPath, args, { cwd: home.path });

  expect((await node("scripts/build.mjs")).stderr).toContain("The dashboard is left out");
  const { stdout } = await node("--input-type=module", "-e", `
    import Fastify from "fastify";
    import { dashboard } from "./dist/src/dashboard.js";
    const app = Fastify();
    await app.register(dashboard);
    console.log((await app.inject("/")).body);`);
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, statusCode: 404, code: "not_found", message: expect.stringMatching(/without --omit=dev.*\/docs/) });
  expect((await node("scripts/build.mjs")).stderr).toBe("");
  for (const name of ["preact", "@preact/signals", "@preact/signals-core", "highlight.js"]) await link(name);
  expect((await node("scripts/build.mjs")).stderr).not.toContain("left out");
  expect((await readdir(path.join(home.path, "dist", "dashboard"))).filter((name) => /^(app|style)-/.test(name))).toHaveLength(2);
}, 120_000);
