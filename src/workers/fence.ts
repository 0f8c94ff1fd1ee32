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
  const opening = /^(?:\uFEFF?[ \t]*(?:\r\n|\n|\r))*\uFEFF?[ ]{0,3}(`{3,}|~{3,})[ \t]*([\w.+-]*)[^`\r\n]*(?:\r\n|\n|\r|$)/.exec(text);
  const marker = opening?.[1];
  if (!opening || !marker) return null;
  const before = opening[0].replace(/[^\r\n]/g, "");
  const rest = text.slice(opening[0].length);
  const closing = new RegExp(`^[ ]{0,3}${marker[0]}{${marker.length},}[ \\t]*$`, "m").exec(rest);
  const line = opening[0].replace(/(\r\n|\n|\r)$/, "").split(/\r\n|\n|\r/).length;
  const lineText = opening[0].trim();
  // A fence that is never closed is one that was cut off: all of the rest is code.
  const inside = closing ? rest.slice(0, closing.index).replace(/(\r\n|\n|\r)$/, "") : rest;
  const language = opening[2]?.toLowerCase() ?? "";
  return { code: before + inside, loader: Object.hasOwn(languages, language) ? (languages[language] ?? null) : null, line, lineText };
}
