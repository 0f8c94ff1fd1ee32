import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { built, failed, startPool } from "./support.js";
import type { TestPool } from "./support.js";

let shared: TestPool;
const build: TestPool["build"] = (...args) => shared.build(...args);
beforeAll(async () => void (shared = await startPool()));
afterAll(() => shared[Symbol.asyncDispose]());

describe("one module", () => {
  test("comes out as JavaScript", async () => {
    const outcome = built(await build('console.log("test")'));
    expect(outcome.result).toContain('console.log("test")');
    expect(outcome).toMatchObject({ sourceMap: null, warnings: [], externals: [] });
  });

  test("that does not parse fails with the place, and a frame that can be used as it is", async () => {
    const { failure, error, first } = failed(await build("syntax error{"));
    expect(failure).toMatchObject({ code: "build_failed", retryable: false, message: 'Expected ";" but found "error" (message.tsx, line 1, column 8)' });
    expect(first).toEqual({ text: 'Expected ";" but found "error"', file: "message.tsx", line: 1, column: 8, length: 5, lineText: "syntax error{", suggestion: ";" });
    expect(error).toBe('message.tsx:1:8: error: Expected ";" but found "error"\n\n  1 | syntax error{\n    |        ^~~~~');
  });

  test("leaves packages external and lists them, the JSX runtime included", async () => {
    const outcome = built(await build('import { useState } from "react"; import B from "@mui/material/Button"; export default () => <B>{useState(0)[0]}</B>'));
    expect(outcome.externals).toEqual(["@mui/material/Button", "react", "react/jsx-runtime"]);
    expect(outcome.result).toContain('from "react"');
  });

  test("counts columns in UTF-16 units", async () => {
    const { first } = failed(await build('const é = "ü𝄞"; let x = ;'));
    expect(first).toMatchObject({ line: 1, column: 26, length: 1 });
  });

  test("that ends too early is blamed at its own end", async () => {
    const { first, error } = failed(await build("const a = 1;\nfunction f(){", { sourcemap: true }));
    expect(first).toMatchObject({ line: 2, column: 14, lineText: "function f(){" });
    expect(error).not.toContain("sourceMappingURL");
  });

  test("shows several errors, a blank line between them", async () => {
    const { failure, error } = failed(await build("const a = 1;\nconst a = 2;\nconst a = 3;"));
    expect(failure.diagnostics.map((one) => one.line)).toEqual([2, 3]);
    expect(failure.message).toMatch(/, and 1 more error$/);
    expect(error.match(/error: The symbol "a" has already been declared/g)).toHaveLength(2);
  });

  test("with thousands of errors is told within the limits", async () => {
    const { failure, error } = failed(await build("const a = 1;\n".repeat(1000)));
    expect(failure.diagnostics).toHaveLength(20);
    expect(error).toMatch(/error: 979 more errors are not shown\.$/);
    expect(error.length).toBeLessThanOrEqual(16_000);
  });

  test("has a source map when asked for, with the submitted text and nothing that was added", async () => {
    const code = "export const a: number = 1";
    const map = JSON.parse(built(await build(code, { sourcemap: true })).sourceMap!);
    expect(map).toMatchObject({ sources: ["message.tsx"], sourcesContent: [code] });
  });

  test("is shown under the name of its language", async () => {
    expect(failed(await build("a b", { loader: "ts" })).first.file).toBe("message.ts");
    expect(failed(await build("{]", { loader: "json" })).first.file).toBe("message.json");
    expect(built(await build('{"a": 1}', { loader: "json" })).result).toContain("a = 1");
    expect(built(await build("a { color: red }", { loader: "css" })).result).toMatch(/createElement\("style"\).*color: red/);
  });

  test("obeys minify, target and jsx", async () => {
    const { result } = built(await build("export const element = <a>{x ?? y}</a>", { minify: true, target: "es2019,chrome70", jsx: "transform" }));
    expect(result).toContain("React.createElement");
    expect(result).not.toContain("??");
    expect(result).not.toContain("element =");
  });

  test.each(["foo", "es99", "es2022 --outfile=/x", "", "x".repeat(5000)])("with the target %j fails with a clear text", async (target) => {
    expect(failed(await build("1", { target })).error).toMatch(/^error: The target is not known\. Use one such as "es2022"/);
  });

  test("without any text is an empty result", async () => {
    expect(built(await build("")).result).toBe("");
  });
});

describe("a Markdown fence", () => {
  test("is taken off, with a warning, and places stay those of the submitted text", async () => {
    const outcome = built(await build("\n```tsx\nexport const a = <b/>;\n```\nThat is all.", { sourcemap: true }));
    expect(outcome.warnings[0]).toMatchObject({ file: "message.tsx", line: 2, column: 1, lineText: "```tsx" });
    expect(failed(await build("```tsx\nlet a = 1;\nlet b = ;\n```")).first).toMatchObject({ line: 3, column: 9, lineText: "let b = ;" });
    expect(failed(await build("```tsx\nf(\n```")).first).toMatchObject({ line: 2, column: 3, lineText: "f(" });
  });

  test("says the language, unless the caller does", async () => {
    expect(built(await build("```css\na{color:red}\n```")).warnings[0]?.file).toBe("message.css");
    expect(built(await build("```css\nx=1\n```", { loader: "js" })).warnings[0]?.file).toBe("message.js");
  });
});

