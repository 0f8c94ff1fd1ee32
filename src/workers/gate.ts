/**
 * The gate between a build and everything outside: an esbuild plugin that answers for every import and every load, so
 * that esbuild's own resolver never gets to look. What is not submitted and not a package's name is refused with its
 * place. It does not see globs and source-map comments: the confinement and `disarmed` close those.
 */
import { builtinModules } from "node:module";
import { posix } from "node:path";
import type { OnResolveArgs, OnResolveResult, Plugin } from "esbuild";
import { cut, gateName } from "./diagnostics.js";
import type { SourceTree } from "./sources.js";

const externalsMax = 1000;
const externalCharsMax = 250;
const packageName = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*(?:\/(?!\.{1,2}(?:\/|$))[\w.~@$+=,!-]+)*$/i;
const scheme = /^[a-z][a-z0-9+.-]*:/i;
const nodeModules = new Set(builtinModules);

export function gate(tree: SourceTree, externals: Set<string>): Plugin {
  return {
    name: gateName,
    setup(build) {
      build.onResolve({ filter: /.*/ }, (args) => resolve(args, tree, externals));
      build.onLoad({ filter: /.*/ }, ({ path }) => {
        const module = tree.get(path.slice(1));
        return module ? { contents: module.contents, loader: module.loader } : refused("Only submitted files can be part of a build.");
      });
    },
  };
}

function resolve({ kind, path, importer }: OnResolveArgs, tree: SourceTree, externals: Set<string>): OnResolveResult {
  if (kind === "entry-point") return { path: `/${tree.entry.path}` };
  // What a style sheet shows (images, fonts) is fetched by the page, not by the build.
  if (kind === "url-token" && (/^(https?:|data:|#)/i.test(path) || path.startsWith("//"))) return { path, external: true };
  const said = `"${cut(path, 100)}"`;
  if (/^\.{1,2}(\/|$)/.test(path)) {
    const from = importer.slice(1);
    const found = tree.resolve(from, path);
    if (found !== null) return { path: `/${found}` };
    if (/^\.\.(\/|$)/.test(posix.join(posix.dirname(from), path))) return refused(`${said} leaves the submitted files.`);
    return refused(`${said} is not among the submitted files. Files can be .tsx, .ts, .jsx, .js, .json or .css.`);
  }
  if (path.startsWith("/") || path.startsWith("\\") || /^[a-z]:[\\/]/i.test(path)) return refused(`${said} is an absolute path. Import submitted files by relative paths.`);
  if (path.startsWith("#")) return refused(`${said} is a package's private import, which a build does not have.`);
  if (nodeModules.has(path) || /^node:/i.test(path)) return refused(`${said} is a module of Node, which a page does not have.`);
  if (scheme.test(path)) return refused(`${said} is an address. Only submitted files and packages can be imported.`);
  if (path.length > externalCharsMax || !packageName.test(path)) return refused(`${said} is neither a relative path nor the name of a package.`);
  if (externals.size >= externalsMax && !externals.has(path)) return refused(`A build can import at most ${externalsMax} packages.`);
  externals.add(path);
  return { path, external: true };
}

const refused = (text: string): { errors: [{ text: string }] } => ({ errors: [{ text }] });
