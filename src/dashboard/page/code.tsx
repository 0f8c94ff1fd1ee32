/** Submitted code and built output as text with colours; places that a build complains about are marked in it. */
import hljs from "highlight.js/lib/core";
import css from "highlight.js/lib/languages/css";
import json from "highlight.js/lib/languages/json";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import { useMemo } from "preact/hooks";
import type { Diagnostic } from "../../job.js";

for (const [name, language] of Object.entries({ css, json, typescript, xml })) hljs.registerLanguage(name, language);

/** Longer texts are shown without colours, and cut; so are longer lines. */
const colouredMax = 60_000;
const linesMax = 2000;
const lineCharsMax = 10_000;

/** Highlighted lines; a span that goes over a line's end is closed and opened again. */
function coloured(text: string, language: string): string[] {
  const escape = (plain: string) => plain.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const html = text.length > colouredMax ? escape(text) : hljs.highlight(text, { language, ignoreIllegals: true }).value;
  let open: string[] = [];
  return html.split("\n").map((line) => {
    const before = open.join("");
    for (const [tag] of line.matchAll(/<span[^>]*>|<\/span>/g)) open = tag === "</span>" ? open.slice(0, -1) : [...open, tag];
    return before + line + "</span>".repeat(open.length);
  });
}

export const languageOf = (file: string | null, loader: string | undefined): string => {
  const kind = /\.(\w+)$/.exec(file ?? "")?.[1] ?? loader ?? "tsx";
  return kind === "css" ? "css" : kind === "json" ? "json" : "typescript";
};

export function Code({ text: whole, language, marks = [], tone = "bad", label }: { text: string; language: string; marks?: Diagnostic[]; tone?: "bad" | "warn"; label: string }) {
  const { lines, isCut } = useMemo(() => {
    const all = whole.split("\n");
    const kept = all.slice(0, linesMax).map((line) => (line.length > lineCharsMax ? `${line.slice(0, lineCharsMax)} … cut here` : line));
    return { lines: coloured(kept.join("\n"), language), isCut: all.length > linesMax };
  }, [whole, language]);
  const at = new Map<number, Diagnostic[]>();
  for (const mark of marks) if (mark.line !== null) at.set(mark.line, [...(at.get(mark.line) ?? []), mark]);
  return (
    <div class="code" tabIndex={0} role="region" aria-label={label}>
      <code>
        {lines.map((line, index) => {
          const found = at.get(index + 1);
          return (
            <span key={index} class={found ? `line marked ${tone}` : "line"} data-line={index + 1}>
              <span class="number" aria-hidden="true">{index + 1}</span>
              <span class="text" dangerouslySetInnerHTML={{ __html: line || " " }} />
              {found?.map((one, nth) => (
                <span key={nth} class="caret">
                  <span aria-hidden="true">{`${" ".repeat(Math.max(0, (one.column ?? 1) - 1))}${"^".repeat(Math.max(1, Math.min(one.length ?? 1, 80)))} `}</span>
                  <span class="caret-text">{one.text}{one.suggestion ? ` Try: ${one.suggestion}` : ""}</span>
                </span>
              ))}
            </span>
          );
        })}
        {isCut ? <span class="line"><span class="text">… cut here</span></span> : null}
      </code>
    </div>
  );
}
