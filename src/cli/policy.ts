/** `buildlane policy CHAT`: how a chat's order deals with failures; to see it, and to choose it. */
import { Option } from "commander";
import type { Command } from "commander";
import type { ChatPolicy } from "../client/index.js";
import { chatPolicies } from "../store/operating.js";
import { operatorCommand, withClient } from "./client-command.js";
import type { OperatorFlags } from "./client-command.js";
import { print, printJson, table } from "./talk.js";

export const policyCommand = (): Command =>
  operatorCommand("policy", "Show or choose how a chat's order deals with failures.", ["policy c1", 'policy c1 --while-retrying yield --after-failure hold --reason "demo"'])
    .argument("<chat>", "the chat, which may have no job yet")
    .addOption(new Option("--while-retrying <policy>", "later jobs wait for one that backs off, or pass it").choices(chatPolicies.whileRetrying))
    .addOption(new Option("--after-failure <policy>", "go on after a job that failed for good, or pause").choices(chatPolicies.afterFailure))
    .action((chat: string, { whileRetrying, afterFailure, ...flags }: OperatorFlags & Partial<ChatPolicy>) =>
      withClient(flags, async (client, signal) => {
        const isChange = whileRetrying !== undefined || afterFailure !== undefined;
        const policy = isChange ? await client.setPolicy(chat, { whileRetrying, afterFailure }, { signal, reason: flags.reason }) : (await client.chat(chat, { limit: 1, signal })).state.policy;
        if (flags.json) printJson(policy);
        else print(table([["while retrying", policy.whileRetrying], ["after failure", policy.afterFailure]]));
      }),
    );
