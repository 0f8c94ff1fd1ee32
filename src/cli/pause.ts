/** `buildlane pause` and `resume`: the whole queue, or one chat; durable, on all nodes. */
import type { Command } from "commander";
import { operatorCommand, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { print, printJson } from "./talk.js";

const command = (name: "pause" | "resume", description: string): Command =>
  operatorCommand(name, description, [name, `${name} --chat c1`])
    .option("--chat <id>", "only this chat")
    .action((flags: OperatorFlags & { chat?: string }) =>
      withClient(flags, async (client, signal) => {
        const call = { signal, reason: flags.reason };
        const answer = flags.chat === undefined ? await client[name](call) : await client[`${name}Chat`](flags.chat, call);
        if (flags.json) printJson(answer);
        else print(`${flags.chat === undefined ? "the queue" : `chat ${flags.chat}`} is ${answer.paused ? "paused" : "running"}`);
      }),
    );

export const pauseCommand = (): Command => command("pause", "Start nothing more; what runs goes on, and jobs are still accepted.");
export const resumeCommand = (): Command => command("resume", "Start jobs again.");
