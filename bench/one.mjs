/** One peer, one workload, one round, in a process of its own: `one.mjs PEER WORKLOAD PLACE` prints its figures as JSON. */
import { workloads } from "./workloads.mjs";

const [peer, name, place] = process.argv.slice(2);
const { run, options } = workloads[name];
const { open } = ["bare", "insert", "p-limit"].includes(peer) ? { open: null } : await import(`./peers/${peer}.mjs`);
const figures = await run(open, JSON.parse(place), { ...options, peer });
process.stdout.write(`\n${JSON.stringify(figures)}\n`, () => process.exit(0));
