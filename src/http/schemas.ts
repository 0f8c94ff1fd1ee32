/** What is answered: jobs, lists and figures as components of the API's document. Serializing by these drops whatever they do not declare. */
import { z } from "zod";
import { eventTypes, failureCodes, jobStatuses, loaders, passingTypes } from "../job.js";
import { chatPolicies, laneFinishedMax, lanePendingMax, sampledMax } from "../store/store.js";
import { whyReasons } from "../why.js";
import { milliseconds, named, says, time, timeOrNull } from "./components.js";

const text = z.string();
const textOrNull = z.string().nullable();
const count = z.number();

export const buildOptions = named(
  "BuildOptions",
  z.strictObject({
    loader: says(z.enum(loaders).optional(), "Language of `code` or of the entry file. Default `tsx`."),
    format: z.enum(["esm"]).optional(),
    minify: z.boolean().optional(),
    sourcemap: says(z.boolean().optional(), "Keeps a source map, to be had at `/output.map`."),
    target: says(z.string().regex(/^[A-Za-z0-9.,]{1,100}$/).optional(), "An esbuild target such as `es2022`."),
    jsx: z.enum(["automatic", "transform", "preserve"]).optional(),
  }),
  "What a caller may say about a build; nothing else reaches esbuild.",
);

export const diagnostic = named(
  "Diagnostic",
  z.object({
    text,
    file: says(textOrNull, "The submitted file's name; null when the build as a whole is meant."),
    line: says(z.number().nullable(), "From 1."),
    column: says(z.number().nullable(), "From 1, in UTF-16 units."),
    length: z.number().nullable(),
    lineText: textOrNull,
    suggestion: textOrNull,
  }),
  "One place in the submitted code that a build complains about.",
);

export const failure = named(
  "Failure",
  z.object({
    code: says(z.enum(failureCodes), "Why it failed; the list is the contract."),
    message: text,
    retryable: says(z.boolean(), "Whether another attempt of the same code might end otherwise."),
    diagnostics: z.array(diagnostic),
    quarantined: says(z.boolean().optional(), "True when the code itself is now refused everywhere, by its hash."),
  }),
  "What went wrong.",
);

export const attempt = named(
  "Attempt",
  z.object({
    attempt: count,
    startedAt: time("When it started."),
    endedAt: timeOrNull("When it ended; null while it runs."),
    runMs: says(z.number().nullable(), "Milliseconds that the run itself took; the rest until `endedAt` is settling: its end was offered and recorded. Null while it runs, and when no run came to an end."),
    outcome: z.enum(["running", "completed", "failed", "retrying", "rescued", "released"]),
    failureCode: z.enum(failureCodes).nullable(),
    nodeId: textOrNull,
  }),
  "One past or present try at running the job.",
);

const estimates = {
  estimatedWaitTime: milliseconds("Median estimate until the start; null while paused."),
  estimatedWaitTimeP90: milliseconds("Estimate that nine of ten starts keep; null while paused."),
};
const position = says(z.number(), "1 for the job that runs next in its chat; a running one counts as ahead. 0 when it waits no more.");

export const accepted = named(
  "AcceptedJob",
  z.object({
    id: text,
    chatId: text,
    messageId: text,
    chatSeq: says(count, "Acceptance order in the chat: 1, 2, 3, … without gaps."),
    status: z.enum(jobStatuses),
    queuePosition: position,
    ...estimates,
    createdAt: time("When it was accepted."),
  }),
  "A job that is durable and waits for its turn.",
);

const jobFields = {
  id: text,
  chatId: text,
  tenant: says(text.optional(), "Whose it is; absent for the default tenant."),
  messageId: text,
  chatSeq: says(count, "Acceptance order in the chat: 1, 2, 3, … without gaps."),
  status: z.enum(jobStatuses),
  queuePosition: says(z.number().optional(), "While pending: 1 for the job that runs next in its chat; a running one counts as ahead."),
  estimatedWaitTime: milliseconds("While pending: median estimate until the start; null while paused.").optional(),
  estimatedWaitTimeP90: milliseconds("While pending: estimate that nine of ten starts keep.").optional(),
  priority: says(count, "−10 … 10; higher runs earlier."),
  attempt: says(count, "Attempts so far; 0 before the first start."),
  maxAttempts: count,
  createdAt: time("When it was accepted."),
  startedAt: timeOrNull("When the latest attempt started."),
  completedAt: timeOrNull("When it became final."),
  nextAttemptAt: timeOrNull("When a delayed or backing-off job may start; null when it may at once."),
  error: says(textOrNull, "For a person: caret frames of a build error, else the failure's message."),
  failure: failure.nullable(),
  entry: textOrNull,
  options: buildOptions,
  warnings: z.array(diagnostic),
  externals: says(z.array(text), "Bare imports that were left for the page to provide."),
  attempts: z.array(attempt),
  supersededBy: says(textOrNull, "The newer job of the chat in whose favour it ended."),
  cached: says(z.boolean(), "Whether its outcome was taken over from another job of the same code, files and options, without a build."),
  cachedFrom: says(textOrNull, "That job."),
};
const code = says(textOrNull, "The submitted code; null when files were submitted.");
const files = says(z.record(z.string(), z.string()).nullable(), "The submitted files, path to text.");
const result = says(textOrNull, "The built JavaScript of a completed job.");

