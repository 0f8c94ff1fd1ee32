/** The table of hostile builds, made from the corpus that the tests run. */
import { corpus } from "../test/hostile/corpus.js";
import type { OutcomeClass } from "../test/hostile/corpus.js";

const meanings: Record<OutcomeClass, string> = {
  built: "completes; nothing of the host is in it",
  build_failed: "fails as `build_failed`, with its place",
  import_refused: "fails as `import_refused`, with its place",
  output_too_large: "fails as `output_too_large`",
  stopped: "is killed within its limits: `timed_out`, `out_of_memory`, `worker_crashed` or `output_too_large`",
  refused: "is not accepted: `validation_failed` or `payload_too_large`",
};

export function hostileDocs(): string {
  const cases = corpus({ folder: "/canary" });
  const groups = [...new Set(cases.map((one) => one.group))];
  return [
    "# Hostile builds",
    "",
    "Made from `test/hostile/corpus.ts` by `npm run docs`; a test compares. `test/hostile/corpus.test.ts` runs all of it through a queue of two slots, each case",
    "with a neighbour submitted beside it. Every neighbour completes and waits for nothing but taken slots; no result, error, warning, event or report",
    "holds the secret of the planted canaries (files, a link, a FIFO, the environment), a path of the host, a stack or a word of esbuild's own crash; no process is left.",
    "",
    `${cases.length} cases. What their outcomes mean:`,
    "",
    ...Object.entries(meanings).filter(([outcome]) => cases.some((one) => one.outcome === outcome)).map(([outcome, meaning]) => `- **${outcome}**: ${meaning}`),
    "",
    ...groups.flatMap((group) => {
      const own = cases.filter((one) => one.group === group);
      return [`## ${group[0]?.toUpperCase()}${group.slice(1)}`, "", "| the build tries | outcome |", "| --- | --- |", ...own.map(({ name, outcome }) => `| ${name.replaceAll("|", "\\|")} | ${outcome} |`), ""];
    }),
  ].join("\n");
}
