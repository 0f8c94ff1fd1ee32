/** What a build may use beside what was submitted: packages of a folder, addresses of a map, and nothing else of either. */
import { mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.js";
import { openPackages } from "../../src/workers/open-packages.js";
import { describeBrowser, openBrowser } from "../support/browser.js";
import { tempFolder } from "../support/temp.js";
import { built, failed, startPool } from "./support.js";
import type { TestPool } from "./support.js";

const project = path.resolve(import.meta.dirname, "../..");
const secret = "secret-beside-the-packages";

async function layOut(root: string, files: Record<string, string | object>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(root, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, typeof content === "string" ? content : JSON.stringify(content));
  }
}

describe("a package folder", () => {
  let folder: Awaited<ReturnType<typeof tempFolder>>;
  let shared: TestPool;
  const build: TestPool["build"] = (...args) => shared.build(...args);
  beforeAll(async () => {
    folder = await tempFolder();
    await layOut(folder.path, {
      "secret.js": `export default "${secret}"`,
      "node_modules/plain/package.json": { name: "plain", main: "lib/index.js" },
      "node_modules/plain/lib/index.js": "exports.name = 'plain'; exports.env = process.env.NODE_ENV; exports.nested = require('nested'); exports.all = global",
      "node_modules/plain/node_modules/nested/index.js": "module.exports = 'nested in plain'",
      "node_modules/nested/index.js": "module.exports = 'nested on top'",
      "node_modules/modern/package.json": {
        name: "modern", sideEffects: ["./side.js", "*.css"], imports: { "#own": "./own.js", "#out": "../../secret.js" },
        exports: { ".": { browser: "./browser.mjs", import: "./node.mjs", require: "./node.cjs" }, "./sub": "./sub.js", "./style.css": "./style.css", "./out": "./../../secret.js" },
      },
      "node_modules/modern/browser.mjs": "import own from '#own'; import './pure.js'; import './side.js'; export const where = 'browser ' + own",
      "node_modules/modern/node.mjs": "export const where = 'node'",
      "node_modules/modern/own.js": "export default 'own'",
      "node_modules/modern/pure.js": "console.log('PURE')",
      "node_modules/modern/side.js": "console.log('SIDE')",
      "node_modules/modern/sub.js": "export default 'sub'",
      "node_modules/modern/hidden.js": "export default 'hidden'",
      "node_modules/modern/style.css": "@import './more.css'; a { background: url(./dot.svg) }",
      "node_modules/modern/more.css": "b { color: red }",
      "node_modules/modern/dot.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
      "node_modules/old/package.json": { name: "old", main: "node.js", browser: { "./node.js": "./page.js", "./fs.js": false } },
      "node_modules/old/node.js": "module.exports = 'node'",
      "node_modules/old/page.js": "module.exports = 'page' + typeof require('./fs.js').read",
      "node_modules/old/fs.js": "exports.read = () => {}",
      "node_modules/greedy/index.js": "try { require('fs') } catch {} exports.a = require('../../secret.js')",
      "node_modules/absolute/index.js": `module.exports = require(${JSON.stringify(path.join(folder.path, "secret.js"))})`,
      "node_modules/mapped/index.js": "module.exports = 1\n//# sourceMappingURL=../../secret.js",
      "node_modules/builtin/index.js": "import fs from 'fs'; export default fs",
      "node_modules/broken/index.js": "let = 5 5",
      "node_modules/odd/index.js": "import './data.bin'",
      "node_modules/odd/data.bin": "0101",
      "node_modules/peer/index.js": "export { default } from 'surely-not-installed'",
      "node_modules/@scope/deep/a/b.json": { deep: true },
    });
    await symlink(folder.path, path.join(folder.path, "node_modules/way-out"));
    await symlink(path.join(folder.path, "secret.js"), path.join(folder.path, "node_modules/plain/linked.js"));
    await symlink(path.join(folder.path, "node_modules/modern"), path.join(folder.path, "node_modules/linked-inside"));
    shared = await startPool({ packages: await openPackages({ packagesDir: folder.path, clock: systemClock }) });
  });
  afterAll(async () => {
    await shared[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  test("gives CommonJS, its nearest dependency, the production environment and the global object", async () => {
    const { result, externals } = built(await build('import { name, env, nested } from "plain"; console.log(name, env, nested)'));
    expect(result).toMatch(/exports\.env = "production"/);
    expect(result).toContain("nested in plain");
    expect(result).not.toContain("nested on top");
    expect(result).toContain("globalThis");
    expect(externals).toEqual([]);
  });

  test("is asked as package.json says: exports by condition, sub-paths, private imports, files without side effects", async () => {
    const { result } = built(await build('import { where } from "modern"; import sub from "modern/sub"; console.log(where, sub)'));
    expect(result).toMatch(/browser |sub/);
    expect(result).toContain("SIDE");
    expect(result).not.toContain("PURE");
    expect(result).not.toContain("'node'");
    expect(built(await build('import hidden from "modern/hidden.js"; hidden()')).externals).toEqual(["modern/hidden.js"]);
    expect(built(await build('import { where } from "linked-inside"; where()')).externals).toEqual([]);
  });

  test("is asked as the browser field of older packages says", async () => {
    const { result } = built(await build('import old from "old"; console.log(old)'));
    expect(result).toContain('"page"');
    expect(result).not.toContain("read = ()");
  });

  test("gives style sheets with what they import and show, and JSON", async () => {
    const { result } = built(await build('import "modern/style.css"; import data from "@scope/deep/a/b.json"; console.log(data)'));
    expect(result).toMatch(/color: red.*data:image\/svg\+xml/);
    expect(result).toContain("deep: true");
    expect(built(await build({ files: { "a.ts": 'import "./a.css"', "a.css": '@import "modern/style.css";' }, entry: "a.ts" })).result).toContain("color: red");
  });

  test("serves modules of several submitted files alike, once", async () => {
    const files = { "a.tsx": 'import { name } from "plain"; import "./b"; console.log(name)', "b.ts": 'import * as plain from "plain"; console.log(plain.env)' };
    expect(built(await build({ files, entry: "a.tsx" })).result.match(/nested in plain/g)).toHaveLength(1);
  });

  test.each([
    ["way-out/secret.js", "a link out of it"], ["plain/linked.js", "a file that is a link out of it"], ["modern/out", "an export that climbs"], ["plain/../../secret.js", "a climbing name"],
    ["plain/..%2f..%2fsecret.js", "an encoded climbing name"], [".package-lock.json", "a hidden file"], ["..", "its parent"], ["node_modules/plain", "a path through itself"],
  ])("does not give %s, %s", async (name) => {
    const outcome = await build(`import x from ${JSON.stringify(name)}; console.log(x)`);
    expect(JSON.stringify(outcome)).not.toContain(secret);
    if (outcome.kind === "built") expect(outcome.externals).toEqual([name]);
    else expect(outcome.failure.code).toBe("import_refused");
  });

  test.each(["greedy", "absolute", "mapped", "builtin", "peer"])("does not let the package %s out either", async (name) => {
    const outcome = await build(`import x from "${name}"; console.log(x)`, { sourcemap: true });
    expect(JSON.stringify(outcome)).not.toContain(secret);
  });

  test("tells of a package's own faults by the package's file, without a path of the host", async () => {
    const broken = failed(await build('import "broken"'));
    expect(broken.failure).toMatchObject({ code: "build_failed", message: expect.stringMatching(/^In the package file broken\/index\.js: Expected ";"/) });
    const odd = failed(await build('import "odd"'));
    expect(odd.error).toContain("The package file odd/data.bin is of a kind that builds do not take.");
    expect(odd.error).not.toContain(folder.path);
    expect(built(await build('import x from "peer"; x()')).externals).toEqual(["surely-not-installed"]);
  });

  test("has a version that changes when something is installed, and then is read anew", async () => {
    let now = 0;
    const packages = await openPackages({ packagesDir: path.join(folder.path, "node_modules"), clock: { ...systemClock, monotonic: () => now } });
    await using own = await startPool({ packages });
    const first = await packages.version();
    expect(built(await own.build('import x from "nested"; x()')).result).toContain("nested on top");
    expect(await packages.version()).toBe(first);
    await layOut(folder.path, { "node_modules/nested/index.js": "module.exports = 'nested anew'", "node_modules/.package-lock.json": "{}" });
    await utimes(path.join(folder.path, "node_modules/.package-lock.json"), 1, 1);
    now += 10_000;
    expect(await packages.version()).not.toBe(first);
    expect(built(await own.build('import x from "nested"; x()')).result).toContain("nested anew");
  });

  test("that is not there stops the start with the setting's name", async () => {
    await expect(openPackages({ packagesDir: path.join(folder.path, "nothing"), clock: systemClock })).rejects.toThrow("Expected packagesDir (BUILDLANE_PACKAGES_DIR) to name a folder");
  });
});

describe("an import map", () => {
  const opened = async (map: unknown) => {
    const folder = await tempFolder();
    const file = path.join(folder.path, "map.json");
    await writeFile(file, typeof map === "string" ? map : JSON.stringify(map));
    return openPackages({ importMap: file, clock: systemClock }).finally(() => folder[Symbol.asyncDispose]());
  };

  test("gives packages their address, sub-paths and the JSX runtime included; the rest stays external", async () => {
    await using shared = await startPool({ packages: await opened({ imports: { react: "https://esm.sh/react@19?dev", "@mui/": "https://esm.sh/@mui/", lodash: "/vendor/lodash.js" } }) });
    const { result, externals } = built(await shared.build('import { useState } from "react"; import B from "@mui/material/Button"; import _ from "lodash"; import x from "other"; export default () => <B>{_(useState, x)}</B>'));
    for (const url of ["https://esm.sh/react@19?dev", "https://esm.sh/react@19/jsx-runtime?dev", "https://esm.sh/@mui/material/Button", "/vendor/lodash.js"]) expect(result).toContain(`from "${url}"`);
    expect(externals).toEqual(["other"]);
  });

  test("may be the plain object alone, and does not stand for names that only begin alike", async () => {
    const access = (await opened({ react: "https://a.example/react" })).forBuild();
    expect(["react", "react/x/y", "react-dom", "constructor", "__proto__"].map((name) => access.urlOf(name))).toEqual(["https://a.example/react", "https://a.example/react/x/y", null, null, null]);
  });

  test.each([["{", "its text is no JSON"], [[], "an object of names"], [{ a: 5 }, "an http(s) address"], [{ a: "file:///etc/passwd" }, "an http(s) address"], [{ a: "//host" }, "an http(s) address"], [{ "a/": "https://x" }, 'ends with "/"']])("that is %j stops the start", async (map, says) => {
    await expect(opened(map)).rejects.toThrow(says);
  });
});

describeBrowser("a project of React and MUI, of several files, built from a package folder", () => {
  const files = {
    "src/main.tsx": 'import { createRoot } from "react-dom/client"; import { App } from "./App"; createRoot(document.getElementById("root")!).render(<App />);',
    "src/App.tsx": `
      import { useState } from "react";
      import { Button, ThemeProvider, createTheme, Typography } from "@mui/material";
      import Card from "@mui/material/Card";
      import { Counter } from "./parts/Counter";
      import texts from "./texts.json";
      import "./app.css";
      const theme = createTheme({ palette: { mode: "dark" } });
      export function App() {
        const [count, setCount] = useState(0);
        return <ThemeProvider theme={theme}><Card><Typography variant="h1">{texts.title}</Typography><Counter value={count} /><Button variant="contained" onClick={() => setCount(count + 1)}>{texts.more}</Button></Card></ThemeProvider>;
      }`,
    "src/parts/Counter.tsx": 'import { Chip } from "@mui/material"; export const Counter = ({ value }: { value: number }) => <Chip label={`count ${value}`} data-testid="count" />;',
    "src/texts.json": '{ "title": "Built by Buildlane", "more": "one more" }',
    "src/app.css": "#root { letter-spacing: 3px }",
  };

  test("runs in a browser", async () => {
    await using shared = await startPool({ packages: await openPackages({ packagesDir: project, clock: systemClock }) });
    const outcome = built(await shared.build({ files, entry: "src/main.tsx" }, { minify: true }));
    expect(outcome.externals).toEqual([]);
    await using browser = await openBrowser();
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    await page.setContent('<div id="root"></div>');
    await page.addScriptTag({ type: "module", content: outcome.result });
    await page.getByRole("button", { name: "one more" }).click();
    expect(await page.getByTestId("count").textContent()).toBe("count 1");
    expect(await page.evaluate("getComputedStyle(document.getElementById('root')).letterSpacing")).toBe("3px");
    expect(errors).toEqual([]);
  });
});
