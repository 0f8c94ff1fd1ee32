/** npm run fuzz:api -- --seed 1 --runs 50000: the whole API under random requests from its own document; stops at the first wrong answer. */
import { parseArgs } from "node:util";
import { fuzzApi } from "./run.js";

const { values } = parseArgs({ options: { seed: { type: "string", default: "1" }, runs: { type: "string", default: "50000" } } });
console.log(`fuzz: seed ${values.seed}, ${values.runs} requests`);
const { requests, statuses, succeeded, operations, wrong } = await fuzzApi({ runs: Number(values.runs), seed: Number(values.seed) });
console.log(`${requests} requests, ${succeeded.size} of ${operations} operations succeeded at least once, statuses ${JSON.stringify(statuses)}`);
for (const one of wrong) console.log(one);
process.exit(wrong.length > 0 ? 1 : 0);