export const job = named("Job", z.object({ ...jobFields, code, files, result }), "A job, whole.");
export const jobSummary = named(
  "JobSummary",
  z.object({ ...jobFields, code: code.optional(), files: files.optional(), result: result.optional() }),
  "A job in a list: without `code`, `files` and `result` unless `include` asks for them.",
);

const spread = { p50: milliseconds("Median."), p95: milliseconds("95th percentile."), p99: milliseconds("99th percentile.") };

export const stats = named(
  "Stats",
  z.object({
    totalQueued: says(count, "Pending now."),
    totalRunning: says(count, "Running now, on all nodes."),
    totalCompleted: says(count, "Ever completed; the retention of old jobs does not lower it."),
    totalFailed: says(count, "Ever failed."),
    averageProcessingTime: says(count, "Over the latest finished jobs; 0 when there are none. Milliseconds."),
    successRate: says(z.number().nullable(), "completed / (completed + failed) over the latest finished jobs, 0 … 1."),
    processing: z.object({ ...spread, p90: milliseconds("90th percentile.") }),
    waiting: z.object(spread),
    finishedLastMinute: says(count, `Runs that ended in the last minute; where the latest ${sampledMax} all did, as many as at their pace.`),
    oldestWaitMs: milliseconds("The longest wait of a job that lacks nothing but a slot, since its acceptance or, if later, the end of its delay or backoff, or its redrive."),
    activeChats: says(count, "Chats with unfinished jobs. Of each kind (ready, delayed, paused) and of dead letters 2,000 are counted, not more."),
    waitingChats: says(count, "Chats whose next job could run now, were there a slot."),
    deadLetters: count,
    queuePaused: z.boolean(),
    clusterCap: says(count.nullable(), "Builds that may run at once over all nodes; null: as many as there are slots."),
    slots: says(count, "Slots of the node that answers."),
    concurrency: says(count, "The same, by the setting's name."),
    draining: says(z.boolean(), "Whether the node that answers is stopping."),
    nodes: z.array(z.object({ id: text, slots: count, running: count, draining: z.boolean(), startedAt: time("When it started."), alive: z.boolean() })),
  }),
  "Figures of the whole queue, or of one tenant. Their cost does not grow with history.",
);

export const eventData = named(
  "EventData",
  z.looseObject({
    jobId: textOrNull,
    chatId: textOrNull,
    tenant: text.optional(),
    chatSeq: z.number().nullable(),
    status: z.enum(jobStatuses).nullable(),
    attempt: z.number().nullable(),
    at: time("When it happened."),
    messageId: says(text.optional(), "`job.accepted`: the message that it comes from."),
    priority: says(count.optional(), "`job.accepted`: −10 … 10; higher runs earlier."),
    runAt: time("`job.accepted` of a delayed job, `job.retrying`: not before.").optional(),
    delayMs: says(count.optional(), "`job.retrying`: the backoff until `runAt`, milliseconds."),
    nodeId: says(text.optional(), "`job.started`: the node that runs it; `job.rescued`: the one that was lost."),
    slots: says(count.optional(), "`job.started`: slots of that node."),
    fence: says(count.optional(), "`job.started`: number of the lane's claim, which grows with each."),
    takenAt: time("`job.started` of a lane that was taken ahead and then waited for a slot: since when.").optional(),
    inHandUntil: time("`job.started` of a lane that had been taken ahead before, and not begun in time: until when it was kept so.").optional(),
    runMs: says(count.optional(), "An attempt's end: milliseconds that the run itself took; absent when none came to an end."),
    recordedAt: time("An attempt's end: when it was recorded, where that was later than a moment after it.").optional(),
    processingMs: says(count.optional(), "`job.completed`: milliseconds from the start to the end, as the job has them."),
    resultBytes: says(count.optional(), "`job.completed`: bytes of the result."),
    failure: says(z.object({ code: z.enum(failureCodes), message: text }).optional(), "`job.failed` and `job.retrying`: why; the job has the whole failure, with its diagnostics."),
    failureCode: says(z.enum(failureCodes).optional(), "The same code by itself."),
    message: says(text.optional(), "The same message by itself."),
    quarantined: says(z.boolean().optional(), "`job.failed`: true when the code itself is now refused everywhere, by its hash."),
    supersededBy: says(textOrNull.optional(), "`job.failed` and `job.cancelRequested`: the newer job of the chat in whose favour it ends."),
    nodeLosses: says(count.optional(), "`job.rescued`: how many nodes were lost with it so far."),
    heldBy: says(text.optional(), "`chat.paused` by a failure: the job that failed."),
    whileRetrying: says(z.enum(chatPolicies.whileRetrying).optional(), "`chat.policyChanged`: the whole policy."),
    afterFailure: says(z.enum(chatPolicies.afterFailure).optional(), "`chat.policyChanged`: the whole policy."),
    queuePosition: position.optional(),
    estimatedWaitTime: milliseconds("`job.moved`: median estimate until the start; null while paused.").optional(),
    estimatedWaitTimeP90: milliseconds("`job.moved`: estimate that nine of ten starts keep; null while paused.").optional(),
  }),
  `What an event's \`data\` is, as JSON: what every event has, and what it adds (more may come). Its name is one of ${[...eventTypes, ...passingTypes].map((type) => `\`${type}\``).join(", ")}, or \`reset\`.`,
);

