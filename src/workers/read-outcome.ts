/**
 * The pool's own look at what a worker answered, field by field and limit by limit. The worker keeps to the limits
 * itself; this is for the day when a build has taken it over.
 */
import type { Diagnostic, Failure, Outcome } from "../job.js";
import { outputTooLarge } from "./failures.js";
import type { BuildLimits } from "./limits.js";

const externalsMax = 1000;
const externalCharsMax = 250;
/** Only these can be a worker's verdict; all others are the pool's or the queue's. */
const workerVerdicts = ["build_failed", "import_refused", "output_too_large"] as const;

export function readOutcome(value: unknown, limits: BuildLimits): Outcome | null {
  if (!isRecord(value)) return null;
  return value["kind"] === "built" ? readBuilt(value, limits) : value["kind"] === "failed" ? readFailed(value, limits) : null;
}

function readBuilt({ result, sourceMap, warnings, externals }: Record<string, unknown>, limits: BuildLimits): Outcome | null {
  if (typeof result !== "string" || !(sourceMap === null || typeof sourceMap === "string")) return null;
  const bytes = Buffer.byteLength(result) + Buffer.byteLength(sourceMap ?? "");
  if (bytes > limits.outputBytesMax) return outputTooLarge(bytes, limits.outputBytesMax);
  const read = readDiagnostics(warnings, limits);
  if (!read || !Array.isArray(externals) || externals.length > externalsMax) return null;
  if (!externals.every((name) => isText(name, externalCharsMax))) return null;
  return { kind: "built", result, sourceMap, warnings: read, externals: externals as string[] };
}

function readFailed({ failure, error }: Record<string, unknown>, limits: BuildLimits): Outcome | null {
  if (!isRecord(failure) || !isText(error, limits.errorCharsMax)) return null;
  const code = workerVerdicts.find((one) => one === failure["code"]);
  const diagnostics = readDiagnostics(failure["diagnostics"], limits);
  const { message } = failure;
  if (!code || !diagnostics || !isText(message, limits.errorCharsMax)) return null;
  const read: Failure = { code, message, retryable: false, diagnostics };
  return { kind: "failed", failure: read, error };
}

function readDiagnostics(value: unknown, limits: BuildLimits): Diagnostic[] | null {
  if (!Array.isArray(value) || value.length > limits.diagnosticsMax) return null;
  const read = value.map((one) => readDiagnostic(one, limits));
  return read.includes(null) ? null : (read as Diagnostic[]);
}

function readDiagnostic(value: unknown, limits: BuildLimits): Diagnostic | null {
  if (!isRecord(value)) return null;
  const { text, file, line, column, length, lineText, suggestion } = value;
  if (!isText(text, limits.diagnosticTextCharsMax) || !isTextOrNull(file, limits.diagnosticTextCharsMax)) return null;
  if (!isTextOrNull(lineText, limits.diagnosticLineCharsMax) || !isTextOrNull(suggestion, limits.diagnosticTextCharsMax)) return null;
  if (!isPlace(line) || !isPlace(column) || !isPlace(length)) return null;
  return { text, file, line, column, length, lineText, suggestion };
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const isText = (value: unknown, charsMax: number): value is string => typeof value === "string" && value.length <= charsMax;
const isTextOrNull = (value: unknown, charsMax: number): value is string | null => value === null || isText(value, charsMax);
const isPlace = (value: unknown): value is number | null => value === null || (Number.isSafeInteger(value) && (value as number) >= 0);
