/**
 * Code pasted with its Markdown fence. It would even compile (as a tagged template) and complete with rubbish, so the
 * fence is taken off before the build. Lines are emptied, not removed: every place stays that of the submitted text.
 */
import type { Loader } from "../job.js";

export interface Fenced {
  /** As many lines as the submitted text has up to the closing fence. */
  code: string;
  /** What the fence says about the language, when it is one that can be built. */
  loader: Loader | null;
  /** The opening fence's place, 1-based, and its text. */
  line: number;
  lineText: string;
}

const languages: Record<string, Loader> = {
  tsx: "tsx", typescriptreact: "tsx", ts: "ts", typescript: "ts", jsx: "jsx", javascriptreact: "jsx", react: "jsx",
  js: "js", javascript: "js", mjs: "js", json: "json", css: "css",
};

/** Null when the first line with text is no fence: a fence further down may be part of a string. */
export function unwrapFence(text: string): Fenced | null {
  // By steps, not by one pattern over all of it: this runs in the service's own thread, where nothing stops what takes exponential time.
  const from = lineWithText(text);
  const length = text.slice(from).search(/[\r\n]/);
  const opening = length === -1 ? text.slice(from) : text.slice(from, from + length);
  const [head, marker] = /^\uFEFF?[ ]{0,3}(`{3,}|~{3,})/.exec(opening) ?? [];
  if (head === undefined || marker === undefined) return null;
  const info = opening.slice(head.length);
  if (info.includes("`")) return null;
  const restAt = from + opening.length + (/^(?:\r\n|\n|\r)/.exec(text.slice(from + opening.length, from + opening.length + 2))?.[0].length ?? 0);
  const before = text.slice(0, restAt).replace(/[^\r\n]/g, "");
  const rest = text.slice(restAt);
  const closing = new RegExp(`^[ ]{0,3}${marker[0]}{${marker.length},}[ \\t]*$`, "m").exec(rest);
  const line = text.slice(0, from).split(/\r\n|\n|\r/).length;
  // A fence that is never closed is one that was cut off: all of the rest is code.
  const inside = closing ? rest.slice(0, closing.index).replace(/(\r\n|\n|\r)$/, "") : rest;
  const language = /^[ \t]*([\w.+-]*)/.exec(info)?.[1]?.toLowerCase() ?? "";
  return { code: before + inside, loader: Object.hasOwn(languages, language) ? (languages[language] ?? null) : null, line, lineText: opening.trim() };
}

/** Where the first line begins that is not empty. */
function lineWithText(text: string): number {
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === "\n" || char === "\r") from = at + 1;
    else if (char !== " " && char !== "\t" && char !== "\uFEFF") break;
  }
  return from;
}
