/** Writes every generated document. `npm run docs`; tests compare what is checked in. */
import { writeFileSync } from "node:fs";
import { machineDocs } from "./machine-docs.js";

writeFileSync(new URL("../docs/machines.md", import.meta.url), machineDocs());
