/**
 * What a caller asks for, checked and filled in: a request becomes a NewJob with every default in place. The one place
 * that knows what a valid request is; the routes' schemas describe the same to clients.
 */
import { hash } from "node:crypto";
import type { Clock } from "./clock.js";
import { codeTooLarge, jobNotFound, validationFailed } from "./errors.js";
import type { Issue } from "./errors.js";
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

export const isChatName = (text: string): boolean => !/\p{Cc}/u.test(text);

/** Bytes of an id as it stands in a URL. */
export const urlBytes = (text: string): number => (text.isWellFormed() ? encodeURIComponent(text).length : Number.POSITIVE_INFINITY);

type Check = (path: string, value: unknown) => string | null;

/** What came instead: its kind, or a plain value as it is. */
const kindOf = (value: unknown): string =>
  value === undefined ? "nothing" : value === null || typeof value === "boolean" ? String(value) : typeof value === "string" ? "a text" : Array.isArray(value) ? "an array" : typeof value === "object" ? "an object" : `a ${typeof value}`;

const notStorable = "Expected a text without NUL and lone surrogates.";
const id: Check = (_, value) => {
  if (typeof value === "string" && !isStorable(value)) return notStorable;
  const bytes = typeof value === "string" ? urlBytes(value) : null;
  return bytes !== null && bytes > 0 && bytes <= limits.idBytesMax ? null : `Expected a text of 1 to ${limits.idBytesMax} bytes as it stands in a URL, got ${bytes === null ? kindOf(value) : `one of ${bytes} bytes`}.`;
};
/** A lane's key is cut at a control character (store/scope.ts), and nobody can type one. */
const chat: Check = (path, value) => id(path, value) ?? (isChatName(value as string) ? null : "Expected a text without control characters.");
const source: Check = (_, value) => (typeof value !== "string" ? `Expected a text, got ${kindOf(value)}.` : isStorable(value) ? null : notStorable);
const integer = (min: number, max: number): Check => (_, value) =>
  value === undefined || (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) ? null : `Expected an integer from ${min} to ${max}, got ${typeof value === "number" ? value : kindOf(value)}.`;

const priority = integer(-limits.priorityMax, limits.priorityMax);
const maxAttempts = integer(1, 25);
const timeoutMs = integer(100, 3_600_000);
const delayMs = integer(0, limits.delayMsMax);
const supersede: Check = (_, value) => (value === undefined || supersedes.includes(value as never) ? null : `Expected one of ${supersedes.join(", ")}, got ${typeof value === "string" ? "another" : kindOf(value)}.`);

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

function optionIssues(options: unknown): Issue[] {
  if (options === undefined) return [];
  if (typeof options !== "object" || options === null || Array.isArray(options)) return [{ path: "/options", message: "Expected an object." }];
  return Object.entries(options).flatMap(([name, value]): Issue[] => {
    const check = Object.hasOwn(optionChecks, name) ? optionChecks[name as keyof BuildOptions] : undefined;
    if (!check) return [{ path: `/options/${name}`, message: `Unknown option; known are ${Object.keys(optionChecks).join(", ")}.` }];
    return value === undefined || check.test(value) ? [] : [{ path: `/options/${name}`, message: `Expected ${check.takes}.` }];
  });
}

/** JSON pointer escapes. */
const pointer = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