export const why = named(
  "Why",
  z.object({
    id: text,
    chatId: text,
    tenant: text.optional(),
    status: z.enum(jobStatuses),
    reason: says(z.enum(whyReasons), "What keeps it from running; the most important reason when there are several."),
    reasons: says(z.array(z.enum(whyReasons)), "All of them, most important first."),
    message: says(text, "One sentence for a person."),
    unblocks: says(textOrNull, "What ends the wait, as a sentence."),
    queuePosition: position,
    behind: says(z.object({ id: text, chatSeq: count, status: z.enum(["pending", "running"]), attempt: count }).nullable(), "The job that stands in front in its chat."),
    until: timeOrNull("When it, or the job in front, may start."),
    lanesAhead: says(count, "Chats before its chat in the line for a slot."),
    slots: z.object({ running: count, total: says(count, "Of all nodes that claim.") }),
    nodeId: textOrNull,
  }),
  "Why a job is not running.",
);

const laneJob = named(
  "LaneJob",
  z.object({
    id: text,
    chatSeq: count,
    messageId: text,
    status: z.enum(jobStatuses),
    attempt: count,
    maxAttempts: count,
    priority: count,
    createdAt: time("When it was accepted."),
    startedAt: timeOrNull("When the latest attempt started."),
    completedAt: timeOrNull("When it became final."),
    nextAttemptAt: timeOrNull("When a delayed or backing-off job may start."),
    failureCode: z.enum(failureCodes).nullable(),
  }),
  "A job as its lane shows it.",
);
export const lane = named(
  "Lane",
  z.object({
    chatId: text,
    tenant: text.optional(),
    state: says(z.enum(["idle", "ready", "delayed", "paused", "running"]), "`ready`: in line for a slot; `delayed`: its first job is delayed or backs off."),
    paused: z.boolean(),
    heldBy: says(textOrNull, "The failed job for which its policy has paused it."),
    eventNumber: says(count, "Number of the chat's latest event: later events are not in here."),
    pending: says(count, "Pending jobs, those not listed included."),
    nodeId: says(textOrNull, "The node that runs its first job."),
    jobs: says(z.array(laneJob), `The latest ${laneFinishedMax} finished ones, the running one, and the first ${lanePendingMax} pending ones, in order.`),
  }),
  "A chat and its jobs in order.",
);

const states = says(z.array(text), "Entered states, from the outermost to the innermost.");
const laneName = { chatId: text, tenant: text.optional() };
export const nodeView = named(
  "NodeView",
  z.object({
    nodeId: text,
    state: says(text, "The supervisor's state."),
    slots: z.object({ total: count, held: z.array(z.object({ ...laneName, jobId: text, chatSeq: count, attempt: count, startedAt: time("When the attempt started.") })) }),
    actors: says(count, "Living chat actors, those not listed included."),
    chats: z.array(z.object({ ...laneName, states, job: z.object({ id: text, chatSeq: count, attempt: count, states }).nullable() })),
    quarantine: says(z.array(z.object({ codeHash: text, cause: z.enum(failureCodes), crashes: count, quarantinedAt: time("Since when.") })), "Code that is refused by its hash, newest first."),
    settings: says(z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])), "Those that neither name a place nor hold a secret."),
  }),
  "The node that answers, as its actors stand.",
);

/** The envelope of success. */
export const ok = <S extends z.ZodType>(data: S) => z.object({ ok: z.literal(true), data });
export const okPage = <S extends z.ZodType>(data: S) => ok(data).extend({ meta: z.object({ nextCursor: says(z.string().nullable(), "For the next page's `cursor`; null at the end.") }) });
