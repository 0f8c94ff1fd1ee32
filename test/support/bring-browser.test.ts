import { existsSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { bringBrowser } from "../../scripts/bring-browser.mjs";
import { tempFolder } from "./temp.js";

/** Brings with an apt-get that does this for each of its parameters. */
async function bringWith(script: string, limits: { listsMs?: number; installMs?: number } = {}) {
  await using folder = await tempFolder();
  const [apt, browser] = ["apt-get", "chromium"].map((name) => path.join(folder.path, name)) as [string, string];
  await writeFile(apt, `#!/bin/sh\ncase "$*" in\n${script}\nesac\n`);
  await chmod(apt, 0o755);
  return await bringBrowser({ apt, isRoot: true, find: () => (existsSync(browser) ? browser : null), ...limits });
}

it("a machine's own Chromium is used, and where none can be had it says so and that is no fault", async () => {
  expect(await bringBrowser({ find: () => "/there" })).toEqual({ status: 0, line: "The browser tests use /there." });
  expect(await bringBrowser({ find: () => null, isRoot: false })).toMatchObject({ status: 3 });
  expect(await bringBrowser({ find: () => null, isRoot: true, apt: "/no/such/apt-get" })).toMatchObject({ status: 3 });
});

it("mirrors that cannot be reached, that take too long or have none are told with apt-get's reason, and are no fault", async () => {
  expect(await bringWith('*update*) echo "E: Could not resolve deb.example" >&2; exit 100;;')).toEqual({ status: 3, line: expect.stringContaining("E: Could not resolve deb.example") });
  expect(await bringWith("*update*) exec sleep 60;;", { listsMs: 200 })).toEqual({ status: 3, line: expect.stringContaining("it took too long") });
  expect(await bringWith('*--simulate*) echo "E: Unable to locate package chromium" >&2; exit 100;;')).toEqual({ status: 3, line: expect.stringContaining("Unable to locate") });
});

it("what apt-get offers is installed; when that fails it is a fault", async () => {
  expect(await bringWith('*--simulate*) ;;\n*install*) dir=$(dirname "$0"); echo "#!/bin/sh" > "$dir/chromium";;')).toMatchObject({ status: 0, line: expect.stringContaining("which apt-get brought") });
  expect(await bringWith('*--simulate*) ;;\n*install*) echo "E: no space left" >&2; exit 100;;')).toEqual({ status: 1, line: expect.stringContaining("no space left") });
  expect(await bringWith("*--simulate*) ;;\n*install*) ;;")).toEqual({ status: 1, line: expect.stringContaining("none where it is looked for") });
});
