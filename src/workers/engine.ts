/**
 * One build: submitted text in, outcome out. What esbuild is asked is written out flag by flag, and nothing of a
 * request is handed on unread. Everything here is arithmetic on texts; the process is worker.ts's.
 */
import type { BuildOptions, Loader, Outcome } from "../job.js";
import type { Channel, Fields } from "./channel.js";
import { failedBuild, toWarnings } from "./diagnostics.js";
import type { EngineMessage } from "./diagnostics.js";
import { buildRefused, outputTooLarge } from "./failures.js";
import { gate, gatePlugin } from "./gate.js";
import type { BuildLimits } from "./limits.js";
import type { PackageAccess } from "./packages.js";
import { readSources } from "./sources.js";
import type { SourceTree, SubmittedSource } from "./sources.js";
import { styleStatement, withStyles } from "./style-module.js";
import { allWalls } from "./walls.js";
import type { Walls } from "./walls.js";

export interface BuildRequestParts {
  source: SubmittedSource;
  options: BuildOptions;
  packages: PackageAccess;
  limits: BuildLimits;
  walls?: Walls;
}

/** esbuild answered what no build answers; its process is not to be used again. */
export class EngineBroken extends Error {}

/** Rejects with EngineBroken only; never settles when the process dies. */
export async function build(channel: Channel, { source, options, packages, limits, walls = allWalls }: BuildRequestParts): Promise<Outcome> {
  const targets = readTargets(options.target);
  if (!targets) return badTarget();
  const tree = readSources(source, options, walls.disarm);
  if (typeof tree === "string") return buildRefused(tree);
  const externals = new Set<string>();
  // The entry goes along with the request, under the path that other files know it by: two questions less for a build.
  const { path, loader, contents } = tree.entry;
  const flags = [...flagsFor(options, targets, packages.define), `--sourcefile=${path}`, `--loader=${loader}`];
  const answer = await channel.request(buildCommand(flags, { code: contents, folder: "/", plugins: [gatePlugin] }), gate({ tree, packages, externals, walls }));
  // esbuild knows more engines and versions than `readTargets`, and says so before it reads any code.
  if (typeof answer["error"] === "string") {
    if (/^Invalid (target|version)/.test(answer["error"])) return badTarget();
    throw new EngineBroken();
  }
  const { errors, warnings, files } = readAnswer(answer);
  if (errors.length > 0) return failedBuild(errors, named(tree), limits);
  return collect(files, warnings, tree, options, externals, walls.outputs ? limits : { ...limits, outputBytesMax: Number.POSITIVE_INFINITY });
}

const flagsFor = ({ jsx, minify, sourcemap }: BuildOptions, targets: string[], define: Record<string, string>): string[] => [
  "--log-level=silent", "--log-limit=0", "--bundle", "--outfile=/out.js", "--format=esm", "--platform=browser", `--target=${targets.join(",")}`,
  "--charset=utf8", "--legal-comments=none", `--jsx=${jsx === "transform" || jsx === "preserve" ? jsx : "automatic"}`, "--tsconfig-raw={}",
  // Sources are added afterwards, as submitted: esbuild's would hold the comment that disarms them.
  ...(sourcemap === true ? ["--sourcemap=external", "--sources-content=false"] : []),
  ...(minify === true ? ["--minify"] : []),
  ...Object.entries(define).map(([name, value]) => `--define:${name}=${value}`),
];

const buildCommand = (flags: string[], { code, folder, plugins }: { code: string; folder: string; plugins?: Fields[] }): Fields => ({
  command: "build", flags, write: false, absWorkingDir: "/", nodePaths: [], context: false,
  entries: [], stdinContents: Buffer.from(code), stdinResolveDir: folder, ...(plugins && { plugins }),
});

interface OutputFile {
  path: string;
  contents: Buffer;
}

function readAnswer({ errors, warnings, outputFiles }: Fields): { errors: EngineMessage[]; warnings: EngineMessage[]; files: OutputFile[] } {
  const files = Array.isArray(outputFiles) ? outputFiles : [];
  if (!Array.isArray(errors) || !Array.isArray(warnings) || !files.every(isFile)) throw new EngineBroken();
  return { errors: errors as unknown as EngineMessage[], warnings: warnings as unknown as EngineMessage[], files };
}

