/** npm run explore: every interleaving of the store's verbs for 2 nodes × 2 chats × 3 jobs; prints how many states there are. */
import { parseArgs } from "node:util";
import { explore } from "./explore.js";
import type { Budgets } from "./world.js";

const { values } = parseArgs({
  options: {
    a: { type: "string", default: "2" }, b: { type: "string", default: "1" },
    crashes: { type: "string", default: "1" }, "lease-ends": { type: "string", default: "1" }, "lost-answers": { type: "string", default: "1" },
    cancels: { type: "string", default: "1" }, failures: { type: "string", default: "1" },
    /** Things that go wrong on one way, of whatever kind. */
    together: { type: "string", default: "2" },
  },
});
const jobs = { a: Number(values.a), b: Number(values.b) };
const budgets: Budgets = { crashes: Number(values.crashes), leaseEnds: Number(values["lease-ends"]), lostAnswers: Number(values["lost-answers"]), cancels: Number(values.cancels), failures: Number(values.failures), together: Number(values.together) };
console.log(`explore: 2 nodes, jobs ${JSON.stringify(jobs)}, at most ${JSON.stringify(budgets)}`);
const from = performance.now();
const { states, steps, depth, ends, broken } = explore(jobs, budgets, (so) => process.stderr.write(`depth ${so.depth}: ${so.states} states\n`));
console.log(`${states} states, ${steps} steps, longest way ${depth}, ${ends} ends, ${Math.round((performance.now() - from) / 1000)} s`);
if (broken) {
  console.log([...broken.steps, ...broken.what].join("\n"));
  process.exitCode = 1;
} else console.log("Every state keeps the promises, and every job can come to its end from each.");
