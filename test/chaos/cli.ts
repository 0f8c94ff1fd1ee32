/**
 * npm run chaos -- --seed 1 --nodes 3 --kills 20 --pauses 3 --stops 3 --crashes 2 --restarts 2 --cuts 5
 * Prints the seed, each fault, and what came of it; ends with 1 when a promise was broken.
 */
import { parseArgs } from "node:util";
import { buildService } from "../support/service.js";
import { chaos, middle } from "./chaos.js";

const text = (fallback: string) => ({ type: "string" as const, default: fallback });
const { values } = parseArgs({
  options: {
    seed: text(String(Math.floor(performance.timeOrigin % 1e9))), nodes: text("3"), clients: text("4"), chats: text("12"), cap: text("6"),
    kills: text("20"), pauses: text("3"), stops: text("3"), crashes: text("2"), restarts: text("2"), cuts: text("5"),
  },
});
const options = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)])) as Record<keyof typeof values, number>;
console.log(`chaos: ${JSON.stringify(options)}`);
buildService();
const result = await chaos({ ...options, onLine: console.log });
console.log(result.verdict.trim());
console.log(`faults survived: ${Object.entries(result.faults).map(([kind, count]) => `${count} ${kind}`).join(", ")}`);
console.log(`${result.accepted} accepted, ${result.refused} refused, ${result.unanswered} unanswered; ${result.jobs} jobs; at rest ${(result.restMs / 1000).toFixed(1)} s after the last fault`);
console.log(`rescue: median ${Math.round(middle(result.rescueMs))} ms, worst ${Math.round(Math.max(0, ...result.rescueMs))} ms of ${result.rescueMs.length}; ${result.lostLeases} leases lost in living nodes, ${result.refusedOutcomes} late outcomes refused`);
const kept = result.verified && result.restMs <= 10_000 && Math.max(0, ...result.rescueMs) <= 5000;
console.log(kept ? "kept" : "BROKEN");
process.exitCode = kept ? 0 : 1;
