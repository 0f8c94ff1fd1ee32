import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generatedDocs } from "../scripts/docs.js";

describe("the page about operating", () => {
  it("names metrics that are there", () => {
    const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
    const there = new Set([...read("src/http/metrics.ts").matchAll(/(?:gauge|counter)\("(\w+)"/g)].map(([, name]) => `buildlane_${name}`));
    const named = [...read("docs/operating.md").matchAll(/\bbuildlane_[a-z_]+/g)].map(([name]) => name);
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((name) => !there.has(name))).toEqual([]);
  });
});

describe("the generated documents", () => {
  it.each(Object.entries(generatedDocs))("%s is what the code generates (npm run docs)", async (file, make) => {
    expect(readFileSync(new URL(`../${file}`, import.meta.url), "utf8")).toBe(await make());
  });
});
