/** What is known of code by its hash, in memory. */
import { ofLane } from "../scope.js";
import type { CodeAnswer, CodeQuestion, CodeStore } from "../code.js";
import { copy } from "./tables.js";
import type { JobRow, Tables } from "./tables.js";

export function memoryCode(tables: Tables, nowMs: () => number): CodeStore {
  return {
    async lift(hash) {
      const lifted = (tables.crashes.get(hash)?.quarantinedAt ?? null) !== null;
      if (lifted) tables.crashes.delete(hash);
      return lifted;
    },
    ask: async (question, now) => ask(tables, question, now ?? nowMs()),
  };
}

function ask(tables: Tables, { codeHash, stamp, ageMs, jobId }: CodeQuestion, at: number): CodeAnswer {
  const alike = tables.known.get(`${codeHash}/${stamp}`);
  const latest = alike?.at(alike.size - 1);
  if (latest && (latest.completedAt ?? 0) > at - ageMs) {
    const origin = { stamp, from: latest.origin?.from ?? latest.id };
    if (latest.built) return { kind: "known", outcome: { kind: "built", ...copy(latest.built), origin } };
    if (latest.failed) return { kind: "known", outcome: { kind: "failed", ...copy(latest.failed), origin } };
  }
  const asker = tables.jobs.get(jobId);
  if (asker?.status !== "running") return { kind: "unknown" };
  const { tenant } = ofLane(asker.chatId);
  const older = (job: JobRow) => (job.startedAt ?? 0) < (asker.startedAt ?? 0) || (job.startedAt === asker.startedAt && job.id < asker.id);
  const running = [...tables.owned.values()]
    .flatMap((lanes) => [...lanes])
    .flatMap((lane) => (lane.running && lane.running.id !== jobId && lane.running.codeHash === codeHash && ofLane(lane.chatId).tenant === tenant && older(lane.running) ? [lane.running] : []))
    .sort((a, b) => (a.startedAt ?? 0) - (b.startedAt ?? 0) || (a.id < b.id ? -1 : 1));
  return running[0] ? { kind: "running", jobId: running[0].id } : { kind: "unknown" };
}
