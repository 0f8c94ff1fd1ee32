/** A diagnostic as text with its line and a caret under the place, for a person or a model to use as it is. */

export interface Framed {
  severity: "error" | "warning";
  text: string;
  file: string | null;
  line: number | null;
  column: number | null;
  length: number | null;
  /** The whole line, however long: the frame shows what is around the column. */
  lineText: string | null;
}

const widthMax = 120;

export function frame({ severity, text, file, line, column, length, lineText }: Framed): string {
  if (file === null || line === null || column === null) return `${severity}: ${text}`;
  const head = `${file}:${line}:${column}: ${severity}: ${text}`;
  if (lineText === null) return head;
  const { shown, start } = around(lineText, column - 1);
  const gutter = String(line);
  // Tabs stay tabs, so that the caret stands under its character whatever a tab's width is.
  const lead = [...shown.slice(0, column - 1 - start)].map((char) => (char === "\t" ? "\t" : " ")).join("");
  const marked = [...shown.slice(column - 1 - start, column - 1 - start + (length ?? 0))].length;
  const caret = `^${"~".repeat(Math.max(0, marked - 1))}`;
  return `${head}\n\n  ${gutter} | ${shown}\n  ${" ".repeat(gutter.length)} | ${lead}${caret}`;
}

/** The part of a long line around an index, with an ellipsis where it was cut. */
function around(lineText: string, index: number): { shown: string; start: number } {
  if (lineText.length <= widthMax) return { shown: lineText, start: 0 };
  const from = Math.max(0, Math.min(index - widthMax / 2, lineText.length - widthMax));
  const shown = lineText.slice(from, from + widthMax);
  const head = from > 0 ? "…" : "";
  const tail = from + widthMax < lineText.length ? "…" : "";
  return { shown: head + shown + tail, start: from - head.length };
}
