/**
 * npm run sim -- --seed 1 --seeds 100 --nodes 3 --chats 200 --jobs 2000 --clients 12 --fault-every 400
 * --show TEXT prints each line of the trace that has it (a chat, a job, a node), as it happens; "" prints all.
 * Plays the seeds from `--seed` on, and stops at the first whose promises are broken. Each printed line replays alone.
 */
import { parseArgs } from "node:util";
import { simulate } from "./simulate.js";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    nodes: { type: "string", default: "3" },
    chats: { type: "string", default: "200" },
    jobs: { type: "string", default: "2000" },
    clients: { type: "string", default: "12" },
    "fault-every": { type: "string", default: "400" },
    show: { type: "string" },
  },
});
const options = { nodes: Number(values.nodes), chats: Number(values.chats), jobs: Number(values.jobs), clients: Number(values.clients), faultEveryMs: Number(values["fault-every"]) };
const show = values.show;
const onLine = show === undefined ? undefined : (line: string) => void (line.includes(show) && console.log(line));
const first = Number(values.seed);
const totals = { jobs: 0, attempts: 0, faults: {} as Record<string, number> };
console.log(`sim: ${JSON.stringify(options)}, seeds ${first} to ${first + Number(values.seeds) - 1}`);

for (let seed = first; seed < first + Number(values.seeds); seed++) {
  const result = await simulate({ ...options, seed, onLine });
  totals.jobs += result.jobs;
  totals.attempts += result.attempts;
  for (const [kind, count] of Object.entries(result.faults)) totals.faults[kind] = (totals.faults[kind] ?? 0) + count;
  console.log(`seed ${seed}: ${result.jobs} jobs, ${result.attempts} attempts, at rest ${result.convergedMs} ms after the last fault, trace ${result.trace.slice(0, 16)}`);
  if (result.violations.length === 0) continue;
  for (const violation of result.violations.slice(0, 20)) console.log(typeof violation === "string" ? violation : `${violation.kind}: ${violation.message}`);
  console.log(`seed ${seed} broke ${result.violations.length} promises.`);
  process.exit(1);
}
console.log(`kept: ${totals.jobs} jobs, ${totals.attempts} attempts, faults ${JSON.stringify(totals.faults)}`);
