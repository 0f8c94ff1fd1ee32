/** What an error of the user's says, whole: anything may have been thrown, even what throws when it is read. */
import { limits } from "./options.js";

/** Errors that are told of one: causes and parts may go in circles, or on for ever. */
const toldMax = 50;

const reading = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch {
    return undefined;
  }
};
const isA = (value: unknown, kind: ErrorConstructor | AggregateErrorConstructor): boolean => reading(() => value instanceof kind) === true;
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** The message alone, of an error or of any object that has one; never a stack. */
function ownText(thrown: unknown): string {
  const message = isObject(thrown) ? reading(() => thrown["message"]) : undefined;
  if (typeof message === "string" && message.trim() !== "") return message;
  const text = isObject(thrown) && !isA(thrown, Error) ? reading(() => JSON.stringify(thrown)) : reading(() => String(thrown));
  return text ?? "Something was thrown that cannot be written as text.";
}

/** Its message, then those of its causes and, of an AggregateError, of its parts, each on a line of its own. */
export function errorText(thrown: unknown): string {
  const seen = new Set<unknown>();
  const texts: string[] = [];
  let chars = 0;
  const add = (one: unknown, prefix: string): void => {
    if (seen.has(one) || seen.size >= toldMax || chars > limits.errorCharsMax) return;
    seen.add(one);
    const text = `${prefix}${ownText(one)}`;
    chars += text.length;
    texts.push(text);
    if (!isObject(one)) return;
    const cause = reading(() => one["cause"]);
    if (cause !== undefined && cause !== null) add(cause, "Caused by: ");
    if (isA(one, AggregateError)) for (const part of reading(() => (one["errors"] as unknown[]).slice(0, toldMax)) ?? []) add(part, "One of them: ");
  };
  add(thrown, "");
  return texts.join("\n");
}

/** The first line that says something, bounded; a bracket alone, as JSON begins, says nothing. */
export function firstLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return (lines.find((line) => /[\p{L}\p{N}]/u.test(line)) ?? lines[0] ?? "").slice(0, 300);
}
