/** `buildlane submit FILE`: a file, or standard input, becomes a job; on demand it is waited for. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { Command, Option } from "commander";
import type { BuildRequest, FinishedJob } from "../client/index.js";
import { loaders, supersedes } from "../job.js";
import type { Loader, Supersede } from "../job.js";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { showProgress } from "./progress.js";
import { frames, paint, print, printJson, say, seconds } from "./talk.js";

interface Flags extends ClientFlags {
  chat: string;
  message?: string;
  loader?: Loader;
  minify?: boolean;
  sourcemap?: boolean;
  target?: string;
  priority?: number;
  supersede?: Supersede;
  delay?: number;
  key?: string;
  watch?: boolean;
  wait?: boolean;
  timeout?: number;
  out?: string;
}

const loaderOf: Record<string, Loader> = { ".tsx": "tsx", ".ts": "ts", ".mts": "ts", ".jsx": "jsx", ".js": "js", ".mjs": "js", ".json": "json", ".css": "css" };

export const submitCommand = (): Command =>
  clientCommand("submit", "Submit a file to be built; - reads standard input.", ["submit app.tsx --chat c1 --wait --out app.js", "submit app.tsx --chat c1 --watch --json", "submit - --chat c1 --supersede running < app.tsx"])
    .argument("<file>", "the code; its extension says the language")
    .requiredOption("--chat <id>", "the chat that it belongs to")
    .option("--message <id>", "the message that it comes from (default: the file's name)")
    .addOption(new Option("--loader <language>", "the language").choices(loaders))
    .option("--minify", "minify the output")
    .option("--sourcemap", "keep a source map")
    .option("--target <target>", "an esbuild target such as es2022")
    .option("--priority <n>", "-10 to 10, higher runs earlier in its chat", wholeNumber(-10, 10))
    .addOption(new Option("--supersede <which>", "end the chat's older jobs: those that wait, or the running one too").choices(supersedes))
    .option("--delay <ms>", "wait so long before the first start", wholeNumber(0))
    .option("--key <key>", "idempotency key: the same one answers with the same job")
    .option("--wait", "wait for the end; exit code 1 when the build fails")
    .option("--watch", "the same, and tell every event")
    .option("--timeout <seconds>", "wait no longer; exit code 4", wholeNumber(1))
    .option("--out <file>", "write the built JavaScript there (- for standard output); waits")
    .action(submit);

async function submit(file: string, flags: Flags): Promise<void> {
  const request = await requestOf(file, flags);
  await withClient(flags, async (client, interrupted) => {
    const accepted = await client.submit(request, { signal: interrupted, idempotencyKey: flags.key });
    if (!flags.wait && !flags.watch && flags.out === undefined) {
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

async function requestOf(file: string, flags: Flags): Promise<BuildRequest> {
  const code = file === "-" ? await text(process.stdin) : await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => Promise.reject(new Exit(exitCodes.usage, `${file} cannot be read (${error.code}).`)));
  const loader = flags.loader ?? loaderOf[path.extname(file).toLowerCase()];
  const options = { ...(loader ? { loader } : {}), ...(flags.minify ? { minify: true } : {}), ...(flags.sourcemap ? { sourcemap: true } : {}), ...(flags.target ? { target: flags.target } : {}) };
  return { chatId: flags.chat, messageId: flags.message ?? (file === "-" ? "stdin" : path.basename(file)), code, options, priority: flags.priority, supersede: flags.supersede, delayMs: flags.delay };
}

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
  else if (out !== undefined) await writeFile(out, job.result).catch((error: NodeJS.ErrnoException) => Promise.reject(new Exit(exitCodes.usage, `${out} cannot be written (${error.code}).`)));
  if (!json && out !== "-") print(job.id);
  for (const warning of job.warnings) say(paint(process.stderr, "yellow", `warning: ${warning.text}`));
  say(`${paint(process.stderr, "green", "completed")} in ${seconds(tookMs)}, ${Buffer.byteLength(job.result)} bytes${out !== undefined && out !== "-" ? `, written to ${out}` : ""}`);
}

