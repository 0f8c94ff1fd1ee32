/** `buildlane submit FILE`: a file, or standard input, becomes a job; on demand it is waited for. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { Command, Option } from "commander";
import type { BuildRequest, FinishedJob } from "../client/index.js";
import { loaders, supersedes } from "../job.js";
import type { Loader, Source, Supersede } from "../job.js";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes, unusable } from "./exit.js";
import { showProgress } from "./progress.js";
import { frames, paint, print, printJson, say, seconds } from "./talk.js";

interface Flags extends ClientFlags {
  chat: string;
  entry?: string;
  message?: string;
  loader?: Loader;
  minify?: boolean;
  sourcemap?: boolean;
  target?: string;
  priority?: number;
  supersede?: Supersede;
  delay?: number;
  maxAttempts?: number;
  timeoutMs?: number;
  key?: string;
  watch?: boolean;
  wait?: boolean;
  timeout?: number;
  out?: string;
}

const loaderOf: Record<string, Loader> = { ".tsx": "tsx", ".ts": "ts", ".mts": "ts", ".jsx": "jsx", ".js": "js", ".mjs": "js", ".json": "json", ".css": "css" };

export const submitCommand = (): Command =>
  clientCommand("submit", "Submit a file to be built, or several that import one another; - reads standard input.", ["submit app.tsx --chat c1 --wait --out app.js", "submit src/*.tsx --entry src/app.tsx --chat c1", "submit app.tsx --chat c1 --watch --json", "submit - --chat c1 --supersede running < app.tsx"])
    .argument("<files...>", "the code; its extension says the language")
    .requiredOption("--chat <id>", "the chat that it belongs to")
    .option("--entry <file>", "of several files, where the build begins (default: the first)")
    .option("--message <id>", "the message that it comes from (default: the file's name)")
    .addOption(new Option("--loader <language>", "the language").choices(loaders))
    .option("--minify", "minify the output")
    .option("--sourcemap", "keep a source map")
    .option("--target <target>", "an esbuild target such as es2022")
    .option("--priority <n>", "-10 to 10, higher runs earlier in its chat", wholeNumber(-10, 10))
    .addOption(new Option("--supersede <which>", "end the chat's older jobs: those that wait, or the running one too").choices(supersedes))
    .option("--delay <ms>", "wait so long before the first start", wholeNumber(0))
    .option("--max-attempts <n>", "attempts that may cost one (default: the service's)", wholeNumber(1, 25))
    .option("--timeout-ms <ms>", "limit of one attempt (default: the service's)", wholeNumber(100, 3_600_000))
    .option("--key <key>", "idempotency key: the same one answers with the same job")
    .option("--wait", "wait for the end; exit code 1 when the build fails")
    .option("--watch", "the same, and tell every event")
    .option("--timeout <seconds>", "wait no longer; exit code 4", wholeNumber(1))
    .option("--out <file>", "write the built JavaScript there (- for standard output); waits")
    .action(submit);

async function submit(files: string[], flags: Flags): Promise<void> {
  const isWaiting = flags.wait || flags.watch || flags.out !== undefined;
  if (flags.timeout !== undefined && !isWaiting) throw new Exit(exitCodes.usage, "Expected --wait, --watch or --out beside --timeout, which bounds their wait; --timeout-ms bounds an attempt.");
  const request = await requestOf(files, flags);
  await withClient(flags, async (client, interrupted) => {
    const accepted = await client.submit(request, { signal: interrupted, idempotencyKey: flags.key });
    if (!isWaiting) {
      if (flags.json) return printJson(accepted);
      print(accepted.id);
      return say(`Accepted as number ${accepted.chatSeq} of chat ${flags.chat}, position ${accepted.queuePosition}.`);
    }
    const progress = showProgress(accepted, { each: flags.watch ?? false });
    const signal = flags.timeout === undefined ? interrupted : AbortSignal.any([interrupted, AbortSignal.timeout(flags.timeout * 1000)]);
    let job: FinishedJob;
    try {
      job = await client.waitFor(accepted.id, { signal, onEvent: progress.event });
    } catch (error) {
      progress.end();
      if (!signal.aborted) throw error;
      say(`Job ${accepted.id} goes on; see buildlane status ${accepted.id}.`);
      throw interrupted.aborted ? new Exit(exitCodes.interrupted) : new Exit(exitCodes.timedOut, `Not finished within ${flags.timeout} s.`);
    }
    progress.end();
    await tell(job, flags);
  });
}

async function requestOf(names: string[], flags: Flags): Promise<BuildRequest> {
  const entry = flags.entry ?? (names[0] as string);
  if (!names.includes(entry)) throw new Exit(exitCodes.usage, `Expected --entry to be one of the files, got ${entry}.`);
  const loader = flags.loader ?? loaderOf[path.extname(entry).toLowerCase()];
  const options = { ...(loader ? { loader } : {}), ...(flags.minify ? { minify: true } : {}), ...(flags.sourcemap ? { sourcemap: true } : {}), ...(flags.target ? { target: flags.target } : {}) };
  const { chat: chatId, priority, supersede, delay: delayMs, maxAttempts, timeoutMs } = flags;
  const messageId = flags.message ?? (entry === "-" ? "stdin" : path.basename(entry));
  return { chatId, messageId, ...(await sourceOf(names, entry)), options, priority, supersede, delayMs, maxAttempts, timeoutMs };
}

/** Of several files, each has its path from here for a name. */
async function sourceOf(names: string[], entry: string): Promise<Source> {
  if (names.length === 1) return { code: await textOf(entry) };
  if (names.includes("-")) throw new Exit(exitCodes.usage, "Expected - alone, or files.");
  const pathOf = (name: string): string => path.relative("", name).replaceAll(path.sep, "/");
  const texts = await Promise.all(names.map(async (name) => [pathOf(name), await textOf(name)] as const));
  return { files: Object.fromEntries(texts), entry: pathOf(entry) };
}

const textOf = (file: string): Promise<string> => (file === "-" ? text(process.stdin) : readFile(file, "utf8").catch(unusable(file, "read")));

/** The end of a job that was waited for. */
export async function tell(job: FinishedJob, { json, out }: { json?: boolean; out?: string }): Promise<void> {
  const tookMs = job.startedAt === null ? 0 : Date.parse(job.completedAt) - Date.parse(job.startedAt);
  if (json) printJson(job);
  if (job.status === "failed") {
    if (!json) print(job.id);
    say(`${paint(process.stderr, "red", `failed: ${job.failure.code}`)} after ${seconds(tookMs)}\n${frames(job.error)}`);
    throw new Exit(exitCodes.failed);
  }
  if (out === "-") process.stdout.write(job.result);
  else if (out !== undefined) await writeFile(out, job.result).catch(unusable(out, "written"));
  if (!json && out !== "-") print(job.id);
  for (const warning of job.warnings) say(paint(process.stderr, "yellow", `warning: ${warning.text}`));
  say(`${paint(process.stderr, "green", "completed")} in ${seconds(tookMs)}, ${Buffer.byteLength(job.result)} bytes${out !== undefined && out !== "-" ? `, written to ${out}` : ""}`);
}

