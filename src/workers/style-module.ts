/**
 * CSS in a result. A result is one JavaScript module and nothing else, so styles travel in it: its first statement adds
 * them to the page as one style element (and does nothing where there is no document). The other ways were a second
 * output, which every reader of `result` would have to know about, or to drop the styles, which would be a lie.
 */

/** The statement and a line end. */
export function styleStatement(css: string): string {
  // Also safe inside an inline script, and in targets older than ES2019.
  const text = JSON.stringify(css).replace(/<\/(style|script)/gi, "<\\/$1").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  return `typeof document!=="undefined"&&document.head.appendChild(document.createElement("style")).append(${text});\n`;
}

/** Puts the statement first, below a `#!` line, and says by how many lines all that follows moved down. */
export function withStyles(js: string, css: string): { js: string; movedLines: number } {
  const hashbang = /^#!.*\n/.exec(js)?.[0] ?? "";
  return { js: hashbang + styleStatement(css) + js.slice(hashbang.length), movedLines: 1 };
}
