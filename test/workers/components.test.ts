/**
 * Components as a chat assistant writes them, through the real pool. `test/fixtures/components` holds them: a file is one
 * module under the name of its language, a folder is a project with one of `entries`; expected.json says how each ends.
 */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build as readModule } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Loader } from "../../src/job.js";
import { startPool } from "./support.js";
import type { TestPool } from "./support.js";

const folder = fileURLToPath(new URL("../fixtures/components/", import.meta.url));
const entries = ["App.tsx", "index.jsx", "main.tsx"];

interface Expected {
  externals?: string[];
  /** Beginnings of the warnings, with their places: `line:column text`. */
  warnings?: string[];
  failure?: "build_failed" | "import_refused";
  /** Where and how it fails: `file:line:column text`, each the beginning of one diagnostic. */
  at?: string[];
}
const expected = JSON.parse(readFileSync(path.join(folder, "expected.json"), "utf8")) as Record<string, Expected>;

let shared: TestPool;
beforeAll(async () => void (shared = await startPool()));
afterAll(() => shared[Symbol.asyncDispose]());

function build(name: string) {
  const at = path.join(folder, name);
  if (path.extname(name) !== "") return shared.build(readFileSync(at, "utf8"), { loader: path.extname(name).slice(1) as Loader });
  const names = readdirSync(at, { recursive: true, withFileTypes: true }).filter((one) => one.isFile()).map((one) => path.relative(at, path.join(one.parentPath, one.name)));
  const files = Object.fromEntries(names.map((file) => [file, readFileSync(path.join(at, file), "utf8")]));
  return shared.build({ files, entry: entries.find((entry) => files[entry] !== undefined) as string });
}

/** What the built JavaScript imports; rejects when it is none. */
async function importsOf(code: string): Promise<string[]> {
  const { metafile } = await readModule({ stdin: { contents: code, loader: "js", resolveDir: folder }, bundle: true, write: false, metafile: true, format: "esm", external: ["*"], logLevel: "silent" });
  return [...new Set(Object.values(metafile.outputs).flatMap((output) => output.imports.map((one) => one.path)))].sort();
}

describe("components as an assistant writes them", () => {
  it("are all expected to end in some way", () => {
    expect(Object.keys(expected).sort()).toEqual(readdirSync(folder).filter((name) => name !== "expected.json").sort());
    expect(Object.keys(expected).length).toBeGreaterThanOrEqual(30);
  });

  it.each(Object.entries(expected))("%s", async (name, { externals = [], warnings = [], failure, at = [] }) => {
    const outcome = await build(name);
    if (outcome.kind === "built") {
      expect(failure).toBeUndefined();
      expect(outcome.externals).toEqual(externals);
      expect(outcome.warnings.map(({ line, column, text }) => `${line}:${column} ${text}`)).toEqual(warnings.map((start) => expect.stringMatching(new RegExp(`^${start.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")}`))));
      expect(await importsOf(outcome.result)).toEqual(externals);
    } else {
      expect(outcome.failure.code).toBe(failure);
      expect(outcome.failure.diagnostics.map(({ file, line, column, text }) => `${file}:${line}:${column} ${text}`)).toEqual(at.map((start) => expect.stringContaining(start)));
      // A frame for each, under the line that is meant.
      for (const { line, lineText } of outcome.failure.diagnostics) if (lineText) expect(outcome.error).toContain(`${line} | ${lineText}`);
    }
  });
});
