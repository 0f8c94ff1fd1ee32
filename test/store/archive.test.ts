/** What a database's folder is as one file: a round trip, and archives that are not as they should be. */
import { mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { createTar } from "nanotar";
import { expect, test } from "vitest";
import { archiveOf, filesOf, unzip, writeFiles } from "../../src/store/embedded-archive.js";
import { tempFolder } from "../support/temp.js";

const bytes = (text: string) => new TextEncoder().encode(text);

test("a folder comes back from its archive as it was, empty files and folders too, and is its owner's alone", async () => {
  await using home = await tempFolder();
  const from = path.join(home.path, "from");
  await mkdir(path.join(from, "base", "empty"), { recursive: true });
  await writeFile(path.join(from, "base", "1"), "one");
  await writeFile(path.join(from, "base", "none"), "");
  await writeFile(path.join(from, "large"), Buffer.alloc(100_000, "x"));
  const tar = await unzip(await archiveOf(from));
  expect(await archiveOf(from)).toEqual(await archiveOf(from));
  // Also when it is a part of something longer.
  const inside = Buffer.concat([Buffer.alloc(700, "y"), tar, Buffer.alloc(900, "z")]).subarray(700, 700 + tar.length);
  for (const [name, one] of [["to", tar], ["again", inside]] as const) {
    const to = path.join(home.path, name);
    await writeFiles(filesOf(one), to);
    expect((await readdir(to, { recursive: true })).sort()).toEqual(["base", "base/1", "base/empty", "base/none", "large"]);
    expect([await readFile(path.join(to, "base", "1"), "utf8"), (await stat(path.join(to, "base", "none"))).size, (await stat(path.join(to, "large"))).size]).toEqual(["one", 0, 100_000]);
    expect((await stat(to)).mode & 0o777).toBe(0o700);
  }
});

test("nothing is written beside the folder, whatever an archive calls its files", async () => {
  await using home = await tempFolder();
  const to = path.join(home.path, "to");
  // It is there already, empty.
  await mkdir(to);
  await writeFiles(filesOf(createTar([{ name: "../beside", data: bytes("1") }, { name: "/absolute", data: bytes("2") }, { name: "a/../../up", data: bytes("3") }])), to);
  expect(await readdir(home.path)).toEqual(["to"]);
  expect((await readdir(to)).sort()).toEqual(["absolute", "beside", "up"]);
});

test("an archive that was cut short is refused", async () => {
  const tar = createTar([{ name: "large", data: new Uint8Array(100_000) }]);
  expect(() => filesOf(tar.subarray(0, 50_000))).toThrow(RangeError);
});
