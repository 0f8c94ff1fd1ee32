/** Prometheus: what the store tells of the whole queue, and what only this node knows. Never a chat or a job as a label. */
import { Counter, Gauge, Registry } from "prom-client";
import { z } from "zod";
import { failureCodes } from "../job.js";
import type { FailureCode } from "../job.js";
import type { BuildQueue } from "../queue-api.js";
import type { Report } from "../report.js";
import type { QueueStats } from "../store/reading.js";
import { documented } from "./compilers.js";
import { says } from "./components.js";
import type { Api } from "./context.js";
import type { Stays } from "./stays.js";

/** What one may want to be told of, there from the start with 0: a series that is born with its first count shows no increase. */
const watchedEvents: Report["type"][] = [
  "lease.lost", "lane.lost", "lanes.rescued", "outcome.refused", "outcome.waiting", "database.away", "actor.crashed", "runner.broken",
  "webhook.delivered", "webhook.failed", "webhook.gone",
];
const retriedCodes: FailureCode[] = ["worker_crashed", "out_of_memory", "timed_out", "run_failed"];
const watchedAttempts = [
  { outcome: "completed", failure_code: "" },
  { outcome: "released", failure_code: "" },
  ...retriedCodes.map((code) => ({ outcome: "retrying", failure_code: code })),
  // The attempts of a lost node end with nobody.
  ...failureCodes.filter((code) => code !== "node_lost").map((code) => ({ outcome: "failed", failure_code: code })),
];

export function metricsRoutes(app: Api, { queue, stays }: { queue: BuildQueue; stays: Stays }): void {
  const registry = new Registry();
  const read = queueMetrics(registry, stays);
  app.route({
    method: "GET",
    url: "/metrics",
    schema: documented({ operationId: "metrics", needs: "nothing", summary: "Figures for Prometheus", tags: ["health"], produces: ["text/plain"], response: { 200: says(z.string(), "Prometheus' text format.") } }),
    handler: async (_request, reply) => {
      // A database that is away must not hide what the node itself can tell.
      read(await queue.stats().catch(() => null), queue);
      return reply.type(registry.contentType).send(await registry.metrics());
    },
  });
}

function queueMetrics(registry: Registry, stays: Stays): (stats: QueueStats | null, queue: BuildQueue) => void {
  const registers = [registry];
  const gauge = <L extends string = never>(name: string, help: string, ...labelNames: L[]) => new Gauge({ name: `buildlane_${name}`, help, labelNames, registers });
  const counter = <L extends string = never>(name: string, help: string, ...labelNames: L[]) => new Counter({ name: `buildlane_${name}`, help, labelNames, registers });

  const up = gauge("database_up", "Whether the database answers.");
  const jobs = gauge("jobs", "Unfinished jobs of the whole queue, by status.", "status");
  const finished = counter("jobs_finished_total", "Jobs of the whole queue that became final, by status.", "status");
  const attempts = counter("attempts_total", "Attempts that ended on this node, by outcome and failure code.", "outcome", "failure_code");
  const events = counter("events_total", "What else happened on this node, by name.", "event");
  const processing = gauge("processing_seconds", "Processing time of the latest finished jobs.", "quantile");
  const waiting = gauge("waiting_seconds", "From acceptance to start of the latest finished jobs, deliberate delays included.", "quantile");
  const averageProcessing = gauge("processing_seconds_average", "Average processing time of the latest finished jobs.");
  const oldestWait = gauge("oldest_wait_seconds", "The longest wait of a job that lacks nothing but a slot, since its acceptance or, if later, the end of its delay or backoff, or its redrive; 0 when there is none.");
  const slots = gauge("slots", "Slots of this node.");
  const chats = gauge("chats", "Chats with unfinished jobs, and those of them whose next job only waits for a slot.", "state");
  const deadLetters = gauge("dead_letters", "Jobs that failed for good and wait for a person.");
  const paused = gauge("queue_paused", "Whether the whole queue is held.");
  const draining = gauge("draining", "Whether this node stops.");
  const nodes = gauge("nodes", "Nodes that are alive.");
  const streams = gauge("streams", "Event streams, and submitters who wait.");
  const memory = gauge("memory_bytes", "Memory of the service's process, without its workers.", "kind");
  const cpu = counter("cpu_seconds_total", "Processor time of the service's process.", "mode");

  const seconds = (to: Gauge<"quantile">, spread: Record<string, number | null>) => {
    for (const [name, ms] of Object.entries(spread)) {
      if (ms !== null) to.set({ quantile: `0.${name.slice(1)}` }, ms / 1000);
      else to.remove({ quantile: `0.${name.slice(1)}` });
    }
  };

  return (stats, queue) => {
    up.set(stats ? 1 : 0);
    draining.set(queue.draining ? 1 : 0);
    streams.set(stays.count);
    const { rss, heapUsed } = process.memoryUsage();
    memory.set({ kind: "resident" }, rss);
    memory.set({ kind: "heap" }, heapUsed);
    const { user, system } = process.cpuUsage();
    cpu.reset();
    cpu.inc({ mode: "user" }, user / 1e6);
    cpu.inc({ mode: "system" }, system / 1e6);
    attempts.reset();
    events.reset();
    for (const labels of watchedAttempts) attempts.inc(labels, 0);
    for (const event of watchedEvents) events.inc({ event }, 0);
    for (const [name, count] of Object.entries(queue.counters)) {
      const [first, outcome, failureCode] = name.split(".");
      if (first === "attempt" && outcome && outcome !== "started") attempts.inc({ outcome, failure_code: failureCode ?? "" }, count);
      else events.inc({ event: name }, count);
    }
    if (!stats) return;
    jobs.set({ status: "pending" }, stats.totalQueued);
    jobs.set({ status: "running" }, stats.totalRunning);
    finished.reset();
    finished.inc({ status: "completed" }, stats.totalCompleted);
    finished.inc({ status: "failed" }, stats.totalFailed);
    const { p50, p90, p95, p99 } = stats.processing;
    seconds(processing, { p50, p90, p95, p99 });
    seconds(waiting, { ...stats.waiting });
    averageProcessing.set(stats.averageProcessingTime / 1000);
    oldestWait.set((stats.oldestWaitMs ?? 0) / 1000);
    slots.set(stats.slots);
    chats.set({ state: "active" }, stats.activeChats);
    chats.set({ state: "waiting" }, stats.waitingChats);
    deadLetters.set(stats.deadLetters);
    paused.set(stats.queuePaused ? 1 : 0);
    nodes.set(stats.nodes.filter((node) => node.alive).length);
  };
}
