/** What is asked for: bodies, queries, parameters and headers. A submission's body is described here and checked by the queue (src/request.ts). */
import { z } from "zod";
import { failureCodes, jobStatuses, supersedes } from "../job.js";
import type { JobStatus } from "../job.js";
import { limits } from "../options.js";
import { chatNameRule, isChatName, isStorable, isTime, timeExpected, urlBytes } from "../request.js";
import { chatPolicies } from "../store/store.js";
import { integerText, named, says } from "./components.js";
import { buildOptions } from "./schemas.js";

const storable = (schema: z.ZodString) => schema.refine(isStorable, "Expected text without NUL and lone surrogates.");
const idText = () =>
  z
    .string()
    .min(1)
    .refine((value) => urlBytes(value) <= limits.idBytesMax && isStorable(value), `Expected a text of 1 to ${limits.idBytesMax} bytes when URL-encoded, without NUL and lone surrogates.`);

const chatId = says(idText().refine(isChatName, chatNameRule), `The chat: 1 to ${limits.idBytesMax} bytes, URL-encoded, without control characters, and neither \`.\` nor \`..\`.`, { examples: ["chat1"], minLength: 1, maxLength: limits.idBytesMax });
const messageId = says(idText(), `The message that the code comes from: 1 to ${limits.idBytesMax} bytes, URL-encoded. One message may be built many times.`, { examples: ["msg1"], minLength: 1, maxLength: limits.idBytesMax });
const jobId = says(storable(z.string().min(1).max(limits.idBytesMax)), "The job.");

export const submitBody = named(
  "BuildRequest",
  z.strictObject({
    chatId,
    messageId,
    code: says(z.string().optional(), "One module. Either this, or `files` with `entry`."),
    files: says(z.record(z.string(), z.string()).optional(), `Relative paths to text, at most ${limits.filesMax}; modules import one another by relative path.`),
    entry: says(z.string().optional(), "The path of one of the files."),
    options: buildOptions.optional(),
    priority: says(z.int().min(-limits.priorityMax).max(limits.priorityMax).optional(), "Higher runs earlier in its chat; 0 unless said."),
    maxAttempts: says(z.int().min(1).max(25).optional(), "Attempts that may cost one; the service's setting unless said."),
    timeoutMs: says(z.int().min(100).max(3_600_000).optional(), "Wall-clock limit of one attempt, milliseconds."),
    delayMs: says(z.int().min(0).max(limits.delayMsMax).optional(), "Milliseconds to wait before the first start; the job holds its place meanwhile."),
    supersede: says(z.enum(supersedes).optional(), "Ends the chat's older jobs in favour of this one, as `superseded`: `pending` those that wait, `running` the running one too, which is stopped."),
  }),
  "A request to build one piece of code.",
  { examples: [{ chatId: "chat1", messageId: "msg1", code: 'console.log("test")' }] },
);
export const batchBody = named(
  "BatchRequest",
  z.strictObject({ jobs: says(z.array(submitBody), "Accepted all or none, in this order.", { minItems: 1, maxItems: limits.batchJobsMax }) }),
  `Up to ${limits.batchJobsMax} requests.`,
);

export const submitHeaders = z.object({
  "idempotency-key": says(z.string().min(1).max(limits.idempotencyKeyCharsMax).optional(), "The same key and request answers with the same job for 24 hours; another request is refused."),
  traceparent: says(z.string().optional(), "The submitter's trace (W3C Trace Context): attempts become OpenTelemetry spans below it."),
  prefer: says(z.string().optional(), `\`wait=N\`: waits up to N seconds (at most ${limits.waitSecondsMax}) for the job to finish.`, { examples: ["wait=10"] }),
});
export const batchHeaders = submitHeaders.pick({ "idempotency-key": true, traceparent: true });

export const jobParams = z.object({ id: jobId });
export const chatParams = z.object({ chatId });

export const policyBody = named(
  "ChatPolicyChange",
  z.strictObject({
    whileRetrying: says(z.enum(chatPolicies.whileRetrying).optional(), "`block`: later jobs of the chat wait for one that backs off. `yield`: they pass it, and it stands where a job accepted at the end of its backoff would."),
    afterFailure: says(z.enum(chatPolicies.afterFailure).optional(), "`skip`: the chat goes on after a job that failed for good. `hold`: it is paused until it is resumed or that job redriven."),
  }),
  "What is left out stays as it is.",
  { examples: [{ whileRetrying: "yield", afterFailure: "hold" }] },
);