describe("several files", () => {
  test("import one another by relative path, JSON and CSS included", async () => {
    const files = {
      "src/App.tsx": 'import "./style.css"; import data from "./data.json"; import { twice } from "../lib"; import { one } from "../lib/one.js"; export const x = twice(data.n + one);',
      "src/style.css": '@import "./base.css"; a { background: url(https://example.org/a.png) }',
      "src/base.css": "b { color: red }",
      "src/data.json": '{ "n": 21 }',
      "lib/index.ts": "export const twice = (n: number) => 2 * n;",
      "lib/one.ts": "export const one = 1;",
      "README.md": "not part of it",
    };
    const outcome = built(await build({ files, entry: "./src/App.tsx" }, { sourcemap: true }));
    expect(outcome.result.split("\n")[0]).toMatch(/^typeof document!=="undefined"&&document\.head.*color: red.*example\.org/);
    expect(outcome.result).toContain("n: 21");
    expect(outcome.externals).toEqual([]);
    const map = JSON.parse(outcome.sourceMap!);
    expect(map.sources).toEqual(["src/data.json", "lib/index.ts", "lib/one.ts", "src/App.tsx"]);
    expect(map.sourcesContent[1]).toBe(files["lib/index.ts"]);
    expect(map.mappings.startsWith(";;")).toBe(true);
  });

  test("are named in errors as they were submitted", async () => {
    const { first, error } = failed(await build({ files: { "a.ts": 'import "./deep/b.ts"', "deep/b.ts": "\n  let = 5 5" }, entry: "a.ts" }));
    expect(first).toMatchObject({ file: "deep/b.ts", line: 2 });
    expect(error).toMatch(/^deep\/b\.ts:2:\d+: error: /);
  });

  test.each([
    [{ files: { "a.ts": "1" }, entry: "b.ts" }, "The entry is not among the submitted files."],
    [{ files: { "../a.ts": "1" }, entry: "../a.ts" }, "A file's path must be relative and stay among the submitted files."],
    [{ files: { "/a.ts": "1" }, entry: "/a.ts" }, "A file's path must be relative and stay among the submitted files."],
    [{ files: { "a.ts": "1", "./a.ts": "2" }, entry: "a.ts" }, "Two of the files have the path a.ts."],
  ])("that cannot be used fail with a sentence (%#)", async (source, message) => {
    expect(failed(await build(source)).failure).toMatchObject({ code: "build_failed", message });
  });

  test("may have names that objects have of their own", async () => {
    const files = Object.fromEntries([["constructor.ts", 'import "./__proto__"'], ["__proto__.ts", "console.log(7)"]]);
    expect(built(await build({ files, entry: "constructor.ts" })).result).toContain("console.log(7)");
  });
});

describe("what is not part of a build", () => {
  test.each([
    ["/etc/passwd", "absolute path"],
    ["../../etc/passwd", "leaves the submitted files"],
    ["./other", "not among the submitted files"],
    ["node:fs", "module of Node"],
    ["fs/promises", "module of Node"],
    ["file:///etc/passwd", "is an address"],
    ["https://example.org/x.js", "is an address"],
    ["data:text/javascript,1", "is an address"],
    ["//example.org/x.js", "absolute path"],
    ["#internal", "private import"],
    ["@/components/x", "neither a relative path nor the name of a package"],
    ["react/../../x", "neither a relative path nor the name of a package"],
  ])("import %j is refused with its place", async (path, reason) => {
    const { failure, first } = failed(await build(`const a = 1;\nimport x from "${path}"; x();`));
    expect(failure).toMatchObject({ code: "import_refused", retryable: false });
    expect(first).toMatchObject({ file: "message.tsx", line: 2, column: 15, length: path.length + 2 });
    expect(first.text).toContain(reason);
  });

  test.each(['require("/etc/passwd")', 'import("../x.js")', 'export * from "/etc/passwd"', 'import x = require("/etc/passwd"); x()', 'import t from "/etc/passwd" with { type: "text" }; t', 'try { require("node:fs") } catch {}'])("%s is refused too", async (code) => {
    expect(failed(await build(code)).failure.code).toBe("import_refused");
  });

  test("a path computed at run time is refused without a look at the disk", async () => {
    const { failure, error } = failed(await build("export const load = (n) => import(`../../${n}.js`)"));
    expect(failure.code).toBe("import_refused");
    expect(error).toMatch(/^message\.tsx:1:35: error: The path of this import is computed when the code runs\./);
    expect(error).not.toMatch(/directory|open files/);
  });

  test.each([
    "//# sourceMappingURL=file:///etc/passwd",
    "//# sourceMappingURL=file:///proc/self/environ",
    `//# sourceMappingURL=data:application/json;base64,${Buffer.from('{"version":3,"sources":["file:///etc/passwd"],"mappings":"AAAA"}').toString("base64")}`,
  ])("a source-map comment brings nothing in (%#)", async (comment) => {
    const { sourceMap, warnings } = built(await build(`x()\n${comment}`, { sourcemap: true }));
    expect(JSON.parse(sourceMap!)).toMatchObject({ sources: ["message.tsx"] });
    expect(warnings).toEqual([]);
    expect(sourceMap).not.toContain("root:");
    const css = built(await build({ files: { "a.ts": 'import "./a.css"', "a.css": `/*${comment.slice(2)} */ a{b:url(` }, entry: "a.ts" }, { sourcemap: true }));
    expect(JSON.stringify(css)).not.toMatch(/root:|open files|etc.passwd"/);
  });
});
