/**
 * BUILDLANE_PACKAGES_DIR: packages that the operator installed, for every build. esbuild's process cannot open a file,
 * so what an import means is asked of webpack's resolver here, over a file system that knows nothing but the folder: a
 * path or a link that leads out of it does not exist. Texts and answers are kept, within bounds, until the folder changes.
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import path from "node:path";
import enhancedResolve from "enhanced-resolve";
import type { ResolveRequest, Resolver } from "enhanced-resolve";
import type { Clock } from "../clock.js";
import { SettingsError } from "../errors.js";
import { packageNamespace } from "./packages.js";
import type { PackageAccess, PackageFile, ResolvedPackageFile } from "./packages.js";
import { disarmed } from "./sources.js";
import type { ModuleLoader } from "./sources.js";

/** Of one build. A barrel of icons has ten thousand files. */
const buildFilesMax = 20_000;
const buildBytesMax = 64 * 1024 * 1024;
const fileBytesMax = 16 * 1024 * 1024;
/** Of the folder, over all builds. */
const keptBytesMax = 128 * 1024 * 1024;
const keptAnswersMax = 100_000;
const versionMs = 2000;

/** What a package's file becomes; small pictures and fonts of its style sheets travel inside of the result. */
const loaders: Record<string, string> = {
  ".js": "js", ".mjs": "js", ".cjs": "js", ".jsx": "jsx", ".ts": "ts", ".mts": "ts", ".cts": "ts", ".tsx": "tsx", ".json": "json", ".css": "css", ".txt": "text",
  ".png": "dataurl", ".jpg": "dataurl", ".jpeg": "dataurl", ".gif": "dataurl", ".webp": "dataurl", ".svg": "dataurl", ".woff": "dataurl", ".woff2": "dataurl", ".ttf": "dataurl", ".eot": "dataurl",
};
const extensions = [".mjs", ".js", ".cjs", ".jsx", ".ts", ".tsx", ".json"];
/** Names a module that a package turns off for browsers. */
const emptyModule = "(empty)";

export interface PackageFolder {
  forBuild(): Omit<PackageAccess, "urlOf">;
  version(): Promise<string>;
}

type Answer = ResolvedPackageFile | null;

export async function openPackageFolder(given: string, clock: Clock): Promise<PackageFolder> {
  const root = await findRoot(given);
  const within = confinedTo(root);
  let answers = new Map<string, Promise<Answer>>();
  let files = new Map<string, PackageFile>();
  let keptBytes = 0;
  let resolvers = makeResolvers(root, within);

  function forget(): void {
    answers = new Map();
    files = new Map();
    keptBytes = 0;
    resolvers = makeResolvers(root, within);
  }
  const version = keepVersion(root, clock, forget);

  function resolve(specifier: string, importer: string | null, kind: string): Promise<Answer> {
    const way = wayOf(kind);
    const folder = importer === null ? root : path.dirname(path.join(root, importer));
    const key = `${way}\0${folder}\0${specifier}`;
    const known = answers.get(key);
    if (known) return known;
    const found = ask(resolvers[way], folder, way === "asset" && !specifier.startsWith(".") ? `./${specifier}` : specifier).then((request) => answerOf(root, request));
    if (answers.size < keptAnswersMax) answers.set(key, found);
    return found;
  }

  async function load(name: string): Promise<PackageFile | string> {
    if (name === emptyModule) return { contents: new Uint8Array(), loader: "js" };
    const kept = files.get(name);
    if (kept) return kept;
    const loader = name.endsWith(".module.css") ? "local-css" : loaders[path.extname(name).toLowerCase()];
    if (loader === undefined) return `The package file ${name} is of a kind that builds do not take.`;
    const file = path.join(root, name);
    try {
      if (!within(await realpath(file)) || (await stat(file)).size > fileBytesMax) return `The package file ${name} is too large for a build.`;
      const contents = await readFile(file);
      const isText = ["js", "jsx", "ts", "tsx", "css", "local-css"].includes(loader);
      const read = { contents: isText ? Buffer.from(disarmed(contents.toString(), loader as ModuleLoader)) : contents, loader };
      if (keptBytes + read.contents.length <= keptBytesMax) {
        files.set(name, read);
        keptBytes += read.contents.length;
      }
      return read;
    } catch {
      return `The package file ${name} cannot be read.`;
    }
  }

  return {
    version,
    forBuild() {
      let count = 0;
      let bytes = 0;
      return {
        define: { "process.env.NODE_ENV": '"production"', global: "globalThis" },
        resolve,
        async load(name) {
          const read = await load(name);
          if (typeof read === "string") return read;
          count++;
          bytes += read.contents.length;
          if (count > buildFilesMax) return `The build takes more than ${buildFilesMax} files of packages. Import what is needed by its own path.`;
          if (bytes > buildBytesMax) return `The build takes more than ${buildBytesMax} bytes of packages. Import what is needed by its own path.`;
          return read;
        },
      };
    },
  };
}

/** The folder itself when it holds packages, or its node_modules. */
async function findRoot(given: string): Promise<string> {
  const inner = path.join(given, "node_modules");
  for (const candidate of [inner, given]) {
    const found = await realpath(candidate).catch(() => null);
    if (found !== null && (await stat(found)).isDirectory()) return found;
  }
  throw new SettingsError("Expected packagesDir (BUILDLANE_PACKAGES_DIR) to name a folder with packages (a node_modules, or the folder around one). There is no such folder.");
}

const confinedTo = (root: string) => (file: string): boolean => file === root || file.startsWith(root + path.sep);

