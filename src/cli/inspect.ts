/** `buildlane inspect`: what a running service's actors do, one event of Stately's wire format a line. */
import { once } from "node:events";
import type { Command } from "commander";
import { clientCommand, serviceOf, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { say } from "./talk.js";

interface Flags extends ClientFlags {
  chat?: string;
  job?: string;
  sample?: number;
}

export const inspectCommand = (): Command =>
  clientCommand("inspect", "Print what a service's actors do, as JSON lines in the format of Stately's inspector. The service needs BUILDLANE_INSPECT=true.", ["inspect", "inspect --chat c1", "inspect --sample 10"])
    .option("--chat <id>", "only this chat")
    .option("--job <id>", "only this job")
    .option("--sample <n>", "one chat in so many", wholeNumber(1, 10_000))
    .action((flags: Flags) => withClient(flags, (_client, signal) => inspect(flags, signal)));

async function inspect({ url, apiKey, chat, job, sample }: Flags, signal: AbortSignal): Promise<void> {
  const query = new URLSearchParams({ ...(chat ? { chatId: chat } : {}), ...(job ? { jobId: job } : {}), ...(sample ? { sample: String(sample) } : {}) }).toString();
  const base = `${serviceOf(url)}/api/builds`;
  const response = await fetch(`${base}/inspect?${query}`, { signal, headers: { accept: "text/event-stream", ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}) } }).catch(() => {
    signal.throwIfAborted();
    throw new Exit(exitCodes.unreachable, `There is no service at ${url}. Start one with buildlane serve, or name it with --url.`);
  });
  if (!response.ok || !response.body) {
    const told = (await response.json().catch(() => null)) as { message?: string } | null;
    throw new Exit(response.status === 401 || response.status === 403 ? exitCodes.auth : exitCodes.failed, told?.message ?? `The service answered ${response.status}.`);
  }
  say(`Attached. In a browser: ${base}/inspector${query ? `?${query}` : ""}`);
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    const blocks = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) if (block.startsWith("data: ") && !process.stdout.write(`${block.slice(6)}\n`)) await once(process.stdout, "drain", { signal });
  }
  throw new Exit(exitCodes.failed, "The service ended the stream: it stops, the key is over, or this reader was too slow.");
}
