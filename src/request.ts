/**
 * What a caller asks for, checked and filled in: a request becomes a NewJob with every default in place. The one place
 * that knows what a valid request is; the routes' schemas describe the same to clients.
 */
import { hash } from "node:crypto";
import type { Clock } from "./clock.js";
import { codeTooLarge, jobNotFound, validationFailed } from "./errors.js";
import { collectIssues } from "./issues.js";
import type { Issues, Path } from "./issues.js";
import { loaders, supersedes } from "./job.js";
import type { BuildOptions, BuildRequest } from "./job.js";
import { limits } from "./options.js";
import type { QueueSettings } from "./options.js";
import { laneKey } from "./store/scope.js";
import type { Scope } from "./store/scope.js";
import { chatPolicies } from "./store/store.js";
import type { ChatPolicy, NewJob } from "./store/store.js";

/** PostgreSQL cannot store NUL, and a lone surrogate has no UTF-8. */
export const isStorable = (text: string): boolean => !text.includes("\0") && text.isWellFormed();

/** A lane's key is cut at a control character (store/scope.ts), and nobody can type one; and a URL takes `.` and `..` for steps of its path, escaped or not. */
export const isChatName = (text: string): boolean => !/\p{Cc}/u.test(text) && text !== "." && text !== "..";
export const chatNameRule = 'Expected a text without control characters that is neither "." nor "..".';

/** What PostgreSQL and a text of four digits for the year both have. */
const [firstMs, lastMs] = [Date.parse("0001-01-01T00:00:00Z"), Date.parse("9999-12-31T23:59:59.999Z")];
export const isTime = (text: string): boolean => Date.parse(text) >= firstMs && Date.parse(text) <= lastMs;
export const timeExpected = "Expected an ISO 8601 time with its offset, such as 2026-01-31T12:00:00Z, in the years 0001 to 9999.";

/** Bytes of an id as it stands in a URL. */
export const urlBytes = (text: string): number => (text.isWellFormed() ? encodeURIComponent(text).length : Number.POSITIVE_INFINITY);

type Check = (value: unknown) => string | null;

/** What came instead: its kind, or a plain value as it is. */
const kindOf = (value: unknown): string =>
  value === undefined ? "nothing" : value === null || typeof value === "boolean" ? String(value) : typeof value === "string" ? "a text" : Array.isArray(value) ? "an array" : typeof value === "object" ? "an object" : `a ${typeof value}`;

const notStorable = "Expected a text without NUL and lone surrogates.";
const id: Check = (value) => {
  if (typeof value === "string" && !isStorable(value)) return notStorable;
  const bytes = typeof value === "string" ? urlBytes(value) : null;
  return bytes !== null && bytes > 0 && bytes <= limits.idBytesMax ? null : `Expected a text of 1 to ${limits.idBytesMax} bytes as it stands in a URL, got ${bytes === null ? kindOf(value) : `one of ${bytes} bytes`}.`;
};
const chat: Check = (value) => id(value) ?? (isChatName(value as string) ? null : chatNameRule);
const source: Check = (value) => (typeof value !== "string" ? `Expected a text, got ${kindOf(value)}.` : isStorable(value) ? null : notStorable);
const integer = (min: number, max: number): Check => (value) =>
  value === undefined || (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) ? null : `Expected an integer from ${min} to ${max}, got ${typeof value === "number" ? value : kindOf(value)}.`;

const priority = integer(-limits.priorityMax, limits.priorityMax);
const maxAttempts = integer(1, 25);
const timeoutMs = integer(100, 3_600_000);
const delayMs = integer(0, limits.delayMsMax);
const supersede: Check = (value) => (value === undefined || supersedes.includes(value as never) ? null : `Expected one of ${supersedes.join(", ")}, got ${typeof value === "string" ? "another" : kindOf(value)}.`);

interface OptionCheck {
  takes: string;
  test(value: unknown): boolean;
}
const oneOf = (...values: readonly unknown[]): OptionCheck => ({ takes: values.length > 1 ? `one of ${values.join(", ")}` : String(values[0]), test: (value) => values.includes(value) });
const flag: OptionCheck = { takes: "true or false", test: (value) => typeof value === "boolean" };
const optionChecks: Record<keyof BuildOptions, OptionCheck> = {
  loader: oneOf(...loaders),
  format: oneOf("esm"),
  minify: flag,
  sourcemap: flag,
  target: { takes: "targets of esbuild, such as es2022 or chrome120,safari17", test: (value) => typeof value === "string" && /^[a-z0-9.,]{1,100}$/i.test(value) },
  jsx: oneOf("automatic", "transform", "preserve"),
};

const unknownOption = `Unknown option; known are ${Object.keys(optionChecks).join(", ")}.`;

function checkOptions(options: unknown, issues: Issues): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null || Array.isArray(options)) return issues.add(["options"], "Expected an object.");
  for (const [name, value] of Object.entries(options)) {
    const check = Object.hasOwn(optionChecks, name) ? optionChecks[name as keyof BuildOptions] : undefined;
    if (!check) issues.add(["options", name], unknownOption);
    else if (value !== undefined && !check.test(value)) issues.add(["options", name], `Expected ${check.takes}.`);
  }
}