const isFile = (value: unknown): value is OutputFile & Fields => {
  const { path, contents } = value as Fields;
  return typeof path === "string" && contents instanceof Uint8Array;
};

function collect(files: OutputFile[], warnings: EngineMessage[], tree: SourceTree, options: BuildOptions, externals: Set<string>, limits: BuildLimits): Outcome {
  const file = (path: string) => files.find((one) => one.path.endsWith(path))?.contents;
  const script = file("/out.js");
  const style = file("/out.css");
  const map = file("/out.js.map");
  // Sizes first: reading a text copies it.
  const bytes = [script, style, map].reduce((sum, one) => sum + (one?.byteLength ?? 0), 0);
  if (bytes > limits.outputBytesMax) return outputTooLarge(bytes, limits.outputBytesMax);
  const built = written(script?.toString() ?? "", style?.toString() ?? null, tree.entry.loader);
  const sourceMap = options.sourcemap === true && map && built.movedLines !== null ? withSources(map.toString(), tree, built.movedLines) : null;
  const finalBytes = Buffer.byteLength(built.js) + Buffer.byteLength(sourceMap ?? "");
  if (finalBytes > limits.outputBytesMax) return outputTooLarge(finalBytes, limits.outputBytesMax);
  const told = [...tree.warnings, ...toWarnings(warnings, named(tree), limits)].slice(0, limits.diagnosticsMax);
  return { kind: "built", result: built.js, sourceMap, warnings: told, externals: [...externals].sort() };
}

/** A style sheet as entry comes out as the one output, whatever that is called; lines cannot be mapped then. */
function written(script: string, style: string | null, loader: Loader | "local-css"): { js: string; movedLines: number | null } {
  if (loader === "css") return { js: styleStatement(script), movedLines: null };
  return style === null ? { js: script, movedLines: 0 } : withStyles(script, style);
}

function withSources(text: string, tree: SourceTree, movedLines: number): string {
  const map = JSON.parse(text) as { sources: string[]; sourcesContent?: (string | null)[]; mappings: string };
  map.sourcesContent = map.sources.map((path) => tree.get(path)?.text ?? null);
  map.mappings = ";".repeat(movedLines) + map.mappings;
  return JSON.stringify(map);
}

const named = (tree: SourceTree) => (file: string) => tree.linesOf(file);

/** Null for what cannot be a target. */
function readTargets(target: string | undefined): string[] | null {
  if (target === undefined) return ["es2022"];
  const targets = target.split(",").map((one) => one.trim());
  return target.length <= 200 && targets.every((one) => /^(esnext|[a-z]{2,12}\d{1,6}(\.\d{1,6}){0,2})$/i.test(one)) ? targets : null;
}

const badTarget = (): Outcome => buildRefused('The target is not known. Use one such as "es2022", "esnext", "chrome120" or "safari17".');

/**
 * Plain esbuild with nothing of ours around it, pointed at the canaries: a source-map comment, a glob and an import.
 * Only the process's own confinement can keep it from reading them. Resolves with all that it brought back.
 */
export async function tryToLeak(channel: Channel, canary: { folder: string; mapFile: string }): Promise<string> {
  const flags = ["--log-level=silent", "--log-limit=0", "--bundle", "--sourcemap=external", "--outfile=/out.js"];
  const brought = leaks(canary).map(async (code) => {
    const { errors, warnings, files } = readAnswer(await channel.request(buildCommand(flags, { code, folder: canary.folder })));
    return files.map((one) => one.contents.toString()).join("\n") + JSON.stringify([errors, warnings]);
  });
  return (await Promise.all(brought)).join("\n");
}

/** Code that asks for the canaries in every way that esbuild would go to the disk for. */
export const leaks = ({ folder, mapFile }: { folder: string; mapFile: string }): string[] => [
  `x()\n//# sourceMappingURL=file://${mapFile}`,
  "for (const n of x) import(`./canary-${n}.js`)",
  `for (const n of x) import(\`${"../".repeat(20)}${folder.slice(1)}/canary-\${n}.js\`)`,
  `import ${JSON.stringify(`${folder}/canary-1.js`)}`,
];