type Way = "import" | "require" | "style" | "asset";
const wayOf = (kind: string): Way =>
  kind.startsWith("require") ? "require" : kind === "import-rule" || kind === "composes-from" ? "style" : kind === "url-token" ? "asset" : "import";

function makeResolvers(root: string, within: (file: string) => boolean): Record<Way, Resolver> {
  const fileSystem = confinedFileSystem(within);
  const make = (conditionNames: string[], mainFields: string[], tried = extensions) =>
    enhancedResolve.ResolverFactory.createResolver({
      fileSystem, conditionNames, mainFields, extensions: tried, aliasFields: ["browser"], modules: ["node_modules", root], roots: [], restrictions: [root], symlinks: true,
    });
  return {
    import: make(["browser", "module", "import", "production", "default"], ["browser", "module", "main"]),
    require: make(["browser", "module", "require", "production", "default"], ["browser", "module", "main"]),
    style: make(["style", "browser", "production", "default"], ["style", "main"], [".css"]),
    asset: make(["browser", "default"], ["main"], []),
  };
}

type Callback<T> = (error: NodeJS.ErrnoException | null, value?: T) => void;

/** A few calls are all that the resolver makes, again and again for the same folders. Whatever is not inside of the folder, links followed, is not there. */
function confinedFileSystem(within: (file: string) => boolean) {
  const missing = (file: string): NodeJS.ErrnoException => Object.assign(new Error(`${path.basename(file)} is not in the package folder.`), { code: "ENOENT" });
  const inside = (file: string, goOn: (error: NodeJS.ErrnoException | null) => void): void => {
    if (!within(file)) return goOn(missing(file));
    fs.realpath.native(file, (error, real) => goOn(error ?? (within(real) ? null : missing(file))));
  };
  const confined = <T>(call: (file: string, callback: Callback<T>) => void) => {
    const kept = new Map<string, { error: NodeJS.ErrnoException | null; value: T | undefined }>();
    return (file: unknown, ...rest: unknown[]): void => {
      const name = String(file);
      const callback = rest[rest.length - 1] as Callback<T>;
      const known = kept.get(name);
      if (known) return callback(known.error, known.value);
      const keep: Callback<T> = (error, value) => {
        if (kept.size < keptAnswersMax) kept.set(name, { error, value });
        callback(error, value);
      };
      inside(name, (error) => (error ? keep(error) : call(name, keep)));
    };
  };
  return {
    stat: confined<fs.Stats>((file, callback) => fs.stat(file, callback)),
    lstat: confined<fs.Stats>((file, callback) => fs.lstat(file, callback)),
    readFile: confined<Buffer>((file, callback) => fs.readFile(file, callback)),
    readJson: confined<object>((file, callback) =>
      fs.readFile(file, "utf8", (error, text) => {
        if (error) return callback(error);
        try {
          callback(null, JSON.parse(text) as object);
        } catch (wrong) {
          callback(wrong as Error);
        }
      }),
    ),
    readdir: confined<string[]>((file, callback) => fs.readdir(file, callback)),
    readlink: confined<string>((file, callback) => fs.readlink(file, callback)),
    realpath: confined<string>((file, callback) => fs.realpath.native(file, callback)),
  } as never;
}

const ask = (resolver: Resolver, folder: string, specifier: string): Promise<ResolveRequest | false | null> =>
  new Promise((resolve) =>
    resolver.resolve({}, folder, specifier, {}, (error, found, request) => resolve(error ? null : found === false ? false : (request ?? null))),
  );

function answerOf(root: string, request: ResolveRequest | false | null): Answer {
  if (request === false) return { path: emptyModule, namespace: packageNamespace, sideEffects: false };
  if (request === null || typeof request.path !== "string" || !confinedTo(root)(request.path)) return null;
  const name = path.relative(root, request.path).split(path.sep).join("/");
  const described = request.descriptionFileData as { sideEffects?: unknown } | undefined;
  const own = path.relative(String(request.descriptionFileRoot ?? root), request.path).split(path.sep).join("/");
  return { path: name, namespace: packageNamespace, ...(!hasSideEffects(described?.sideEffects, own) && { sideEffects: false }) };
}

/** As package.json says: `false`, or a list of those files that have some. */
function hasSideEffects(said: unknown, file: string): boolean {
  if (said === false) return false;
  if (!Array.isArray(said)) return true;
  return said.some((pattern) => typeof pattern === "string" && globOf(pattern).test(file));
}

function globOf(pattern: string): RegExp {
  const plain = pattern.replace(/^\.\//, "");
  const anywhere = plain.includes("/") ? plain : `**/${plain}`;
  const source = anywhere.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*\*\/|\*\*|\*|\?/g, (one) => ({ "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]" })[one] as string);
  return new RegExp(`^${source}$`);
}

/** Package managers write one of these files at every install; looked at again when the last look is a while ago. */
const markers = [".package-lock.json", ".modules.yaml", ".yarn-state.yml", ".yarn-integrity", "."];

function keepVersion(root: string, clock: Clock, onChange: () => void): () => Promise<string> {
  let known: { version: Promise<string>; atMs: number } | null = null;
  let last: string | null = null;
  const look = async (): Promise<string> => {
    const marks = await Promise.all(markers.map((name) => stat(path.join(root, name)).then(({ size, mtimeMs }) => [name, name === "." ? 0 : size, mtimeMs], () => null)));
    const names = await readdir(root).catch(() => []);
    const version = createHash("sha256").update(JSON.stringify([marks, names.sort()])).digest("hex").slice(0, 16);
    if (last !== null && last !== version) onChange();
    last = version;
    return version;
  };
  return () => {
    if (known === null || clock.monotonic() - known.atMs > versionMs) known = { version: look(), atMs: clock.monotonic() };
    return known.version;
  };
}
