/**
 * One build, inside a worker: submitted text in, outcome out. The only file that imports esbuild. Options are named one
 * by one; nothing of a request is handed on unread.
 */
import * as esbuild from "esbuild";
import type { BuildOptions, Loader, Outcome } from "../job.js";
import { failedBuild, toWarnings } from "./diagnostics.js";
import type { EngineMessage } from "./diagnostics.js";
import { buildRefused, outputTooLarge } from "./failures.js";
import { gate } from "./gate.js";
import type { BuildLimits } from "./limits.js";
import type { SubmittedSource } from "./protocol.js";
import { readSources } from "./sources.js";
import type { SourceTree } from "./sources.js";
import { styleStatement, withStyles } from "./style-module.js";

/** Rejects only when esbuild itself is gone or broken; the worker is not to be used again then. */
export async function build(source: SubmittedSource, options: BuildOptions, limits: BuildLimits): Promise<Outcome> {
  const targets = readTargets(options.target);
  if (!targets) return badTarget();
  const tree = readSources(source, options);
  if (typeof tree === "string") return buildRefused(tree);
  const externals = new Set<string>();
  const result = await esbuild.build(esbuildOptions(tree, options, targets, externals)).catch((error: unknown) => {
    if (isBuildFailure(error)) return failedBuild(error.errors, named(tree), limits);
    // esbuild knows more engines and versions than `readTargets`, and says so before it reads any code.
    if (error instanceof Error && /^Invalid (target|version)/.test(error.message)) return badTarget();
    throw error;
  });
  return "kind" in result ? result : collect(result, tree, options, externals, limits);
}

const esbuildOptions = (tree: SourceTree, options: BuildOptions, target: string[], externals: Set<string>) =>
  ({
    entryPoints: ["entry"], bundle: true, write: false, outfile: "/out.js", absWorkingDir: "/",
    format: "esm", platform: "browser", target, charset: "utf8", legalComments: "none",
    jsx: options.jsx === "transform" || options.jsx === "preserve" ? options.jsx : "automatic",
    minify: options.minify === true,
    // Sources are added afterwards, as submitted: esbuild's would hold the comment that disarms them.
    sourcemap: options.sourcemap === true ? "external" : false, sourcesContent: false,
    tsconfigRaw: "{}", logLevel: "silent", plugins: [gate(tree, externals)],
  }) satisfies esbuild.BuildOptions;

function collect(result: esbuild.BuildResult<{ write: false }>, tree: SourceTree, options: BuildOptions, externals: Set<string>, limits: BuildLimits): Outcome {
  const file = (path: string) => result.outputFiles.find((one) => one.path.endsWith(path));
  const script = file("/out.js");
  const style = file("/out.css");
  const map = file("/out.js.map");
  // Sizes first: reading a text copies it.
  const bytes = [script, style, map].reduce((sum, one) => sum + (one?.contents.byteLength ?? 0), 0);
  if (bytes > limits.outputBytesMax) return outputTooLarge(bytes, limits.outputBytesMax);
  const built = written(script?.text ?? "", style?.text ?? null, tree.entry.loader);
  const sourceMap = options.sourcemap === true && map && built.movedLines !== null ? withSources(map.text, tree, built.movedLines) : null;
  const finalBytes = Buffer.byteLength(built.js) + Buffer.byteLength(sourceMap ?? "");
  if (finalBytes > limits.outputBytesMax) return outputTooLarge(finalBytes, limits.outputBytesMax);
  const warnings = [...tree.warnings, ...toWarnings(result.warnings, named(tree), limits)].slice(0, limits.diagnosticsMax);
  return { kind: "built", result: built.js, sourceMap, warnings, externals: [...externals].sort() };
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

const isBuildFailure = (error: unknown): error is { errors: EngineMessage[] } => error instanceof Error && "errors" in error && Array.isArray(error.errors) && error.errors.length > 0;

/** Starts esbuild's process. */
export const warmUp = async (): Promise<void> => void (await esbuild.transform("1"));

/**
 * Plain esbuild with nothing of ours around it, pointed at the canaries: a source-map comment, a glob and an import.
 * Only the process's own confinement can keep it from reading them. Resolves with all that it brought back.
 */
export async function tryToLeak(canary: { folder: string; mapFile: string }): Promise<string> {
  const attempts = [`1\n//# sourceMappingURL=file://${canary.mapFile}`, "for (const n of x) import(`./canary-${n}.js`)", `import ${JSON.stringify(`${canary.folder}/canary-1.js`)}`];
  const brought = attempts.map((contents) =>
    esbuild
      .build({ stdin: { contents, resolveDir: canary.folder }, bundle: true, write: false, sourcemap: "external", logLevel: "silent", outfile: "/out.js" })
      .then(
        ({ outputFiles, warnings }) => outputFiles.map((one) => one.text).join("\n") + JSON.stringify(warnings),
        (error: unknown) => (isBuildFailure(error) ? JSON.stringify(error.errors) : Promise.reject(error)),
      ),
  );
  return (await Promise.all(brought)).join("\n");
}