function checkSource(request: BuildRequest, issues: Issues): void {
  const { code, files, entry } = request as { code?: unknown; files?: unknown; entry?: unknown };
  if (files === undefined) {
    if (entry !== undefined) return issues.add(["entry"], "Expected files beside entry.");
    const wrong = code === undefined ? "Expected code, or files with an entry, got neither." : source(code);
    return wrong ? issues.add(["code"], wrong) : undefined;
  }
  if (code !== undefined) return issues.add(["files"], "Expected either code, or files with an entry, not both.");
  if (typeof files !== "object" || files === null || Array.isArray(files)) return issues.add(["files"], "Expected an object of paths to text.");
  const names = Object.keys(files);
  if (names.length === 0 || names.length > limits.filesMax) issues.add(["files"], `Expected 1 to ${limits.filesMax} files.`);
  for (const [name, text] of Object.entries(files).slice(0, limits.filesMax)) {
    const plain = name.length <= limits.filePathCharsMax && isStorable(name) && /^[^/\\:#?]+(\/[^/\\:#?]+)*$/.test(name) && !name.split("/").some((part) => part === "." || part === "..");
    if (!plain) issues.add(["files", name], `Expected a relative path of at most ${limits.filePathCharsMax} characters, without "." and ".." parts.`);
    const wrong = source(text);
    if (wrong) issues.add(["files", name], wrong);
  }
  if (typeof entry !== "string" || !Object.hasOwn(files, entry)) issues.add(["entry"], "Expected the path of one of the files.");
}

const known = new Set(["chatId", "messageId", "code", "files", "entry", "options", "priority", "maxAttempts", "timeoutMs", "delayMs", "supersede"]);

function checkRequest(request: BuildRequest, issues: Issues): void {
  if (typeof request !== "object" || request === null || Array.isArray(request)) return issues.add([], `Expected an object with chatId, messageId and code (or files with an entry), got ${kindOf(request ?? undefined)}.`);
  for (const name of Object.keys(request)) if (!known.has(name)) issues.add([name], "Unknown field.");
  const field = (name: string, value: unknown, check: Check): void => {
    const message = check(value);
    if (message !== null) issues.add([name], message);
  };
  field("chatId", request.chatId, chat);
  field("messageId", request.messageId, id);
  checkSource(request, issues);
  checkOptions(request.options, issues);
  field("priority", request.priority, priority);
  field("maxAttempts", request.maxAttempts, maxAttempts);
  field("timeoutMs", request.timeoutMs, timeoutMs);
  field("delayMs", request.delayMs, delayMs);
  field("supersede", request.supersede, supersede);
}

/** What keeps it from being a chat's id; null: nothing. */
export const chatIssue = (chatId: unknown): string | null => chat(chatId);

/** The name of a chat that is asked for. Throws BuildlaneError validation_failed. */
export function checkChatId(chatId: unknown): string {
  const message = chatIssue(chatId);
  if (message !== null) throw validationFailed([{ path: "/chatId", message }]);
  return chatId as string;
}

/** The id of a job that is asked for. Throws BuildlaneError: job_not_found for a text that no job can have, validation_failed for what is no text. */
export function checkJobId(jobId: unknown): string {
  if (typeof jobId !== "string") throw validationFailed([{ path: "/id", message: `Expected a job's id, got ${kindOf(jobId)}.` }]);
  if (id(jobId) !== null) throw jobNotFound("of this id");
  return jobId;
}

/** Throws BuildlaneError validation_failed. */
export function checkPolicy(chatId: unknown, policy: Partial<ChatPolicy>): void {
  if (typeof policy !== "object" || policy === null) throw validationFailed([{ path: "", message: `Expected a policy, got ${kindOf(policy)}.` }]);
  const issues = collectIssues();
  const wrong = chatIssue(chatId);
  if (wrong) issues.add(["chatId"], wrong);
  for (const name of Object.keys(policy)) if (!Object.hasOwn(chatPolicies, name)) issues.add([name], "Unknown field.");
  for (const name of Object.keys(chatPolicies) as (keyof ChatPolicy)[]) {
    const allowed: readonly unknown[] = chatPolicies[name];
    if (policy[name] !== undefined && !allowed.includes(policy[name])) issues.add([name], `Expected one of ${allowed.join(", ")}.`);
  }
  issues.refuse();
}

function sourceBytes({ code, files }: BuildRequest): number {
  const texts = files ? Object.values(files) : [code ?? ""];
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
}

const sha256 = (text: string): string => hash("sha256", text, "hex");

/** What makes two builds the same. */
export function hashOf({ code, files, entry, options }: Pick<BuildRequest, "code" | "files" | "entry" | "options">): string {
  const sorted = files ? Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)) : null;
  const chosen = Object.entries(options ?? {}).filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return sha256(JSON.stringify([code ?? null, sorted, entry ?? null, chosen]));
}

/** What makes two requests under one idempotency key the same; one of `many` is not one by itself. */
export const requestHash = (requests: BuildRequest[], many: boolean): string =>
  sha256(JSON.stringify([many, ...requests.map((request) => [request.chatId, request.messageId, hashOf(request), request.priority ?? 0, request.maxAttempts ?? null, request.timeoutMs ?? null, request.delayMs ?? 0, request.supersede ?? null])]));

/** Throws BuildlaneError: validation_failed with its issues, payload_too_large. `at` is the path of the request in what was sent. */
export function newJob(scope: Scope, request: BuildRequest, settings: QueueSettings, clock: Clock, at: Path = []): NewJob {
  const issues = collectIssues(at);
  checkRequest(request, issues);
  issues.refuse();
  const bytes = sourceBytes(request);
  if (bytes > settings.maxCodeBytes) throw codeTooLarge(bytes, settings.maxCodeBytes);
  return {
    id: clock.jobId(),
    chatId: laneKey(scope, request.chatId),
    messageId: request.messageId,
    code: request.code ?? null,
    files: request.files ?? null,
    entry: request.entry ?? null,
    options: request.options ?? {},
    codeHash: hashOf(request),
    priority: request.priority ?? 0,
    maxAttempts: request.maxAttempts ?? settings.maxAttempts,
    timeoutMs: request.timeoutMs ?? settings.buildTimeoutMs,
    delayMs: request.delayMs ?? 0,
    supersede: request.supersede ?? null,
  };
}
