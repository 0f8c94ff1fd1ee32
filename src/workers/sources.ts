/**
 * The submitted text as a tree of modules, the only files that a build has: paths, languages, what a relative import
 * means, and the text that esbuild is given for each (the submitted one, disarmed).
 */
import { posix } from "node:path";
import type { BuildOptions, Diagnostic, Loader } from "../job.js";
import { splitLines } from "./diagnostics.js";
import type { SubmittedLines } from "./diagnostics.js";
import { unwrapFence } from "./fence.js";

/** The submitted text. Entries, not an object: a file may be called `__proto__`. */
export type SubmittedSource =
  | { kind: "code"; code: string }
  | { kind: "files"; files: [path: string, text: string][]; entry: string };

export type ModuleLoader = Loader | "local-css";

export interface SourceModule {
  path: string;
  loader: ModuleLoader;
  /** As submitted, for source maps and places. */
  text: string;
  /** For esbuild. */
  contents: string;
}

export interface SourceTree {
  entry: SourceModule;
  all: Iterable<SourceModule>;
  get(path: string): SourceModule | undefined;
  /** The path that a relative specifier in `importer` means, or null when there is no such file. */
  resolve(importer: string, specifier: string): string | null;
  linesOf(path: string): SubmittedLines | null;
  warnings: Diagnostic[];
}

/** `.js` may hold JSX: chat code often does, and nothing else changes its meaning. */
const loaderOfExtension: Record<string, ModuleLoader> = {
  ".tsx": "tsx", ".ts": "ts", ".mts": "ts", ".cts": "ts", ".jsx": "jsx", ".js": "jsx", ".mjs": "jsx", ".cjs": "jsx", ".json": "json", ".css": "css",
};
const triedExtensions = [".tsx", ".ts", ".jsx", ".js", ".json", ".css"];
/** TypeScript's own habit: an import names the `.js` that a `.ts` will become. */
const writtenAs: Record<string, string[]> = { ".js": [".ts", ".tsx"], ".jsx": [".tsx"], ".mjs": [".mts"], ".cjs": [".cts"] };

/** A sentence about what is wrong when the files themselves cannot be used. */
export function readSources(source: SubmittedSource, options: BuildOptions, disarm = true): SourceTree | string {
  const tree = source.kind === "code" ? oneModule(source.code, options) : severalModules(source.files, source.entry, options);
  if (!disarm && typeof tree !== "string") for (const one of tree.all) one.contents = one.text;
  return tree;
}

function oneModule(code: string, options: BuildOptions): SourceTree {
  const fenced = unwrapFence(code);
  const loader = options.loader ?? fenced?.loader ?? "tsx";
  const entry = module(`message.${loader}`, loader, code, fenced?.code ?? code);
  return tree(entry, new Map([[entry.path, entry]]), fenced ? [fenceWarning(entry.path, fenced.line, fenced.lineText)] : [], fenced?.code);
}

function severalModules(files: [string, string][], entryPath: string, options: BuildOptions): SourceTree | string {
  const modules = new Map<string, SourceModule>();
  const wanted = normalized(entryPath);
  for (const [given, text] of files) {
    const path = normalized(given);
    if (path === null) return "A file's path must be relative and stay among the submitted files.";
    if (modules.has(path)) return `Two of the files have the path ${path}.`;
    const byExtension = loaderOf(path);
    const loader = path === wanted ? (options.loader ?? byExtension ?? "tsx") : byExtension;
    if (loader) modules.set(path, module(path, loader, text, text));
  }
  const entry = wanted === null ? undefined : modules.get(wanted);
  return entry ? tree(entry, modules, []) : "The entry is not among the submitted files.";
}

/** What a path's extension says, or null for a kind of file that builds do not take. */
function loaderOf(path: string): ModuleLoader | null {
  if (path.endsWith(".module.css")) return "local-css";
  const extension = posix.extname(path);
  return Object.hasOwn(loaderOfExtension, extension) ? (loaderOfExtension[extension] ?? null) : null;
}

function normalized(path: string): string | null {
  if (path === "" || path.includes("\0") || path.startsWith("/")) return null;
  const clean = posix.normalize(path);
  return clean === "." || clean === ".." || clean.startsWith("../") || clean.endsWith("/") ? null : clean;
}

const module = (path: string, loader: ModuleLoader, text: string, code: string): SourceModule => ({ path, loader, text, contents: disarmed(code, loader) });

/**
 * esbuild follows a source-map comment to any file of the host, whatever plugins say. The last one in a file wins, and
 * one with an unknown scheme is passed over in silence, so each file ends with such a one. In CSS an unclosed `url(`
 * could swallow it; there, where no string ever needs the word, the submitted ones are disarmed too, columns kept.
 */
export function disarmed(code: string, loader: ModuleLoader): string {
  if (loader === "json") return code;
  if (loader === "css" || loader === "local-css") return `${code.replaceAll("sourceMappingURL=", "sourceMappingURL_")}\n/*# sourceMappingURL=http:x */`;
  return `${code}\n//# sourceMappingURL=http:x`;
}

function tree(entry: SourceModule, modules: Map<string, SourceModule>, warnings: Diagnostic[], entryCode: string = entry.text): SourceTree {
  const known = new Map<string, SubmittedLines>();
  return {
    entry,
    all: modules.values(),
    warnings,
    get: (path) => modules.get(path),
    resolve(importer, specifier) {
      const path = posix.join(posix.dirname(importer), specifier);
      const extension = posix.extname(path);
      const stem = path.slice(0, path.length - extension.length);
      const folder = path === "." || path === "./" ? "" : path.replace(/\/?$/, "/");
      const candidates = [
        ...(path.endsWith("/") ? [] : [path, ...triedExtensions.map((one) => path + one), ...(Object.hasOwn(writtenAs, extension) ? writtenAs[extension]! : []).map((one) => stem + one)]),
        ...triedExtensions.map((one) => `${folder}index${one}`),
      ];
      return candidates.find((one) => modules.has(one)) ?? null;
    },
    linesOf(path) {
      const module = modules.get(path);
      if (!module) return null;
      const found = known.get(path) ?? { lines: splitLines(module.text), last: splitLines(path === entry.path ? entryCode : module.text).length };
      known.set(path, found);
      return found;
    },
  };
}

const fenceWarning = (file: string, line: number, lineText: string): Diagnostic => ({
  text: "The code was pasted with its Markdown fence. Only what is between the fence's lines was built.",
  file, line, column: 1, length: lineText.length, lineText, suggestion: null,
});
