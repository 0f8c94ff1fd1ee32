/**
 * Builds of nonsense with malice in it: fragments of the grammar that the corpus' attacks are made of, put together by
 * chance, and raw characters. None may leak, hang past its limit, be lost or leave a process. Short in `npm test`;
 * `npm run fuzz -- [inputs] [seed]` for as many as one likes.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { systemClock } from "../../src/clock.js";
import type { BuildOptions } from "../../src/job.js";
import { startPool } from "../workers/support.js";
import { plantSecrets } from "./secrets.js";

const inputs = Number(process.env["FUZZ_INPUTS"] ?? 300);
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_125);
const limitMs = 600;
/** From the abort to the end, on a loaded machine. */
const graceMs = 3000;
const lanes = 3;

type Source = string | { files: Record<string, string>; entry: string };

function sources(folder: string): fc.Arbitrary<{ source: Source; options: BuildOptions }> {
  const path = fc.constantFrom(`${folder}/canary.js`, `${folder}/canary.json`, `${folder}/canary.txt`, `file://${folder}/canary.map`, `${"../".repeat(24)}${folder}/canary.css`, `${folder}/fifo`, "/proc/self/environ", "/proc/self/fd/0", "/dev/zero", "./b", "./b.css", "../x", "react", "node:fs", "#x", "data:text/javascript,1", "__proto__", "./constructor");
  const word = fc.constantFrom("a", "b", "x1", "__proto__", "constructor", "await", "yield", "let", "async", "of", "é", "𝒳");
  const text = fc.oneof(path, word, fc.string({ unit: "binary", maxLength: 20 }));
  const fragment = fc.oneof(
    path.map((one) => `import x from ${JSON.stringify(one)};`), path.map((one) => `export * from ${JSON.stringify(one)};`), path.map((one) => `require(${JSON.stringify(one)});`),
    path.map((one) => `import(\`${one}\${x}\`);`), path.map((one) => `import t from ${JSON.stringify(one)} with { type: "text" };`), path.map((one) => `try{require("${one}"+x)}catch{}`),
    path.map((one) => `//# sourceMappingURL=${one}\n`), path.map((one) => `/*# sourceMappingURL=${one} */`), path.map((one) => `/** @jsxImportSource ${one} */`), path.map((one) => `@import "${one}"; a{background:url(${one})}`),
    fc.tuple(path, path).map(([a, b]) => `//# sourceMappingURL=data:application/json;base64,${Buffer.from(JSON.stringify({ version: 3, sources: [a, b], mappings: "AAAA;AACA" })).toString("base64")}\n`),
    fc.tuple(word, text).map(([a, b]) => `const ${a} = ${JSON.stringify(b)};`), fc.tuple(word, word).map(([a, b]) => `function ${a}(${b}) {`), word.map((one) => `<${one} {...{}}>`), word.map((one) => `</${one}>`), word.map((one) => `enum ${one} { A = "q", B = A + A }`),
    word.map((one) => `class ${one} { static { this.#p } #p = 1; @d m() {} }`), word.map((one) => `namespace ${one}.b.c { export let x = 1 }`), word.map((one) => `type ${one}<T> = T extends infer U ? U : never;`),
    fc.constantFrom("(", ")", "[", "]", "{", "}", "`", "${", "/*", "*/", "//", "\n", "\u2028", "\r", "<", ">", "=>", "?", ":", "a?(b):c=>", "if(a)", "x==-0;", "using y = z;", "```tsx\n", "\n```\n", "#!/bin/sh\n", "'", '"', "\\", "\u0000", "\ufeff", "import.meta.url", "new.target", "/[/]/gv", "1_000n", "@", "#a"),
    fc.tuple(fc.constantFrom("(", "[", "{", "a?(b):c=>", "!", "if(a)", "<f", "x==-0;", "const a=1;", "`${"), fc.integer({ min: 1, max: 60 })).map(([one, times]) => one.repeat(times)),
    fc.string({ unit: "grapheme", maxLength: 30 }), fc.string({ unit: "binary", maxLength: 30 }),
  );
  const code = fc.oneof(
    { weight: 8, arbitrary: fc.array(fragment, { minLength: 1, maxLength: 14 }).map((all) => all.join("")) },
    { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 300 }) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes).toString("latin1")) },
  );
  const name = fc.constantFrom("a.tsx", "b.ts", "b.css", "b.json", "constructor.js", "__proto__.ts", "b/index.jsx", "c.module.css");
  const source = fc.oneof({ weight: 3, arbitrary: code as fc.Arbitrary<Source> }, { weight: 1, arbitrary: fc.array(fc.tuple(name, code), { minLength: 1, maxLength: 4 }).map((all) => ({ files: Object.fromEntries([["a.tsx", 'import "./b"; import "./b.css";'], ...all]), entry: "a.tsx" })) });
  const options = fc.record({ loader: fc.constantFrom("tsx" as const, "ts" as const, "jsx" as const, "js" as const, "json" as const, "css" as const), sourcemap: fc.boolean(), minify: fc.boolean(), jsx: fc.constantFrom("automatic" as const, "transform" as const, "preserve" as const) }, { requiredKeys: ["sourcemap"] });
  return fc.record({ source, options });
}

test(`${inputs} inputs of chance (seed ${seed}) leak nothing, end in time, and leave nothing behind`, async () => {
  await using secrets = await plantSecrets();
  await using shared = await startPool({ slots: lanes });
  const all = fc.sample(sources(secrets.folder), { numRuns: inputs, seed });
  const ends: Record<string, number> = {};
  const left = [...all.entries()].reverse();
  const lane = async (): Promise<void> => {
    for (let next = left.pop(); next; next = left.pop()) {
      const [index, { source, options }] = next;
      const about = `input ${index} of seed ${seed}: ${JSON.stringify({ source, options })}`;
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(new Error("out of time")), limitMs);
      const fromMs = systemClock.monotonic();
      const said = await shared.build(source, options, controller.signal).catch((error: Error) => error.message);
      clearTimeout(timer);
      expect(systemClock.monotonic() - fromMs, about).toBeLessThan(limitMs + graceMs);
      // The submitted words may be told again; what they are after may not.
      secrets.mustNotTell(said, about);
      const end = typeof said === "string" ? said : said.kind === "built" ? "built" : said.failure.code;
      expect(["built", "build_failed", "import_refused", "output_too_large", "out_of_memory", "worker_crashed", "out of time"], about).toContain(end);
      ends[end] = (ends[end] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  expect(Object.values(ends).reduce((sum, count) => sum + count, 0)).toBe(inputs);
  process.stderr.write(`${inputs} inputs, seed ${seed}: ${JSON.stringify(ends)}\n`);
}, 3_600_000);
