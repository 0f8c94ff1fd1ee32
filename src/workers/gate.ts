/**
 * The gate between a build and everything outside: it answers what every import means and what every file holds, so
 * that esbuild's own resolver never gets to look. What is neither submitted nor a package is refused with its place.
 * It does not see globs and source-map comments: the confinement and `disarmed` close those.
 */
import { builtinModules } from "node:module";
import { posix } from "node:path";
import type { Answerer, Fields } from "./channel.js";
import { cut, gateName } from "./diagnostics.js";
import { packageNamespace } from "./packages.js";
import type { PackageAccess } from "./packages.js";
import type { SourceTree } from "./sources.js";
import type { Walls } from "./walls.js";

const externalsMax = 1000;
const externalCharsMax = 250;
const packageName = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*(?:\/(?!\.{1,2}(?:\/|$))[\w.~@$+=,!-]+)*$/i;
const scheme = /^[a-z][a-z0-9+.-]*:/i;
const nodeModules = new Set(builtinModules);

export interface GateParts {
  tree: SourceTree;
  packages: PackageAccess;
  /** Filled with the names of packages that are left to the page. */
  externals: Set<string>;
  walls: Walls;
}

/** As the service wants it told which questions to ask. */
export const gatePlugin = {
  name: gateName, onStart: false, onEnd: false,
  onResolve: [{ id: 0, filter: ".*", namespace: "" }],
  onLoad: [{ id: 1, filter: ".*", namespace: "" }],
};

export function gate(parts: GateParts): Answerer {
  return (question) => {
    if (question["command"] === "on-resolve") return resolve(asked(question), parts);
    if (question["command"] === "on-load") return load(asked(question), parts);
    return { errors: [], warnings: [] };
  };
}

interface Question {
  path: string;
  importer: string;
  namespace: string;
  kind: string;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const asked = (question: Fields): Question => ({
  path: text(question["path"]), importer: text(question["importer"]), namespace: text(question["namespace"]), kind: text(question["kind"]),
});

function resolve({ path, importer, namespace, kind }: Question, { tree, packages, externals, walls }: GateParts): Fields | Promise<Fields> {
  // An empty answer leaves it to esbuild.
  if (!walls.resolve && path.startsWith("/")) return {};
  // What a style sheet shows (images, fonts) is fetched by the page, not by the build.
  if (kind === "url-token" && (/^(https?:|data:|#)/i.test(path) || path.startsWith("//"))) return external(path);
  const leave = (name: string): Fields => {
    const url = packages.urlOf(name);
    if (url !== null) return external(url);
    if (externals.size >= externalsMax && !externals.has(name)) return refused(`A build can import at most ${externalsMax} packages.`);
    externals.add(name);
    return external(name);
  };
  if (namespace === packageNamespace) return resolveInPackage(path, importer, kind, packages, leave);

  const said = `"${cut(path, 100)}"`;
  if (/^\.{1,2}(\/|$)/.test(path)) {
    const from = importer.slice(1);
    const found = tree.resolve(from, path);
    if (found !== null) return resolved({ path: `/${found}`, namespace: "file" });
    if (/^\.\.(\/|$)/.test(posix.join(posix.dirname(from), path))) return refused(`${said} leaves the submitted files.`);
    return refused(`${said} is not among the submitted files. Files can be .tsx, .ts, .jsx, .js, .json or .css.`);
  }
  if (path.startsWith("/") || path.startsWith("\\") || /^[a-z]:[\\/]/i.test(path)) return refused(`${said} is an absolute path. Import submitted files by relative paths.`);
  if (path.startsWith("#")) return refused(`${said} is a package's private import, which a build does not have.`);
  if (nodeModules.has(path) || /^node:/i.test(path)) return refused(`${said} is a module of Node, which a page does not have.`);
  if (scheme.test(path)) return refused(`${said} is an address. Only submitted files and packages can be imported.`);
  if (path.length > externalCharsMax || !packageName.test(path)) return refused(`${said} is neither a relative path nor the name of a package.`);
  const found = packages.resolve(path, null, kind);
  if (found === null) return leave(path);
  return found.then((one) => (one === null ? leave(path) : resolved(one)));
}

/** Inside a package, whatever is not found is left to the page: much of it stands in branches that never run there. */
function resolveInPackage(path: string, importer: string, kind: string, packages: PackageAccess, leave: (name: string) => Fields): Fields | Promise<Fields> {
  if (path.startsWith("/") || path.startsWith("\\") || scheme.test(path)) {
    if (kind === "url-token" && scheme.test(path)) return external(path);
    return /^node:/i.test(path) && kind.startsWith("require") ? external(path) : refused("An import inside of a package leads out of the package folder.");
  }
  const found = packages.resolve(path, importer, kind);
  const missing = (): Fields => {
    if (nodeModules.has(path)) return kind.startsWith("require") ? external(path) : refused(`A package imports "${cut(path, 100)}", a module of Node, which a page does not have.`);
    return packageName.test(path) && path.length <= externalCharsMax ? leave(path) : refused("A package imports a file that is not in the package folder.");
  };
  return found === null ? missing() : found.then((one) => (one === null ? missing() : resolved(one)));
}

function load({ path, namespace }: Question, { tree, packages, walls }: GateParts): Fields | Promise<Fields> {
  if (namespace === packageNamespace) {
    return packages.load(path).then((file): Fields => (typeof file === "string" ? { ...refused(file), id: 1 } : { id: 1, contents: file.contents, loader: file.loader }));
  }
  const module = namespace === "file" || namespace === "" ? tree.get(path.slice(1)) : undefined;
  if (module) return { id: 1, contents: Buffer.from(module.contents), loader: module.loader };
  return walls.load ? { ...refused("Only submitted files can be part of a build."), id: 1 } : {};
}

const resolved = ({ path, namespace, sideEffects }: { path: string; namespace: string; sideEffects?: boolean }): Fields => ({
  id: 0, path, namespace, ...(sideEffects === false && { sideEffects }),
});
const external = (path: string): Fields => ({ id: 0, path, external: true });
const refused = (why: string): Fields => ({ id: 0, errors: [{ id: "", pluginName: gateName, text: why, location: null, notes: [], detail: -1 }] });