const commaList = <const T extends readonly [string, ...string[]]>(values: T, description: string) =>
  says(z.string().transform((given) => given.split(",")).pipe(z.array(z.enum(values))).optional(), `${description}, comma-separated: ${values.join(", ")}.`);

const include = commaList(["code", "result"], "Large fields to bring along");
export const wanted = (given: ("code" | "result")[] | undefined) => ({ code: given?.includes("code") ?? false, result: given?.includes("result") ?? false });

const limit = says(integerText(1, limits.listLimitMax).default(limits.listLimitDefault), "How many at most.");
const failureCode = says(z.enum(failureCodes).optional(), "Only jobs that failed so.");
const cursor = says(storable(z.string().min(1).max(500)).optional(), "`meta.nextCursor` of the page before.");
const when = (description: string) => says(z.iso.datetime({ offset: true, error: timeExpected, abort: true }).refine(isTime, timeExpected).optional(), description);

export const chatQuery = z.object({ limit, include });
const fingerprint = says(z.string().regex(/^[0-9a-f]{12}$/), "Those of one group, as `/dead-letters/groups` names it.");
/** Strict: a misspelt filter would list everything. */
const pageQuery = z.strictObject({ chatId: chatId.optional(), failureCode, limit, cursor, include });
export const deadLettersQuery = pageQuery.extend({ fingerprint: fingerprint.optional() });
export const listQuery = pageQuery.extend({
  status: commaList(jobStatuses as unknown as readonly [JobStatus, ...JobStatus[]], "Only jobs in these statuses"),
  createdAfter: when("Only jobs accepted at or after this time, ISO 8601 with its offset, of the years 0001 to 9999."),
  createdBefore: when("Only jobs accepted at or before this time, ISO 8601 with its offset, of the years 0001 to 9999."),
});

export const lanesQuery = z.object({
  chatIds: says(z.string().max(20_000).transform((given) => given.split(",").map(decoded)).pipe(z.array(idText()).max(limits.listLimitMax)).optional(), "Just these chats, comma-separated, each URL-encoded once more."),
  limit,
  cursor,
});
/** A part that cannot be decoded is what it says. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const inspectQuery = z.object({
  chatId: chatId.optional(),
  tenant: says(storable(z.string().min(1).max(63)).optional(), "Whose chat is meant by `chatId`; the default tenant's unless said."),
  jobId: jobId.optional(),
  sample: says(integerText(1, 10_000).optional(), "One chat in so many, each wholly or not at all."),
});
export const groupsQuery = z.strictObject({ chatId: chatId.optional(), failureCode, limit });

const bulkMax = limits.batchJobsMax;
const onlyOne = ({ ids, filter }: { ids?: unknown; filter?: unknown }): boolean => (ids === undefined) !== (filter === undefined);
export const bulkBody = named(
  "DeadLetterSelection",
  z
    .strictObject({
      ids: says(z.array(jobId).min(1).max(bulkMax).optional(), "These jobs. Either this or `filter`."),
      filter: says(z.strictObject({ chatId: chatId.optional(), failureCode, fingerprint: fingerprint.optional() }).optional(), "All that match; `{}` means every dead letter."),
      limit: says(z.int().min(1).max(bulkMax).default(bulkMax), "How many at most, oldest first."),
      dryRun: says(z.boolean().default(false), "Only counts how many match."),
      reason: says(storable(z.string().max(500)).optional(), "Why, for the audit log."),
    })
    .refine(onlyOne, "Expected either ids or filter."),
  "Which dead letters are meant.",
);
export const redriveBody = named(
  "DeadLetterRedrive",
  z
    .strictObject({ ...bulkBody.shape, ratePerSecond: says(z.number().min(0.01).max(1000).optional(), "They start so many a second: each is delayed a little more than the one before. Unset: at once.") })
    .refine(onlyOne, "Expected either ids or filter."),
  "Which dead letters are meant, and how fast they come back.",
);

export const eventsQuery = z.object({
  after: says(integerText(0, Number.MAX_SAFE_INTEGER).optional(), "Only events after this number; 0: all that is kept. `Last-Event-ID` comes before it."),
});
export const eventsHeaders = z.object({ "last-event-id": says(z.string().optional(), "The number of the last event that was seen.") });
