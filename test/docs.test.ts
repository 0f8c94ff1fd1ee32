import { existsSync, readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generatedDocs } from "../scripts/docs.js";

const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), "utf8");

describe("package.json keeps what is promised of it", () => {
  const manifest = JSON.parse(read("package.json")) as { version: string; license: string; engines: { node: string }; type: string; files: string[]; scripts: Record<string, string>; bin: Record<string, string>; exports: Record<string, unknown>; dependencies: Record<string, string>; peerDependencies: Record<string, string>; peerDependenciesMeta: Record<string, { optional: boolean }> };
  const readme = read("README.md");
  const pages = [readme, ...["SOLUTION.md", "CHANGELOG.md"].map(read), ...readdirSync(new URL("../docs", import.meta.url)).filter((name) => name.endsWith(".md")).map((name) => read(`docs/${name}`))];
  const named = (pattern: RegExp): string[] => [...new Set(pages.flatMap((page) => [...page.matchAll(pattern)].map(([, name]) => name as string)))];

  it("the oldest Node that it takes is the one that the README names", () => {
    expect(manifest.engines).toEqual({ node: `>=${/^Node (\d+\.\d+) or newer\.$/m.exec(readme)?.[1]}` });
  });
  it("its license is the README's, and its text is there", () => {
    expect(manifest.license).toBe(/^## License\n\n(\S+)$/m.exec(readme)?.[1]);
    expect(read("LICENSE")).toContain(`${manifest.license} License`);
  });
  it("every script that a page runs exists", () => {
    const scripts = [...named(/\bnpm run ([a-z][a-z:-]*)/g), ...named(/\bnpm (start|test)\b/g)];
    expect(scripts).toEqual(expect.arrayContaining(["start", "test", "docs", "chaos", "sim"]));
    expect(scripts.filter((name) => !(name in manifest.scripts))).toEqual([]);
  });
  it("every door that a page imports from is one of its exports, and its command is the one that the pages call", () => {
    const doors = named(/\bfrom "buildlane(\/[a-z]+)?"/g).map((name) => `.${name ?? ""}`);
    expect(doors).toEqual(expect.arrayContaining([".", "./fastify", "./testing"]));
    expect(doors.filter((name) => !(name in manifest.exports))).toEqual([]);
    expect(Object.keys(manifest.bin)).toEqual(["buildlane"]);
    expect(existsSync(new URL(`../${manifest.bin["buildlane"]}`, import.meta.url))).toBe(true);
  });
  it("all that the README links to is there, and packed unless it is a screenshot or a bench", () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, to]) => to as string);
    expect(links.length).toBeGreaterThan(10);
    expect(links.filter((to) => !existsSync(new URL(`../${to}`, import.meta.url)))).toEqual([]);
    const isPacked = (to: string) => manifest.files.some((pattern) => to === pattern || to.startsWith(`${pattern}/`) || (pattern === "docs/*.md" && /^docs\/[^/]+\.md$/.test(to)));
    expect(links.filter((to) => !isPacked(to) && !/^(docs\/screenshots|bench)(\/|$)/.test(to))).toEqual([]);
  });
  it("the change log speaks of its version; it depends on what was tested, exactly, and asks for nothing more that is not optional", () => {
    expect(read("CHANGELOG.md")).toContain(manifest.version);
    expect(manifest.type).toBe("module");
    expect(Object.keys(manifest.peerDependencies).filter((name) => manifest.peerDependenciesMeta[name]?.optional !== true)).toEqual([]);
    // Exactly, so that what was tested is what is installed.
    expect(Object.entries(manifest.dependencies).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });
});

describe("the page about operating", () => {
  it("names metrics that are there", () => {
    const there = new Set([...read("src/http/metrics.ts").matchAll(/(?:gauge|counter)\("(\w+)"/g)].map(([, name]) => `buildlane_${name}`));
    const named = [...read("docs/operating.md").matchAll(/\bbuildlane_[a-z_]+/g)].map(([name]) => name);
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((name) => !there.has(name))).toEqual([]);
  });
});

describe("the generated documents", () => {
  it.each(Object.entries(generatedDocs))("%s is what the code generates (npm run docs)", async (file, make) => {
    expect(read(file)).toBe(await make());
  });
});
