/**
 * npm run chaos:short -- --seed 1 --nodes 3 --kills 12 --stops 8 --freezes 4 --crashes 4 --outages 2 --cuts 6 --pauses 8
 * Runs that take no time, so that lanes are taken ahead of free slots. Prints the seed, each fault, and what came of it; ends
 * with 1 when a promise was broken.
 */
import { parseArgs } from "node:util";
import { buildService } from "../support/service.js";
import { shortChaos } from "./short.js";

const text = (fallback: string) => ({ type: "string" as const, default: fallback });
const { values } = parseArgs({
  options: {
    seed: text(String(Math.floor(performance.timeOrigin % 1e9))), nodes: text("3"), chats: text("250"), backlog: text("600"), longestMs: text("0"),
    kills: text("12"), stops: text("8"), freezes: text("4"), crashes: text("4"), outages: text("2"), cuts: text("6"), pauses: text("8"),
  },
});
const options = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)])) as Record<keyof typeof values, number>;
const listed = (counts: Record<string, number>) => Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ");
console.log(`chaos of short runs: ${JSON.stringify(options)}`);
buildService();
const { testimony, ...result } = await shortChaos({ ...options, onLine: console.log });
console.log(result.verdict.trim());
for (const sentence of testimony.broken.slice(0, 50)) console.log(sentence);
console.log(`faults survived: ${listed(result.faults)}`);
console.log(`${result.accepted} accepted, ${result.refused} requests refused, ${result.unanswered} unanswered; ${result.jobs} jobs: ${listed(result.ends)}; at rest ${(result.restMs / 1000).toFixed(1)} s after the last fault`);
console.log(`ahead of free slots: ${result.ranThrough} over before their start was on record, ${result.takenAt} that had waited in the hand that began them, ${result.inHandUntil} in another one before`);
console.log(`witnessed: ${testimony.runs} runs, ${testimony.again} of them again; ${testimony.broken.length} broken promises; reports: ${listed(testimony.reports)}`);
const kept = result.verified && testimony.broken.length === 0 && result.restMs <= 20_000 && result.ranThrough > result.jobs / 20;
console.log(kept ? "kept" : "BROKEN");
process.exitCode = kept ? 0 : 1;
