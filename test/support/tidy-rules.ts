/** STYLE's habits 1 to 4 as functions from a source file to complaints. Each complaint says what to do instead. */
import path from "node:path";
import { transform } from "esbuild";

export interface Source {
  /** From the project's folder, with `/`. */
  path: string;
  text: string;
}

interface Parsed extends Source {
  /** Without types, comments and the contents of strings. */
  code: string;
  /** What is imported at run time. */
  values: string[];
  /** What is imported at all, types too. */
  imports: string[];
}

/** esbuild reads TypeScript for us: what it leaves is what runs. `import type` is made plain to see the types' imports. */
export async function parse(source: Source): Promise<Parsed> {
  const strip = async (text: string) =>
    (await transform(text, { loader: "ts", format: "esm", legalComments: "none", tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } } })).code;
  const running = await strip(source.text);
  const plain = await strip(source.text.replace(/^(import|export) type (?=[^=;]*?\bfrom ")/gm, "$1 "));
  return { ...source, code: running.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""'), values: specifiers(running), imports: specifiers(plain) };
}

const specifiers = (code: string): string[] =>
  [...code.matchAll(/^(?:import|export)\b(?:[^;"]*?\bfrom )?\s*"([^"]+)";|\b(?:import|require|import\.meta\.resolve)\("([^"]+)"\)/gm)].map((match) => (match[1] ?? match[2]) as string);

/** Where a relative import leads, from the project's folder; undefined: a package. */
const target = (from: Source, specifier: string): string | undefined =>
  specifier.startsWith(".") ? path.posix.join(path.posix.dirname(from.path), specifier).replace(/\.js$/, ".ts") : undefined;

type Rule = (file: Parsed) => string[];

/** Habit 1. `index.ts` only gathers the machines for the package's exports. */
export const pureMachines: Rule = (file) =>
  !file.path.startsWith("machines/")
    ? []
    : file.values
        .filter((name) => name !== "xstate" && !(file.path === "machines/index.ts" && /^\.\/\w+\.machine\.js$/.test(name)))
        .map((name) => `${file.path} imports "${name}": a machine's only value import is "xstate". Use \`import type\`, and have the real thing provided in src.`);

const owners: { of: RegExp; may: RegExp; instead: string }[] = [
  { of: /^(drizzle-orm|postgres|@electric-sql\/pglite)(\/|$)/, may: /^src\/store\//, instead: "use the verbs of src/store, or export the type from there" },
  { of: /^(node:)?child_process$/, may: /^src\/workers\//, instead: "use the worker pool of src/workers" },
  { of: /^esbuild$/, may: /^src\/workers\//, instead: "use the worker pool of src/workers" },
  { of: /^(fastify|@fastify\/.*)$/, may: /^src\/(http\/|fastify\.ts$|dashboard\.ts$)/, instead: "put the route or plugin into src/http" },
  { of: /^@opentelemetry\/api$/, may: /^src\/tracing\.ts$/, instead: "wrap the runner in src/tracing.ts" },
  { of: /^pino$/, may: /^src\/log\.ts$/, instead: "emit an event with facts; src/log.ts makes log lines of them" },
];

/** Habit 2. */
export const oneOwner: Rule = (file) =>
  !file.path.startsWith("src/")
    ? []
    : owners.flatMap(({ of, may, instead }) =>
        may.test(file.path) ? [] : file.imports.filter((name) => of.test(name)).map((name) => `${file.path} imports "${name}", which has another owner (${may.source}): ${instead}.`));

export const environmentOnlyInCli: Rule = (file) =>
  /^(src|machines)\//.test(file.path) && !file.path.startsWith("src/cli/") && /\bprocess\.env\b|\bprocess\[""\]|import \{[^}]*\benv\b[^}]*\} from ""/.test(file.code)
    ? [`${file.path} reads process.env: take a setting (src/options.ts); only src/cli reads the environment.`]
    : [];

const ambient: { found: RegExp; name: string; instead: string }[] = [
  { found: /\bDate\.now\b/, name: "Date.now", instead: "clock.now()" },
  { found: /\bnew Date\b(?!\()|\bnew Date\(\s*\)|(?<!new )(?<![.\w])Date\(/, name: "new Date()", instead: "clock.now() or the database's clock" },
  // Not preceded by a dot (a socket's own), and not the name of a member in an object that stands in for the timers.
  ...["setTimeout", "setInterval", "setImmediate"].map((name) => ({
    found: new RegExp(`(?<![.\\w])${name}\\b(?!\\s*:)(?!\\([^()]*\\)\\s*\\{)|\\bglobalThis\\.${name}\\b`), name, instead: "clock.after(delayMs, callback)",
  })),
  { found: /\bMath\.random\b/, name: "Math.random", instead: "clock.random()" },
  { found: /\bperformance\.now\b|\bprocess\.hrtime\b/, name: "performance.now", instead: "clock.monotonic()" },
  { found: /\b(nanoid|randomUUID)\b/, name: "an id generator", instead: "clock.id()" },
];

/** Habit 4. What runs in the browser has no Clock to be given; the simulated clock lets the real event loop turn between its timers. */
export const noAmbientTimeOrChance: Rule = (file) => {
  if (!/^(src|machines)\//.test(file.path) || ["src/clock.ts", "src/simulated-clock.ts"].includes(file.path) || /^src\/(dashboard|client)\//.test(file.path)) return [];
  const found = ambient.filter((one) => one.found.test(file.code)).map((one) => `${file.path} uses ${one.name}: take a Clock and use ${one.instead}; only src/clock.ts reads time or makes chance and ids.`);
  const imported = file.values.filter((name) => /^(nanoid(\/.*)?|(node:)?timers(\/.*)?)$/.test(name)).map((name) => `${file.path} imports "${name}": take a Clock (src/clock.ts) instead.`);
  return [...found, ...imported];
};

const vocabulary = ["src/job.ts", "src/errors.ts", "src/options.ts", "src/clock.ts"];
const isUnder = (file: string, ...folders: string[]) => folders.some((folder) => file.startsWith(`src/${folder}/`));

/** Habit 3: http, cli → queue → effects → store, workers → vocabulary. */
export const oneWayImports: Rule = (file) =>
  file.imports.flatMap((name) => {
    const to = target(file, name);
    if (to === undefined || !to.startsWith("src/") || !file.path.startsWith("src/")) return [];
    const complain = (why: string) => [`${file.path} imports ${to}: ${why}`];
    if (vocabulary.includes(file.path) && !vocabulary.includes(to)) return complain("the vocabulary imports nothing from the rest. Move what is shared into the vocabulary.");
    for (const room of ["store", "workers"]) {
      if (isUnder(file.path, room) && !isUnder(to, room, "history") && !vocabulary.includes(to)) return complain(`src/${room} imports only the vocabulary (${vocabulary.join(", ")}) and src/history. Pass it in, or move what is shared there.`);
    }
    if (isUnder(to, "cli") && !isUnder(file.path, "cli")) return complain("nobody imports the command line. Move what is shared out of src/cli.");
    if (isUnder(to, "http") && !isUnder(file.path, "http", "cli") && !["src/fastify.ts", "src/dashboard.ts"].includes(file.path)) return complain("only src/fastify.ts, src/dashboard.ts and the command line import src/http. Move what is shared into the queue or the vocabulary.");
    return [];
  });

export const rules: Rule[] = [pureMachines, oneOwner, environmentOnlyInCli, noAmbientTimeOrChance, oneWayImports];

/** Each cycle of imports among the files, types too, as one complaint. */
export function importCycles(files: Parsed[]): string[] {
  const edges = new Map(files.map((file) => [file.path, file.imports.flatMap((name) => target(file, name) ?? [])]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (file: string, trail: string[]) => {
    if (trail.includes(file)) found.push(`Imports go in a circle: ${[...trail.slice(trail.indexOf(file)), file].join(" → ")}. Move what they share into a file that imports neither.`);
    else if (!done.has(file)) {
      for (const to of edges.get(file) ?? []) visit(to, [...trail, file]);
      done.add(file);
    }
  };
  for (const file of edges.keys()) visit(file, []);
  return found;
}

/** Of every text file of the repository, whatever its language. */
export function untidyText({ path: file, text }: Source, projectFolder: string): string[] {
  const postponed = new RegExp(`\\b(${["TO", "FIX"].map((start, at) => start + ["DO", "ME"][at]).join("|")})\\b`).exec(text)?.[0];
  const folder = projectFolder.split("/").length > 3 && text.includes(projectFolder) ? projectFolder : /\/work\/(main|shared)\b|\/Users\/[a-z]\w+\/|[A-Z]:\\Users\\/.exec(text)?.[0];
  return [
    ...(postponed ? [`${file} says ${postponed}: do it now, or open an issue.`] : []),
    ...(folder ? [`${file} names a folder of one machine (${folder}): use a path relative to the file.`] : []),
    ...(file.endsWith("package-lock.json") && /"resolved": "https?:/.test(text) ? [`${file} names a download address: run npm install with the checked-in .npmrc (omit-lockfile-registry-resolved).`] : []),
  ];
}
