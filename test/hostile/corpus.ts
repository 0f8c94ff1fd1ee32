/**
 * Code that means harm, as data: what it tries, and how such a build must end. `outcome` is the class: the failure code,
 * `built`, `stopped` (killed within its limits: by time, memory, output or a crash of its own process) or `refused`
 * (not even accepted). docs/hostile-builds.md is made from this list.
 */
import type { BuildOptions } from "../../src/job.js";

export type OutcomeClass = "built" | "build_failed" | "import_refused" | "output_too_large" | "stopped" | "refused";

export interface HostileCase {
  name: string;
  group: string;
  source: string | { files: Record<string, string>; entry: string };
  options?: BuildOptions;
  outcome: OutcomeClass;
  /** Ends by its own time limit, so it is given a short one. */
  bomb?: boolean;
}

/** Where the secrets of the run lie. */
export interface Secrets {
  /** Holds canary.js, .json, .txt, .css, .map, canary-1.js, a link to it, and a FIFO; each holds the secret. */
  folder: string;
}

const mapped: BuildOptions = { sourcemap: true };
const inlineMap = (map: object) => `data:application/json;base64,${Buffer.from(JSON.stringify(map)).toString("base64")}`;

export function corpus({ folder }: Secrets): HostileCase[] {
  const at = (name: string) => `${folder}/${name}`;
  const up = "../".repeat(24).slice(0, -1);
  const files = (entry: string, all: Record<string, string>) => ({ files: all, entry });
  const group = (name: string, outcome: OutcomeClass, cases: Record<string, string | HostileCase["source"]>, rest: Partial<HostileCase> = {}): HostileCase[] =>
    Object.entries(cases).map(([one, source]) => ({ name: one, group: name, source, outcome, ...rest }));

  return [
    ...group("imports of the host's files", "import_refused", {
      "an absolute import": `import x from "${at("canary.js")}"; x()`,
      "a file that does not parse, to be quoted in the error": `import "${at("canary.txt.js")}"`,
      "JSON of the host": `import x from "${at("canary.json")}"; console.log(x)`,
      "a text by import attribute": `import x from "${at("canary.txt")}" with { type: "text" }; console.log(x)`,
      "bytes by import attribute": `import x from "${at("canary.txt")}" with { type: "bytes" }; console.log(x)`,
      "JSON by import attribute": `import x from "${at("canary.txt")}" with { type: "json" }; console.log(x)`,
      "an old import assertion": `import x from "${at("canary.json")}" assert { type: "json" }; console.log(x)`,
      "require": `console.log(require("${at("canary.js")}"))`,
      "require in try, which makes a miss a warning": `try { console.log(require("${at("canary.js")}")) } catch {}`,
      "import() with catch": `import("${at("canary.js")}").catch(() => {})`,
      "import() with a template of no holes": `import(\`${at("canary.js")}\`)`,
      "export star": `export * from "${at("canary.js")}"`,
      "export as a name": `export { default as x } from "${at("canary.js")}"`,
      "import =": `import x = require("${at("canary.js")}"); console.log(x)`,
      "import defer": `import defer * as x from "${at("canary.js")}"; console.log(x.default)`,
      "climbing far above the root": `import "${up}${at("canary.js")}"`,
      "climbing out of a folder": files("a/b.ts", { "a/b.ts": `import "../../${at("canary.js")}"` }),
      "a file: address": `import "file://${at("canary.js")}"`,
      "a FILE: address in capitals": `import "FILE://${at("canary.js")}"`,
      "a doubled slash": `import "/${at("canary.js")}"`,
      "a percent-encoded path": `import "${at("canary.js").replaceAll("/", "%2f")}"; import ".%2e/.%2e${at("canary.js")}"`,
      "backslashes": `import "${at("canary.js").replaceAll("/", "\\\\")}"`,
      "a path with a query": `import "${at("canary.js")}?raw"`,
      "a path with a fragment": `import "${at("canary.js")}#x"`,
      "a path with a NUL": `import "${at("canary.js")}\\0.ts"`,
      "a path with escapes": `import "\\u002f${folder.slice(1)}\\x2fcanary.js"`,
      "a full-width solidus": `import "．．／．．／etc／passwd"`,
      "the link to a canary": `import "${at("link.js")}"`,
      "a FIFO, which would block for ever": `import "${at("fifo")}"`,
      "/dev/zero, which has no end": 'import x from "/dev/zero" with { type: "bytes" }; x',
      "the environment": 'import x from "/proc/self/environ" with { type: "text" }; console.log(x)',
      "esbuild's own standard input": 'import x from "/proc/self/fd/0" with { type: "text" }; console.log(x)',
      "a package's private import": 'import "#canary"',
      "a name that climbs": 'import "react/../../../etc/passwd"',
      "a name with a dot part": 'import "react/./../x"; import "react/.."',
      "a scope that is a path": 'import "@/../etc/passwd"',
      "a Node module": 'import fs from "node:fs"; fs.readFileSync("/etc/passwd")',
      "a Node module without its prefix": 'import { readFileSync } from "fs"; readFileSync("/etc/passwd")',
      "a Node module in capitals": 'import "NODE:fs"',
      "an address on the net": 'import "https://localhost/x.js"',
      "an address without its scheme": 'import "//localhost/x.js"',
      "a data: module with a map of the host": `import "data:text/javascript,1%0A//# sourceMappingURL=file://${at("canary.map")}"`,
      "a data: style sheet": 'import "data:text/css,a{}"',
      "a blob: address": 'import "blob:null/x"',
      "esbuild's own namespace": `import "file:${at("canary.js")}"; import "dataurl:x"`,
      "the runtime pragma of a folder": `/** @jsxImportSource ${folder} */ export default <b/>`,
      "the runtime pragma that climbs": "/** @jsxImportSource ../../.. */ export default <b/>",
      "a package.json with imports": files("a.ts", { "a.ts": 'import "#x"', "package.json": `{"imports":{"#x":"${at("canary.js")}"}}` }),
      "a package.json that maps for browsers": files("a.ts", { "a.ts": 'import "./b"', "package.json": `{"browser":{"./b":"${at("canary.js")}"}}` }),
      "JSON that is asked for as text": files("a.ts", { "a.ts": `import x from "${at("canary.json")}" with { type: "text" }; x`, "b.json": "{}" }),
      "@import in a style sheet": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `@import "${at("canary.css")}";` }),
      "@import by url()": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `@import url(${at("canary.css")});` }),
      "@import by a file: url()": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `@import url("file://${at("canary.css")}");` }),
      "an image by url()": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `a{background:url(${at("canary.txt")})}` }),
      "an image by a climbing url()": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `a{background:url(${up}${at("canary.txt")})}` }),
      "thirty thousand imports that are refused, on one line": 'import"/x";'.repeat(30_000),
      "composes from a file": files("a.ts", { "a.ts": 'import "./a.module.css"', "a.module.css": `.a{composes: b from "${at("canary.css")}"}` }),
    }),
    ...group("paths computed when the code runs", "import_refused", {
      "a glob beside the code": "for (const n of x) import(`./${n}.js`)",
      "a glob that climbs to the canary": `for (const n of x) import(\`${up}${folder}/canary-\${n}.js\`)`,
      "a glob by require": 'for (const n of x) require("./" + n)',
      "a glob of everything, upwards": `for (const n of x) import(\`${up}/\${n}\`)`,
      "a glob in a submitted file": files("a.ts", { "a.ts": 'import "./b.js"', "b.js": `export const l = (n) => import(\`../../..${folder}/\${n}.js\`)` }),
      "a glob with a text attribute": `for (const n of x) import(\`${up}${folder}/\${n}\`, { with: { type: "text" } })`,
    }),
    ...group("source maps of the host", "built", {
      "a comment with a file: address": `x()\n//# sourceMappingURL=file://${at("canary.map")}`,
      "the old form of the comment": `x()\n//@ sourceMappingURL=file://${at("canary.map")}`,
      "a comment of several lines": `x()\n/*# sourceMappingURL=file://${at("canary.map")} */`,
      "a comment in the middle": `//# sourceMappingURL=file://${at("canary.map")}\nx()`,
      "a plain path": `x()\n//# sourceMappingURL=${at("canary.map")}`,
      "a climbing path": `x()\n//# sourceMappingURL=${up}${at("canary.map")}`,
      "a file that is no map, to be quoted": `x()\n//# sourceMappingURL=file://${at("canary.txt")}`,
      "the environment": "x()\n//# sourceMappingURL=file:///proc/self/environ",
      "a FIFO": `x()\n//# sourceMappingURL=file://${at("fifo")}`,
      "/dev/zero": "x()\n//# sourceMappingURL=file:///dev/zero",
      "an inline map whose sources are of the host": `x()\n//# sourceMappingURL=${inlineMap({ version: 3, sources: [`file://${at("canary.txt")}`], mappings: "AAAA" })}`,
      "an inline map with a source root": `x()\n//# sourceMappingURL=${inlineMap({ version: 3, sourceRoot: `file://${folder}`, sources: ["canary.txt"], mappings: "AAAA" })}`,
      "an inline map with sections": `x()\n//# sourceMappingURL=${inlineMap({ version: 3, sections: [{ offset: { line: 0, column: 0 }, map: { version: 3, sources: [`file://${at("canary.txt")}`], mappings: "AAAA" } }] })}`,
      "in an imported file": files("a.ts", { "a.ts": 'import "./b"', "b.js": `x()\n//# sourceMappingURL=file://${at("canary.map")}` }),
      "in a style sheet": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `a{b:c}\n/*# sourceMappingURL=file://${at("canary.map")} */` }),
      "in a style sheet, with an unclosed url(": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": `/*# sourceMappingURL=file://${at("canary.map")} */ a{b:url(` }),
      "in a string of JSON": files("a.ts", { "a.ts": 'import j from "./a.json"; x(j)', "a.json": `"//# sourceMappingURL=file://${at("canary.map")}"` }),
      "after a Markdown fence": `\`\`\`js\nx()\n//# sourceMappingURL=file://${at("canary.map")}\n\`\`\`\n//# sourceMappingURL=file://${at("canary.map")}`,
      "behind a line end of Unicode": `x()\u2028//# sourceMappingURL=file://${at("canary.map")}`,
      "in an unclosed comment's last word": `x() //# sourceMappingURL=file://${at("canary.map")}\u2029`,
    }, { options: mapped }),
    ...group("what stays text", "built", {
      "the environment by name": "console.log(process.env, process.env.PATH, import.meta.env)",
      "the folder by name": "console.log(__dirname, __filename, import.meta.url)",
      "a worker by URL": `new Worker(new URL("${at("canary.js")}", import.meta.url))`,
      "fetch of a file": `fetch("file://${at("canary.txt")}")`,
      "an import that is only a type": `import type { X } from "${at("canary.js")}"; export const a: X = 1`,
      "a package that nobody installed": 'import x from "surely-not-installed"; x()',
      "an image on the net in a style sheet": files("a.ts", { "a.ts": 'import "./a.css"', "a.css": "a{background:url(https://localhost/x.png)}" }),
      "require.resolve": `console.log(require.resolve("${at("canary.js")}"))`,
      "a tsconfig with paths": files("a.ts", { "a.ts": 'import "@x/canary"; import "./tsconfig.json"; import "~/canary"', "tsconfig.json": `{"compilerOptions":{"paths":{"@x/*":["${folder}/*"]},"baseUrl":"${folder}"},"extends":"${at("canary.json")}"}` }),
      "a macro comment": "/* @__PURE__ */ x(); /*! @preserve */ //# sourceURL=file:///etc/passwd",
    }),
    ...group("names", "built", {
      "__proto__ and constructor as files": files("constructor.ts", { "constructor.ts": 'import "./__proto__"', "__proto__.ts": "console.log(1)" }),
      "hasOwnProperty and toString as files": files("hasOwnProperty.js", { "hasOwnProperty.js": 'import "./toString.js"', "toString.js": "console.log(2)" }),
      "__proto__ as a key of JSON": files("a.ts", { "a.ts": 'import j from "./__proto__.json"; console.log(j, {}.polluted)', "__proto__.json": '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}' }),
      "a package called constructor": 'import a from "constructor"; import b from "hasOwnProperty/valueOf"; a(b)',
      "the entry's own name for esbuild": files("entry", { entry: "console.log(3)" }),
      "out.js and its map as files": files("out.js", { "out.js": 'import "./out.js.map.js"; import "./out.css"', "out.js.map.js": "console.log(4)", "out.css": "a{b:c}" }),
      "letters of all the world": files("пример.ts", { "пример.ts": 'import "./日本.ts"; import "./é.ts"', "日本.ts": "console.log(5)", "é.ts": "console.log(6)" }),
      "a file that stands for a folder": files("a/index.ts", { "a/index.ts": 'import "./b"', "a/b/index.ts": "console.log(7)", "a/b.css": "x{}" }),
      "names like flags of esbuild": files("--outfile=x.ts", { "--outfile=x.ts": 'import "./--bundle.ts"', "--bundle.ts": "console.log(8)" }),
      "a file that imports itself": files("a.ts", { "a.ts": 'import "./a"; import * as a from "./a.ts"; export const b = a' }),
      "a circle of files": files("a.ts", { "a.ts": 'import "./b"; export const a = 1', "b.ts": 'import { a } from "./a"; console.log(a)' }),
    }),
    ...group("names that are not accepted", "refused", {
      "a climbing file": files("../a.ts", { "../a.ts": "1" }),
      "an absolute file": files("/a.ts", { "/a.ts": "1" }),
      "a file with a NUL": files("a\0.ts", { "a\0.ts": "1" }),
      "a file with a backslash": files("a\\..\\b.ts", { "a\\..\\b.ts": "1" }),
      "a file with an empty part": files("a//b.ts", { "a//b.ts": "1" }),
      "a drive letter": files("C:/a.ts", { "C:/a.ts": "1" }),
      "an entry that is not there": files("b.ts", { "a.ts": "1" }),
      "an entry that every object has": files("constructor", { "a.ts": "1" }),
      "no files": files("a.ts", {}),
      "a NUL in the code": "1\0",
      "a lone surrogate in the code": "'\ud800'",
      "more than may be submitted": "x".repeat(2 ** 20 + 1),
    }),
    ...group("parser bombs", "stopped", {
      "arrows after question marks: each level doubles": `${"a?(b):c=>".repeat(44)}d`,
      "the same in a submitted file": files("a.ts", { "a.ts": 'import "./b"', "b.ts": `${"a?(b):c=>".repeat(40)}d` }),
      "the same, pasted in a fence": `\`\`\`ts\n${"a?(b):c=>".repeat(42)}d\n\`\`\``,
      "nested using blocks": `${"{using x=y;".repeat(3000)}${"}".repeat(3000)}`,
      "a namespace of three thousand parts": `namespace ${"a.".repeat(3000)}a { export const x = 1 }`,
    }, { bomb: true }),
    ...group("memory bombs", "stopped", {
      "an enum that doubles its text": `enum E{a0="0123456789abcdef",${Array.from({ length: 34 }, (_, i) => `a${i + 1}=a${i}+a${i}`).join(",")}} console.log(E.a34)`,
      "an enum that doubles by templates": `enum E{a0="0123456789abcdef",${Array.from({ length: 34 }, (_, i) => `a${i + 1}=\`\${a${i}}\${a${i}}\``).join(",")}} console.log(E.a34)`,
      "half a million brackets": `${"[".repeat(500_000)}`,
      "half a million parentheses": `${"(".repeat(500_000)}1${")".repeat(500_000)}`,
      "half a million negations": `${"!".repeat(900_000)}a`,
      "JSON of half a million brackets": files("a.ts", { "a.ts": 'import j from "./a.json"; x(j)', "a.json": `${"[".repeat(500_000)}${"]".repeat(500_000)}` }),
      "a hundred thousand texts added up": `x=${"'a'+".repeat(100_000)}b`,
    }, { bomb: true }),
    ...group("output and message bombs", "stopped", {
      "indentation of ten thousand ifs": `${"if(a)".repeat(15_000)}b`,
      "ten thousand warnings about one long line": "x==-0;".repeat(10_000),
      "ten thousand keys twice on one long line": `x={${"a:1,".repeat(10_000)}}`,
      "five thousand declarations on one long line": "const a=1;".repeat(5000),
    }, { bomb: true }),
    ...group("sizes and depths that are fine", "built", {
      "a string of 900 KB": `export default "${"x".repeat(900_000)}"`,
      "a comment of 900 KB": `/*${"x".repeat(900_000)}*/ export default 1`,
      "a thousand parentheses": `export default ${"(".repeat(1000)}1${")".repeat(1000)}`,
      "an identifier of 100 KB": `export const ${"a".repeat(100_000)} = 1`,
      "a fence that is never closed": `\`\`\`js\n${"x();\n".repeat(1000)}`,
      "a million empty lines before the code": `${"\r\n".repeat(500_000)}x()`,
      "a fence whose line does not end": `\`\`\`${" a".repeat(450_000)}\n1`,
      "two hundred files": files("f0.ts", Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`f${i}.ts`, i < 199 ? `import "./f${i + 1}"` : "console.log(9)"]))),
      "nothing": "",
      "a byte order mark": "\ufeffexport default 1",
      "line ends of every kind": "x();\r\ny();\rz();\u2028w();\u2029",
      "emoji and letters that combine": "export const s = '👩‍👩‍👧‍👦 e\u0301 \u{1f1e6}'",
      "texts that look like ends of script": "export const s = '</script><script>alert(1)</script>' + `<\\/style>`",
    }),
    ...group("code that is wrong", "build_failed", {
      "no language at all": "\u{1f4a5}\u{1f4a5}\u{1f4a5}",
      "a binary": Array.from({ length: 2000 }, (_, i) => String.fromCharCode(1 + ((i * 7919) % 255))).join(""),
      "a cut-off string": "const a = 'abc",
      "a cut-off template": "const a = `abc${",
      "a cut-off regular expression": "const a = /abc",
      "a cut-off comment": "/* abc",
      "a wrong escape": "const a = '\\u{110000}'",
      "a target that nobody knows": files("a.ts", { "a.ts": "let = 1 1" }),
      "JSON that is none": files("a.ts", { "a.ts": 'import "./a.json"', "a.json": "{,}" }),
      "with in a module": "with (a) b; export {}",
      "type arguments in type arguments": `${"<f".repeat(40_000)}`,
      "a thousand errors": "const a = 1;\n".repeat(1000),
      "the comment that disarms, ended early": "x(/*",
    }),
    { name: "an output beyond the limit", group: "sizes beyond", source: { files: { "a.ts": Array.from({ length: 12 }, (_, i) => `import b${i} from "./b.json" with { type: "json" }; console.log(b${i});`).join(""), "b.json": JSON.stringify("y".repeat(900_000)) }, entry: "a.ts" }, outcome: "built" },
    { name: "an output of escapes", group: "sizes beyond", source: `export default ${JSON.stringify("\u0001".repeat(50_000))}.concat(${Array.from({ length: 8 }, () => `"${"\u2028".repeat(5_000)}"`).join(",")})`, outcome: "built" },
  ];
}
