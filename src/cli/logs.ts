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

/** Without -f the kept events come at once; so long after the last of them the end is reached, milliseconds. */
const quietMs = 400;

export const logsCommand = (): Command =>
  clientCommand("logs", "Show the events of a job, of a chat, or with -f of all chats as they happen.", ["logs 3fA9xK…", "logs --chat c1 -f", "logs -f --json"])
    .argument("[id]", "a job")
    .option("--chat <id>", "a chat instead")
    .option("-f, --follow", "go on as things happen")
    .option("--after <number>", "only events after this number", wholeNumber(0), 0)
    .action(logs);

async function logs(id: string | undefined, flags: Flags): Promise<void> {
  if (id !== undefined && flags.chat !== undefined) throw new Exit(exitCodes.usage, "Expected a job or --chat, got both.");
  const which = id !== undefined ? { jobId: id } : flags.chat !== undefined ? { chatId: flags.chat } : "all";
  if (which === "all" && !flags.follow) throw new Exit(exitCodes.usage, "Expected a job's id or --chat; all chats at once can only be followed (-f).");
  await withClient(flags, async (client, signal) => {
    if (id !== undefined) await client.get(id, { signal });
    await show(client, which, flags, signal);
    signal.throwIfAborted();
  });
}

async function show(client: Client, which: Parameters<Client["events"]>[0], flags: Flags, interrupted: AbortSignal): Promise<void> {
  const quiet = new AbortController();
  const signal = AbortSignal.any([interrupted, quiet.signal]);
  const events = client.events(which, { after: which === "all" ? undefined : flags.after, signal })[Symbol.asyncIterator]();
  for (;;) {
    const timer = flags.follow ? undefined : systemClock.after(quietMs, () => quiet.abort());
    const { done, value } = await events.next();
    timer?.cancel();
    if (done) return;
    line(value, flags);
  }
}

function line(event: StreamEvent, { json }: Flags): void {
  if (json) printJson({ number: event.number, type: event.type, ...event.data });
  else print(`${String(event.number ?? "").padStart(6)}  ${harmless(describe(event.type, event.data))}`);
}
