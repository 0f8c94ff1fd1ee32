/** `buildlane pause` and `resume`: the whole queue, or one chat; durable, on all nodes. */
import type { Command } from "commander";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { print, printJson } from "./talk.js";

const command = (name: "pause" | "resume", description: string): Command =>
  clientCommand(name, description, [name, `${name} --chat c1`])
    .option("--chat <id>", "only this chat")
    .action((flags: ClientFlags & { chat?: string }) =>
      withClient(flags, async (client, signal) => {
        const answer = flags.chat === undefined ? await client[name]({ signal }) : await client[`${name}Chat`](flags.chat, { signal });
        if (flags.json) printJson(answer);
        else print(`${flags.chat === undefined ? "the queue" : `chat ${flags.chat}`} is ${answer.paused ? "paused" : "running"}`);
      }),
    );

export const pauseCommand = (): Command => command("pause", "Start nothing more; what runs goes on, and jobs are still accepted.");
export const resumeCommand = (): Command => command("resume", "Start jobs again.");
