/** npm run migration-check -- --jobs 100000. Ends with 1 when something was lost, broken or applied twice. */
import { parseArgs } from "node:util";
import { postgresCluster } from "../support/postgres-cluster.js";
import { upgrade } from "./upgrade.js";

const { values } = parseArgs({ options: { jobs: { type: "string", default: "100000" } } });
const jobs = Number(values.jobs);
await using cluster = await postgresCluster();
const { applied, latest, verdict, ended, totalQueued, totalCompleted } = await upgrade({ url: cluster.url, jobs, onLine: console.log });
const kept = verdict.ok && verdict.jobs === jobs && applied.flat().join() === latest && totalCompleted === ended && totalQueued === jobs - ended;
console.log(kept ? "kept" : "BROKEN");
process.exitCode = kept ? 0 : 1;
