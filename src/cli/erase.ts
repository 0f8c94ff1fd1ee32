/** `buildlane erase`: forgets a conversation for good. */
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { operatorCommand, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { print, printJson } from "./talk.js";

interface Flags extends OperatorFlags {
  yes?: boolean;
}

export const eraseCommand = (): Command =>
  operatorCommand("erase", "Forget a chat: its jobs, code, results and events, for good.", ["erase c1", 'erase c1 --yes --reason "account closed"'])
    .argument("<chat>", "the chat")
    .option("--yes", "do not ask")
    .action(async (chat: string, flags: Flags) => {
      if (!flags.yes && !(await confirmed(chat))) throw new Exit(exitCodes.usage, "Nothing was erased. Say --yes where nobody can be asked.");
      await withClient(flags, async (client, signal) => {
        const answer = await client.eraseChat(chat, { signal, reason: flags.reason });
        if (flags.json) printJson(answer);
        else print(`${answer.erased} jobs of chat ${chat} erased`);
      });
    });

async function confirmed(chat: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await lines.question(`Type the chat's id to erase it for good: `)) === chat;
  } finally {
    lines.close();
  }
}
