import { existsSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { bring } from "../../scripts/bring-packages.mjs";
import { tempFolder } from "./temp.js";

const one = (find: () => string | null) => ({ name: "kettle", offers: ["copper-kettle", "kettle"], what: "Kettle", tests: "The tea tests", find });

/** Brings with an apt-get that does this for each of its parameters. */
async function bringWith(script: string, limits: { listsMs?: number; installMs?: number } = {}) {
  await using folder = await tempFolder();
  const [apt, kettle] = ["apt-get", "kettle"].map((name) => path.join(folder.path, name)) as [string, string];
  await writeFile(apt, `#!/bin/sh\ncase "$*" in\n${script}\nesac\n`);
  await chmod(apt, 0o755);
  return await bring(one(() => (existsSync(kettle) ? kettle : null)), { apt, isRoot: true, ...limits });
}

it("a machine's own is used, and where none can be had it says so and that is no fault", async () => {
  expect(await bring(one(() => "/there"))).toEqual({ isRequired: true, line: "The tea tests use /there." });
  expect(await bring(one(() => null), { isRoot: false })).toMatchObject({ isRequired: false });
  expect(await bring(one(() => null), { isRoot: true, apt: "/no/such/apt-get" })).toMatchObject({ isRequired: false });
});

it("mirrors that cannot be reached, that take too long or have none are told with apt-get's reason, and are no fault", async () => {
  expect(await bringWith('*update*) echo "E: Could not resolve deb.example" >&2; exit 100;;')).toEqual({ isRequired: false, line: expect.stringContaining("E: Could not resolve deb.example") });
  expect(await bringWith("*update*) exec sleep 60;;", { listsMs: 200 })).toEqual({ isRequired: false, line: expect.stringContaining("it took too long") });
  expect(await bringWith('*--simulate*) echo "E: Unable to locate package kettle" >&2; exit 100;;')).toEqual({ isRequired: false, line: expect.stringContaining("Unable to locate") });
});

it("what apt-get offers is installed; when that fails its absence is a fault", async () => {
  // The first is not on offer, the second is.
  expect(await bringWith('*--simulate*copper*) echo "E: Unable to locate" >&2; exit 100;;\n*--simulate*) ;;\n*copper*) exit 100;;\n*install*) dir=$(dirname "$0"); echo "#!/bin/sh" > "$dir/kettle";;')).toMatchObject({ isRequired: true, line: expect.stringContaining("which apt-get brought") });
  expect(await bringWith('*--simulate*) ;;\n*install*) echo "E: no space left" >&2; exit 100;;')).toEqual({ isRequired: true, line: expect.stringContaining("no space left") });
  expect(await bringWith("*--simulate*) ;;\n*install*) ;;")).toEqual({ isRequired: true, line: expect.stringContaining("none where it is looked for") });
});
