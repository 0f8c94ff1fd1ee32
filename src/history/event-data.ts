/** What is told of an event, by streams and by the webhook: facts about the job and what the event adds; never code, never a result. */
import type { HistoryEvent, PassingEvent } from "../job.js";

/** What the event adds never replaces what every event has. A failure is told as a job tells it, too. */
export function eventData({ data, jobId, chatId, tenant, chatSeq, status, attempt, at }: HistoryEvent | PassingEvent): Record<string, unknown> {
  const core = { jobId, chatId, tenant, chatSeq, status, attempt, at };
  const { failureCode: code, message } = data;
  return { ...core, ...data, ...(typeof code === "string" ? { failure: { code, message } } : {}), ...core };
}
