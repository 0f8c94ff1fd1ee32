import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generatedDocs } from "../scripts/docs.js";

describe("the generated documents", () => {
  it.each(Object.entries(generatedDocs))("%s is what the code generates (npm run docs)", async (file, make) => {
    expect(readFileSync(new URL(`../${file}`, import.meta.url), "utf8")).toBe(await make());
  });
});