function sourceIssues(request: BuildRequest): Issue[] {
  const { code, files, entry } = request as { code?: unknown; files?: unknown; entry?: unknown };
  if (files === undefined) {
    if (entry !== undefined) return [{ path: "/entry", message: "Expected files beside entry." }];
    const wrong = code === undefined ? "Expected code, or files with an entry, got neither." : source("/code", code);
    return wrong ? [{ path: "/code", message: wrong }] : [];
  }
  if (code !== undefined) return [{ path: "/files", message: "Expected either code, or files with an entry, not both." }];
  if (typeof files !== "object" || files === null || Array.isArray(files)) return [{ path: "/files", message: "Expected an object of paths to text." }];
  const names = Object.keys(files);
  const issues: Issue[] = [];
  if (names.length === 0 || names.length > limits.filesMax) issues.push({ path: "/files", message: `Expected 1 to ${limits.filesMax} files.` });
  for (const [name, text] of Object.entries(files).slice(0, limits.filesMax)) {
    const plain = name.length <= limits.filePathCharsMax && isStorable(name) && /^[^/\\:#?]+(\/[^/\\:#?]+)*$/.test(name) && !name.split("/").some((part) => part === "." || part === "..");
    if (!plain) issues.push({ path: `/files/${pointer(name)}`, message: `Expected a relative path of at most ${limits.filePathCharsMax} characters, without "." and ".." parts.` });
    const wrong = source(name, text);
    if (wrong) issues.push({ path: `/files/${pointer(name)}`, message: wrong });
  }
  if (typeof entry !== "string" || !Object.hasOwn(files, entry)) issues.push({ path: "/entry", message: "Expected the path of one of the files." });
  return issues;
}

const known = new Set(["chatId", "messageId", "code", "files", "entry", "options", "priority", "maxAttempts", "timeoutMs", "delayMs", "supersede"]);

function requestIssues(request: BuildRequest): Issue[] {
  if (typeof request !== "object" || request === null || Array.isArray(request)) return [{ path: "", message: `Expected an object with chatId, messageId and code (or files with an entry), got ${kindOf(request ?? undefined)}.` }];
  const issues: Issue[] = [];
  for (const name of Object.keys(request)) if (!known.has(name)) issues.push({ path: `/${pointer(name)}`, message: "Unknown field." });
  const field = (path: string, value: unknown, check: Check): void => {
    const message = check(path, value);
    if (message !== null) issues.push({ path, message });
  };
  field("/chatId", request.chatId, chat);
  field("/messageId", request.messageId, id);
  issues.push(...sourceIssues(request), ...optionIssues(request.options));
  field("/priority", request.priority, priority);
  field("/maxAttempts", request.maxAttempts, maxAttempts);
  field("/timeoutMs", request.timeoutMs, timeoutMs);
  field("/delayMs", request.delayMs, delayMs);
  field("/supersede", request.supersede, supersede);
  return issues;
}

/** What keeps it from being a chat's id; null: nothing. */
export const chatIssue = (chatId: unknown): string | null => chat("/chatId", chatId);

/** The name of a chat that is asked for. Throws BuildlaneError validation_failed. */
export function checkChatId(chatId: unknown): string {
  const message = chatIssue(chatId);
  if (message !== null) throw validationFailed([{ path: "/chatId", message }]);
  return chatId as string;
}

/** The id of a job that is asked for. Throws BuildlaneError: job_not_found for a text that no job can have, validation_failed for what is no text. */
export function checkJobId(jobId: unknown): string {
  if (typeof jobId !== "string") throw validationFailed([{ path: "/id", message: `Expected a job's id, got ${kindOf(jobId)}.` }]);
  if (id("/id", jobId) !== null) throw jobNotFound("of this id");
  return jobId;
}

/** Throws BuildlaneError validation_failed. */
export function checkPolicy(chatId: unknown, policy: Partial<ChatPolicy>): void {
  if (typeof policy !== "object" || policy === null) throw validationFailed([{ path: "", message: `Expected a policy, got ${kindOf(policy)}.` }]);
  const idIssue = chatIssue(chatId);
  const unknown = Object.keys(policy).filter((name) => !Object.hasOwn(chatPolicies, name));
  const issues: Issue[] = [
    ...(idIssue ? [{ path: "/chatId", message: idIssue }] : []),
    ...unknown.map((name) => ({ path: `/${pointer(name)}`, message: "Unknown field." })),
    ...(Object.keys(chatPolicies) as (keyof ChatPolicy)[]).flatMap((name): Issue[] => {
      const allowed: readonly unknown[] = chatPolicies[name];
      return policy[name] === undefined || allowed.includes(policy[name]) ? [] : [{ path: `/${name}`, message: `Expected one of ${allowed.join(", ")}.` }];
    }),
  ];
  if (issues.length > 0) throw validationFailed(issues);
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

/** What makes two requests under one idempotency key the same. */
export const requestHash = (requests: BuildRequest[]): string =>
  sha256(JSON.stringify(requests.map((request) => [request.chatId, request.messageId, hashOf(request), request.priority ?? 0, request.maxAttempts ?? null, request.timeoutMs ?? null, request.delayMs ?? 0, request.supersede ?? null])));

/** Throws BuildlaneError: validation_failed with every issue, payload_too_large. `at` is the path of the request in what was sent. */
export function newJob(scope: Scope, request: BuildRequest, settings: QueueSettings, clock: Clock, at = ""): NewJob {
  const issues = requestIssues(request);
  if (issues.length > 0) throw validationFailed(issues.map(({ path, message }) => ({ path: at + path, message })));
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
