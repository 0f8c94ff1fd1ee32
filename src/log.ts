/** Turns reports into log lines; the only file that writes them. Facts only: no code, keys, passwords or host paths. */
import { pino } from "pino";
import type { Logger } from "pino";
import type { Report, Reporter } from "./report.js";
import { shownLane } from "./store/scope.js";

/** How loud each report is; what is not named is debug. */
const levels: Partial<Record<Report["type"], "info" | "warn" | "error">> = {
  "node.started": "info",
  "node.draining": "info",
  "node.stopped": "info",
  "queue.paused": "info",
  "queue.resumed": "info",
  "jobs.pruned": "info",
  "chat.erased": "info",
  "database.away": "error",
  "database.back": "info",
  "lease.lost": "error",
  "lease.renewed": "info",
  "lane.lost": "warn",
  "lane.returned": "info",
  "lanes.rescued": "warn",
  "outcome.refused": "warn",
  "outcome.waiting": "warn",
  "actor.crashed": "error",
  "runner.broken": "error",
  "webhook.failed": "warn",
  "webhook.gone": "error",
  "webhook.claimLost": "warn",
};

const loud = new Set(["failed"]);

export function createLogger(level: string, destination?: { write(line: string): void }): Logger {
  const options = {
    level,
    base: null,
    messageKey: "message",
    redact: { paths: ["req.headers.authorization", "req.headers.cookie", "*.code", "*.files", "*.apiKey", "*.databaseUrl", "*.webhookUrl", "*.webhookSecret"], censor: "[redacted]" },
  };
  return destination ? pino(options, destination) : pino(options);
}

export const logReports = (logger: Logger): Reporter => (report) => {
  const { type, ...facts } = report;
  const level = report.type === "attempt.ended" ? (loud.has(report.outcome) || report.quarantined ? "info" : "debug") : (levels[report.type] ?? "debug");
  logger[level]({ event: type, ...facts, ...("chatId" in facts ? shownLane(facts.chatId) : {}) }, type);
};
