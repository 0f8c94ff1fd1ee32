/** `buildlane logs`: what happened to a job or in a chat, and with -f what happens. */
import type { Command } from "commander";
import type { Client, StreamEvent } from "../client/index.js";
import { systemClock } from "../clock.js";
import { clientCommand, wholeNumber, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { describe } from "./progress.js";
import { harmless, print, printJson } from "./talk.js";

interface Flags extends ClientFlags {
  chat?: string;
  follow?: boolean;
  after: number;
}

/** No event of those that are kept is waited for longer, milliseconds. */
const quietMs = 5000;

export const logsCommand = (): Command =>
  clientCommand("logs", "Show the events of a job, of a chat, or with -f of all chats as they happen.", ["logs 3fA9xK…", "logs --chat c1 -f", "logs -f --json"])
    .argument("[id]", "a job")
    .option("--chat <id>", "a chat instead")
    .option("-f, --follow", "go on as things happen")
    .option("--after <number>", "only events after this number", wholeNumber(0), 0)
    .action(logs);

async function logs(id: string | undefined, flags: Flags): Promise<void> {
  if (id !== undefined && flags.chat !== undefined) throw new Exit(exitCodes.usage, "Expected a job or --chat, got both.");
  if (id === undefined && flags.chat === undefined && !flags.follow) throw new Exit(exitCodes.usage, "Expected a job's id or --chat; all chats at once can only be followed (-f).");
  await withClient(flags, async (client, signal) => {
    if (flags.follow) await follow(client, id, flags, signal);
    else await showKept(client, id, flags, signal);
    signal.throwIfAborted();
  });
}

async function follow(client: Client, id: string | undefined, flags: Flags, signal: AbortSignal): Promise<void> {
  const which = id !== undefined ? { jobId: id } : flags.chat !== undefined ? { chatId: flags.chat } : "all";
  for await (const event of client.events(which, { after: which === "all" ? undefined : flags.after, signal })) line(event, flags);
}

/** What was there when it was asked for: up to the number of the chat's latest event. */
async function showKept(client: Client, id: string | undefined, flags: Flags, interrupted: AbortSignal): Promise<void> {
  const chatId = id === undefined ? (flags.chat as string) : (await client.get(id, { signal: interrupted })).chatId;
  const latest = await client.latestEvent(chatId, { signal: interrupted });
  if (latest <= flags.after) return;
  // The last of them may have been removed by the retention, and then it never comes.
  const quiet = new AbortController();
  let timer = systemClock.after(quietMs, () => quiet.abort());
  for await (const event of client.events({ chatId }, { after: flags.after, signal: AbortSignal.any([interrupted, quiet.signal]) })) {
    timer.cancel();
    if (event.number !== null && (id === undefined || event.data.jobId === id)) line(event, flags);
    if (event.number !== null && event.number >= latest) break;
    timer = systemClock.after(quietMs, () => quiet.abort());
  }
  timer.cancel();
}

function line(event: StreamEvent, { json }: Flags): void {
  if (json) printJson({ number: event.number, type: event.type, ...event.data });
  else print(`${String(event.number ?? "").padStart(6)}  ${harmless(describe(event.type, event.data))}`);
}
