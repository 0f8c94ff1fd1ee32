/** What the pages show as code: each fence with its language, and what a comment before it says is to be done with it. */
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const project = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

export interface Fence {
  page: string;
  /** Line of its first line of code, for a person to find it. */
  line: number;
  /** `<!-- run: name -->`: it is run, and what it prints is compared. */
  run: string | null;
  /** `<!-- given: a, b -->`: it is part of something; these are there already. */
  given: string[] | null;
  language: string;
  text: string;
}

/** README.md, SOLUTION.md, CHANGELOG.md and all of docs/ and bench/. */
export async function pages(): Promise<string[]> {
  const folders = await Promise.all(["docs", "bench", "test/store"].map(async (folder) => (await readdir(path.join(project, folder))).filter((name) => name.endsWith(".md")).map((name) => `${folder}/${name}`)));
  return ["README.md", "SOLUTION.md", "CHANGELOG.md", ...folders.flat()];
}

export async function fencesOf(page: string): Promise<Fence[]> {
  const text = await readFile(path.join(project, page), "utf8");
  return [...text.matchAll(/(?:<!-- (run|given): ([^>]+?) -->\n)?^```(\w+)\n([\s\S]*?)^```$/gm)].map(({ index, 0: all, 1: kind, 2: said, 3: language, 4: code }) => ({
    page, line: text.slice(0, index + all.indexOf("```")).split("\n").length + 1,
    run: kind === "run" ? (said as string) : null, given: kind === "given" ? (said as string).split(", ") : null, language: language as string, text: code as string,
  }));
}
