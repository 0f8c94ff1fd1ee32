/**
 * npm run sim -- --seed 1 --seeds 100 --workers 2 --nodes 3 --chats 200 --jobs 2000 --clients 12 --cluster-max 5 --fault-every 400
 * --show TEXT prints each line of the trace that has it (a chat, a job, a node), as it happens; "" prints all.
 * Plays the seeds from `--seed` on, and stops at the first whose promises are broken. Each printed line replays alone:
 * the same seed and options give the same trace. With several workers each is a process that plays its share.
 */
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";
import { simulate } from "./simulate.js";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    workers: { type: "string", default: "1" },
    nodes: { type: "string", default: "3" },
    chats: { type: "string", default: "200" },
    jobs: { type: "string", default: "2000" },
    clients: { type: "string", default: "12" },
    "cluster-max": { type: "string" },
    "fault-every": { type: "string", default: "400" },
    show: { type: "string" },
    /** Used between the processes: prints totals as JSON, and only violations otherwise. */
    share: { type: "boolean", default: false },
  },
});
const options = { nodes: Number(values.nodes), chats: Number(values.chats), jobs: Number(values.jobs), clients: Number(values.clients), clusterMax: values["cluster-max"] === undefined ? undefined : Number(values["cluster-max"]), faultEveryMs: Number(values["fault-every"]) };
const first = Number(values.seed);
const seeds = Number(values.seeds);
const workers = Math.min(Number(values.workers), seeds);

interface Totals {
  seeds: number;
  jobs: number;
  attempts: number;
  waits: number;
  takenAhead: number;
  simulatedMs: number;
  convergedMsMost: number;
  faults: Record<string, number>;
}
const nothing = (): Totals => ({ seeds: 0, jobs: 0, attempts: 0, waits: 0, takenAhead: 0, simulatedMs: 0, convergedMsMost: 0, faults: {} });
function add(totals: Totals, more: Totals): void {
  for (const name of ["seeds", "jobs", "attempts", "waits", "takenAhead", "simulatedMs"] as const) totals[name] += more[name];
  totals.convergedMsMost = Math.max(totals.convergedMsMost, more.convergedMsMost);
  for (const [kind, count] of Object.entries(more.faults)) totals.faults[kind] = (totals.faults[kind] ?? 0) + count;
}

async function play(): Promise<Totals> {
  const totals = nothing();
  const show = values.show;
  const onLine = show === undefined ? undefined : (line: string) => void (line.includes(show) && console.log(line));
  for (let seed = first; seed < first + seeds; seed++) {
    const { jobs, attempts, waits, takenAhead, simulatedMs, convergedMs, faults, trace, violations } = await simulate({ ...options, seed, onLine });
    add(totals, { seeds: 1, jobs, attempts, waits, takenAhead, simulatedMs, convergedMsMost: convergedMs, faults });
    if (!values.share) console.log(`seed ${seed}: ${jobs} jobs, ${attempts} attempts, at rest ${convergedMs} ms after the last fault, trace ${trace.slice(0, 16)}`);
    if (violations.length === 0) continue;
    for (const violation of violations.slice(0, 20)) console.error(typeof violation === "string" ? violation : `${violation.kind}: ${violation.message}`);
    console.error(`seed ${seed} broke ${violations.length} promises; options ${JSON.stringify(options)}`);
    process.exit(1);
  }
  return totals;
}

/** Each worker plays seeds that follow one another; the first that breaks a promise ends them all. */
async function playTogether(): Promise<Totals> {
  const totals = nothing();
  const share = Math.ceil(seeds / workers);
  const children = Array.from({ length: workers }, (_, index) => {
    const from = first + index * share;
    const count = Math.max(0, Math.min(share, first + seeds - from));
    const args = Object.entries({ ...values, seed: String(from), seeds: String(count), workers: "1" }).flatMap(([name, value]) => (typeof value === "string" ? [`--${name}`, value] : []));
    return spawn(process.execPath, [...process.execArgv, process.argv[1] as string, ...args, "--share"], { stdio: ["ignore", "pipe", "inherit"] });
  });
  await Promise.all(
    children.map(async (child) => {
      let text = "";
      child.stdout.on("data", (data: Buffer) => (text += String(data)));
      const code = await new Promise((resolve) => child.on("close", resolve));
      if (code === 0) return add(totals, JSON.parse(text.trim().split("\n").at(-1) as string) as Totals);
      for (const other of children) other.kill();
      process.exit(1);
    }),
  );
  return totals;
}

if (!values.share) console.log(`sim: ${JSON.stringify(options)}, seeds ${first} to ${first + seeds - 1}, ${workers} at a time`);
const from = performance.now();
const totals = await (workers > 1 ? playTogether() : play());
if (values.share) console.log(JSON.stringify(totals));
else {
  const seconds = (performance.now() - from) / 1000;
  console.log(`kept: ${totals.seeds} seeds, ${totals.jobs} jobs, ${totals.attempts} attempts, ${totals.waits} waits judged, ${totals.takenAhead} lanes taken ahead, faults ${JSON.stringify(totals.faults)}`);
  console.log(`at rest at most ${totals.convergedMsMost} ms after the last fault; ${Math.round(totals.simulatedMs / 1000)} s simulated in ${Math.round(seconds)} s, ${Math.round(totals.jobs / seconds)} jobs a second`);
}
