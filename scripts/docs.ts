/** Writes every generated document. `npm run docs`; `test/docs.test.ts` compares what is checked in. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { charts } from "./chart-layout.js";
import { hostileDocs } from "./hostile-docs.js";
import { machineDocs } from "./machine-docs.js";
import { errorDocs, settingsDocs } from "./reference-docs.js";

export const generatedDocs: Record<string, () => string | Promise<string>> = {
  "docs/machines.md": machineDocs,
  "docs/settings.md": settingsDocs,
  "docs/errors.md": errorDocs,
  "docs/hostile-builds.md": hostileDocs,
  ...charts,
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, make] of Object.entries(generatedDocs)) writeFileSync(new URL(`../${file}`, import.meta.url), await make());
}
