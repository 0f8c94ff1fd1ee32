/**
 * esbuild's messages → Diagnostics and the text of `error`. Lines come from the submitted text, never from the
 * message, and a message about any other file loses its text: so nothing that esbuild may have read can be quoted.
 */
import type { Diagnostic, FailureCode, Outcome } from "../job.js";
import { frame } from "./frame.js";
import type { BuildLimits } from "./limits.js";
import { packageNamespace } from "./packages.js";

/** What is used of a message of esbuild's. Column and length count UTF-8 bytes from 0. */
export interface EngineMessage {
  text: string;
  pluginName?: string;
  location: { file: string; line: number; column: number; length: number; suggestion?: string } | null;
}

/** The submitted lines of a file; `last` is where its code ends, and what comes later is blamed on that line's end. */
export interface SubmittedLines {
  lines: string[];
  last: number;
}
export type LinesOf = (file: string) => SubmittedLines | null;

/** The place of a diagnostic with its whole line, before the limits cut it. */
interface Located {
  diagnostic: Diagnostic;
  wholeLine: string | null;
}

export const gateName = "gate";
const packagePrefix = `${packageNamespace}:`;
const computedPath = /^Could not resolve (import|require)\("/;
const computedPathText = "The path of this import is computed when the code runs. A build includes only files that are named by a plain string.";
const elsewhereText = "The build failed at a place outside of the submitted code.";
const nowhereText = "The build failed for a reason that has no place in the code.";

/** A failed build as an outcome. */
export function failedBuild(messages: EngineMessage[], linesOf: LinesOf, limits: BuildLimits): Outcome {
  // A message without a place tells about esbuild's machine; it counts only when there is nothing else to tell.
  const located = messages.filter((message) => message.location !== null);
  const told = located.length > 0 ? located : messages.slice(0, 1);
  const all = told.slice(0, limits.diagnosticsMax).map((message) => locate(message, linesOf, limits));
  const code: FailureCode = told.some(isRefusal) ? "import_refused" : "build_failed";
  const frames = all.map(({ diagnostic, wholeLine }) => frame({ severity: "error", ...diagnostic, lineText: wholeLine }));
  const more = told.length - all.length;
  if (more > 0) frames.push(`error: ${more} more ${more === 1 ? "error is" : "errors are"} not shown.`);
  const diagnostics = all.map((one) => one.diagnostic);
  return {
    kind: "failed",
    failure: { code, message: sentence(diagnostics[0], told.length), retryable: false, diagnostics },
    error: cut(frames.join("\n\n"), limits.errorCharsMax),
  };
}

export const toWarnings = (messages: EngineMessage[], linesOf: LinesOf, limits: BuildLimits): Diagnostic[] =>
  messages
    // What a package does is nothing that the author of the code could change.
    .filter(({ location }) => location !== null && linesOf(location.file) !== null)
    .slice(0, limits.diagnosticsMax)
    .map((message) => locate(message, linesOf, limits).diagnostic);

/** A glob is refused too: esbuild would look for it among the host's files. */
const isRefusal = (message: EngineMessage): boolean => message.pluginName === gateName || computedPath.test(message.text);

function locate({ text, location }: EngineMessage, linesOf: LinesOf, limits: BuildLimits): Located {
  const nowhere = (constant: string): Located => ({
    diagnostic: { text: constant, file: null, line: null, column: null, length: null, lineText: null, suggestion: null },
    wholeLine: null,
  });
  if (!location) return nowhere(nowhereText);
  const submitted = linesOf(location.file);
  // The operator allowed what is in packages; the name is that of the package's file, not a path of the host.
  if (!submitted && location.file.startsWith(packagePrefix)) return nowhere(cut(oneLine(`In the package file ${location.file.slice(packagePrefix.length)}: ${text}`), limits.diagnosticTextCharsMax));
  if (!submitted) return nowhere(elsewhereText);
  const place = placeOf(location, submitted);
  const shownText = computedPath.test(text) ? computedPathText : text;
  return {
    diagnostic: {
      text: cut(oneLine(shownText), limits.diagnosticTextCharsMax),
      file: cut(location.file, limits.diagnosticTextCharsMax),
      line: place.line,
      column: place.column,
      length: place.length,
      lineText: cut(place.lineText, limits.diagnosticLineCharsMax),
      suggestion: location.suggestion ? cut(oneLine(location.suggestion), limits.diagnosticTextCharsMax) : null,
    },
    wholeLine: place.lineText,
  };
}

/** 1-based line and column in UTF-16 units, inside what was submitted. */
function placeOf({ line, column, length }: { line: number; column: number; length: number }, { lines, last }: SubmittedLines) {
  if (line > last) {
    const lineText = lines[last - 1] ?? "";
    return { line: last, column: lineText.length + 1, length: 0, lineText };
  }
  const lineText = lines[line - 1] ?? "";
  const bytes = Buffer.from(lineText);
  const before = bytes.subarray(0, column).toString().length;
  const meant = bytes.subarray(column, column + length).toString().length;
  return { line, column: before + 1, length: meant, lineText };
}

function sentence(first: Diagnostic | undefined, count: number): string {
  if (!first) return nowhereText;
  const place = first.file === null ? "" : ` (${first.file}, line ${first.line}, column ${first.column})`;
  const more = count > 1 ? `, and ${count - 1} more ${count === 2 ? "error" : "errors"}` : "";
  return `${first.text}${place}${more}`;
}

const oneLine = (text: string): string => text.replace(/[\r\n\t]+/g, " ");

/** At most `charsMax` UTF-16 units, never half a character. */
export function cut(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const end = /[\uD800-\uDBFF]/.test(text[charsMax - 2] ?? "") ? charsMax - 2 : charsMax - 1;
  return `${text.slice(0, end)}…`;
}

/** As esbuild counts lines. */
export const splitLines = (text: string): string[] => text.split(/\r\n|[\n\r\u2028\u2029]/);
