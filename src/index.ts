/**
 * Buildlane queues builds for AI chat products. Every chat is a lane: its builds run one at a time, in the order in
 * which they were accepted, through retries, crashes and several nodes. No chat waits for another chat's build, and
 * what was accepted is never lost.
 */
export { createBuildQueue } from "./queue.js";
export type { BuildQueueOptions } from "./queue.js";
export type { BuildQueue, CancelResult, ChatJobs, EnqueueOptions, EventsOptions, Include, LanesQuery, ListQuery, NodeView, QueueView } from "./queue-api.js";
export { BuildlaneError, SettingsError } from "./errors.js";
export type { ErrorCode, Issue } from "./errors.js";
export type { CallersDatabase, CallersTransaction, ChatPolicy, ChatState, DeadLetterFilter, DeadLetterGroup, Output } from "./store/store.js";
export type { QueueStats } from "./store/reading.js";
export type { QueueSettings } from "./options.js";
export type { Run } from "./run.js";
export type { Why, WhyReason } from "./why.js";
export type { LaneJob, LaneView } from "./store/store.js";
export type { Report } from "./report.js";
export type {
  AcceptedJob, Attempt, BuildOptions, BuildRequest, CompletedJob, Diagnostic, FailedJob, Failure, FailureCode, FinishedJob, HistoryEvent, Job, JobStatus, LiveItem, PassingEvent, PendingJob, RunnableJob, RunningJob,
} from "./job.js";
