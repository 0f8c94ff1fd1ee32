/**
 * The whole corpus through a queue of two slots, each case with a neighbour submitted beside it: every case ends in its
 * class, every neighbour completes and waits for nothing but taken slots, nothing tells of the host, and no process is left.
 */
import { expect, test } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import type { AcceptedJob, FinishedJob } from "../../src/job.js";
import { groupOf } from "../workers/support.js";
import { corpus } from "./corpus.js";
import type { HostileCase, OutcomeClass } from "./corpus.js";
import { plantSecrets } from "./secrets.js";

const slots = 2;
const bombMs = 1000;
/** What a loaded machine may lose beside the slots, milliseconds. */
const slackMs = 2500;
const killedCodes = ["timed_out", "out_of_memory", "worker_crashed", "output_too_large"];

test("every hostile build ends in its class, tells nothing, and holds up its neighbours by its slot alone", async () => {
  await using secrets = await plantSecrets();
  const reports: unknown[] = [];
  const pids = new Set<number>();
  const cases = corpus(secrets);
  expect(cases.length).toBeGreaterThanOrEqual(100);
  {
    await using queue = await createBuildQueue({
      store: "memory", concurrency: slots, maxAttempts: 1, maxPending: 10_000,
      onReport(report) {
        reports.push(report);
        if (report.type === "worker" && typeof report.facts["pid"] === "number") pids.add(report.facts["pid"]);
      },
    });
    const submitted: { one: HostileCase; hostile: AcceptedJob | null; neighbour: AcceptedJob }[] = [];
    for (const [index, one] of cases.entries()) {
      const source = typeof one.source === "string" ? { code: one.source } : one.source;
      // A case that ends in its class only by the short limit would prove nothing, so only bombs have one.
      const hostile = await queue.enqueue({ chatId: `hostile${index}`, messageId: "m", ...source, options: one.options, timeoutMs: one.bomb ? bombMs : 60_000 }).catch((error: { code: string }) => {
        expect(["validation_failed", "payload_too_large"], one.name).toContain(error.code);
        return null;
      });
      const neighbour = await queue.enqueue({ chatId: `neighbour${index}`, messageId: "m", code: `export const neighbour${index}: number = ${index}` });
      submitted.push({ one, hostile, neighbour });
    }
    const ended = await Promise.all(submitted.map(async ({ one, hostile, neighbour }) => ({ one, hostile: hostile && (await queue.waitFor(hostile.id)), neighbour: await queue.waitFor(neighbour.id) })));

    expect(ended.filter(({ one, hostile }) => classOf(hostile, one) !== one.outcome).map(({ one, hostile }) => ({ name: `${one.group}: ${one.name}`, expected: one.outcome, got: hostile?.failure?.code ?? hostile?.status ?? "refused", error: hostile?.error?.slice(0, 300) }))).toEqual([]);
    for (const { one, hostile } of ended) {
      if (!hostile) continue;
      const output = await queue.output(hostile.id);
      const { code: _code, files: _files, entry: _entry, ...told } = hostile;
      secrets.mustNotTell([told, output], `${one.group}: ${one.name}`);
      if (one.outcome === "import_refused" || (one.outcome === "build_failed" && one.name !== "a binary")) expect(hostile.failure?.diagnostics[0]?.line, one.name).toBeGreaterThan(0);
      for await (const event of queue.events({ chatId: hostile.chatId }, { after: 0, signal: AbortSignal.timeout(60_000) })) {
        secrets.mustNotTell(event, `an event of ${one.name}`);
        if (event !== "reset" && event.status !== null && ["completed", "failed"].includes(event.status)) break;
      }
    }
    secrets.mustNotTell(reports, "the reports");

    expect(ended.map(({ neighbour }) => neighbour.status)).toEqual(ended.map(() => "completed"));
    const ran = ended.flatMap(({ hostile, neighbour }) => [...(hostile ? [hostile] : []), neighbour]).map(({ startedAt, completedAt }) => ({ from: Date.parse(startedAt ?? ""), to: Date.parse(completedAt) }));
    for (const { one, neighbour } of ended) {
      const from = Date.parse(neighbour.createdAt);
      const to = Date.parse(neighbour.startedAt ?? "");
      const taken = ran.reduce((sum, job) => sum + Math.max(0, Math.min(job.to, to) - Math.max(job.from, from)), 0);
      expect(to - from - taken / slots, `the neighbour of ${one.name} waited beside free slots (ms)`).toBeLessThan(slackMs);
    }
  }
  expect([...pids].flatMap(groupOf), "processes that are left").toEqual([]);
  expect(pids.size).toBeGreaterThan(slots);
}, 240_000);

function classOf(job: FinishedJob | null, one: HostileCase): OutcomeClass | string {
  if (!job) return "refused";
  if (job.status === "completed") return "built";
  const { code } = job.failure;
  return one.outcome === "stopped" && killedCodes.includes(code) ? "stopped" : code;
}
