/** Makes what a runner says storable: no NUL, no lone surrogates, bounded. One job's bytes must not fail a batch. */
import type { Diagnostic, Failure } from "./job.js";
import { limits } from "./options.js";
import type { Ending } from "./store/store.js";

const clean = (text: string): string => (text.includes("\0") ? text.replaceAll("\0", "\uFFFD") : text).toWellFormed();
const cut = (text: string, charsMax: number): string => clean(text.length > charsMax ? `${text.slice(0, charsMax - 1)}…` : text);
const maybe = (text: string | null, charsMax: number): string | null => (text === null ? null : cut(text, charsMax));

const cleanDiagnostic = (one: Diagnostic): Diagnostic => ({
  ...one,
  text: cut(one.text, limits.diagnosticTextCharsMax),
  file: maybe(one.file, limits.filePathCharsMax),
  lineText: maybe(one.lineText, limits.diagnosticLineCharsMax),
  suggestion: maybe(one.suggestion, limits.diagnosticTextCharsMax),
});
const cleanDiagnostics = (all: Diagnostic[]): Diagnostic[] => all.slice(0, limits.diagnosticsMax).map(cleanDiagnostic);

const cleanFailure = (failure: Failure): Failure => ({
  ...failure,
  message: cut(failure.message, limits.errorCharsMax),
  diagnostics: cleanDiagnostics(failure.diagnostics),
});

export function cleanEnd(end: Ending["end"]): Ending["end"] {
  switch (end.kind) {
    case "completed":
      return { ...end, result: clean(end.result), sourceMap: end.sourceMap === null ? null : clean(end.sourceMap), warnings: cleanDiagnostics(end.warnings), externals: end.externals.map(clean) };
    case "failed":
    case "retrying":
      return { ...end, failure: cleanFailure(end.failure), error: cut(end.error, limits.errorCharsMax) };
    case "released":
    case "returned":
      return end;
    default:
      return end satisfies never;
  }
}
