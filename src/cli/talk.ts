/** Data to stdout, talk to stderr, colour only where a person looks and has not said NO_COLOR. */
import type { JobSummary } from "../client/index.js";

export const say = (line: string): void => void (line !== "" && process.stderr.write(`${line}\n`));
export const print = (text: string): void => void process.stdout.write(`${text}\n`);
export const printJson = (data: unknown): void => print(JSON.stringify(data));

/** https://no-color.org: any value but an empty one turns colour off; FORCE_COLOR turns it on. */
function isColoured(stream: { isTTY?: boolean }): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR) return false;
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== "0") return true;
  return stream.isTTY === true && TERM !== "dumb";
}
const codes = { red: 31, green: 32, yellow: 33, cyan: 36, dim: 2, bold: 1 } as const;
export type Colour = keyof typeof codes;
export const paint = (stream: { isTTY?: boolean }, colour: Colour, text: string): string => (isColoured(stream) ? `\u001b[${codes[colour]}m${text}\u001b[0m` : text);

/** Makes a stranger's text harmless to a terminal: no escapes, no carriage returns. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
export const harmless = (text: string): string => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\uFFFD");

/** A build's error with its caret frames: headings in red, carets in yellow. */
export function frames(error: string): string {
  const stream = process.stderr;
  return harmless(error)
    .split("\n")
    .map((line) => (/^[\s|│0-9]*[\^~]+\s*$/.test(line) ? paint(stream, "yellow", line) : /^\s*(\d+ *)?[|│]/.test(line) ? paint(stream, "dim", line) : line))
    .join("\n");
}

export const seconds = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`);

const statusColours: Record<string, Colour> = { completed: "green", failed: "red", running: "cyan", pending: "yellow" };

/** Rows in columns, for a person; `colour` is of the status column. */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows
    .map((row, index) => row.map((cell, column) => (index > 0 && statusColours[cell] ? paint(process.stdout, statusColours[cell], cell.padEnd(widths[column] ?? 0)) : cell.padEnd(widths[column] ?? 0))).join("  ").trimEnd())
    .join("\n");
}

export const jobTable = (jobs: JobSummary[]): string =>
  table([["ID", "CHAT", "#", "MESSAGE", "STATUS", "TRIES", "CREATED", "WHY"], ...jobs.map((job) => [job.id, harmless(job.chatId), String(job.chatSeq), harmless(job.messageId), job.status, `${job.attempt}/${job.maxAttempts}`, job.createdAt, job.failure?.code ?? ""])]);
