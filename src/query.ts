/** What the module's readers are asked, checked and filled in as the routes do it. Throws BuildlaneError validation_failed. */
import { z } from "zod";
import { validationFailed } from "./errors.js";
import { failureCodes, jobStatuses } from "./job.js";
import { limits } from "./options.js";
import { chatIssue, isStorable, isTime, timeExpected } from "./request.js";
import type { DeadLetterFilter, LanesRead, ListRead } from "./store/store.js";

/** More than `max` is `max`. */
const limitOf = (max: number, fallback: number) => z.int().min(1).transform((given) => Math.min(given, max)).default(fallback);
const limit = limitOf(limits.listLimitMax, limits.listLimitDefault);
const bulkLimit = limitOf(limits.batchJobsMax, limits.batchJobsMax);
const storable = z.string().refine(isStorable, "Expected a text without NUL and lone surrogates.");
const chatId = z.string().refine((given) => chatIssue(given) === null, "Expected what may be a chat's id.").optional();
const failureCode = z.enum(failureCodes).optional();
const fingerprint = storable.optional();
const cursor = storable.optional();
const time = storable.refine(isTime, timeExpected).optional();
const include = z.strictObject({ code: z.boolean().default(false), result: z.boolean().default(false) }).prefault({});

/** Strict: a misspelt filter would list everything. */
const list = z.strictObject({ status: z.array(z.enum(jobStatuses)).optional(), chatId, failureCode, createdAfter: time, createdBefore: time, deadLetters: z.boolean().optional(), fingerprint, limit, cursor, include });
const chat = z.strictObject({ limit, include });
const lanes = z.strictObject({ chatIds: z.array(storable).optional(), limit, cursor });
const filter = z.strictObject({ ids: z.array(storable).optional(), chatId, failureCode, fingerprint });
const rate = z.number().min(0.01).max(1000).optional();

function checked<T>(schema: z.ZodType<T>, given: unknown, at = ""): T {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  throw validationFailed(parsed.error.issues.map(({ path, message }) => ({ path: [at, ...path.map(String)].join("/"), message })));
}

export const checkList = (query: unknown = {}): ListRead => checked(list, query);
export const checkChat = (query: unknown = {}) => checked(chat, query);
export const checkLanes = (query: unknown = {}): LanesRead => checked(lanes, query);
/** Not filled in: nothing would mean every dead letter. */
export const checkFilter = (given: unknown): DeadLetterFilter => checked(filter, given, "/filter");
export const checkLimit = (given: unknown): number => checked(limit, given, "/limit");
export const checkBulkLimit = (given: unknown): number => checked(bulkLimit, given, "/limit");
export const checkRate = (given: unknown): number | undefined => checked(rate, given, "/ratePerSecond");
