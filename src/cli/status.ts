/** `buildlane status [ID]`: one job, or how the whole queue stands. */
import type { Command } from "commander";
import type { Job, QueueStats } from "../client/index.js";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { frames, harmless, print, printJson, say, seconds } from "./talk.js";

export const statusCommand = (): Command =>
  clientCommand("status", "Show a job, or without an id how the queue stands.", ["status", "status 3fA9xK… --json"])
    .argument("[id]", "a job")
    .action((id: string | undefined, flags: ClientFlags) =>
      withClient(flags, async (client, signal) => {
        if (id === undefined) {
          const stats = await client.stats({ signal });
          return flags.json ? printJson(stats) : print(figures(stats));
        }
        const job = await client.get(id, { signal });
        if (flags.json) return printJson(job);
        print(describeJob(job));
        if (job.status === "failed") say(frames(job.error));
      }),
    );

function describeJob(job: Job): string {
  const lines: [string, string | null][] = [
    ["id", job.id],
    ["chat", `${harmless(job.chatId)}, number ${job.chatSeq}`],
    ["message", harmless(job.messageId)],
    ["status", job.status],
    ["position", job.status === "pending" ? String(job.queuePosition) : null],
    ["estimate", job.status === "pending" ? (job.estimatedWaitTime === null ? "paused" : seconds(job.estimatedWaitTime)) : null],
    ["attempts", `${job.attempt} of at most ${job.maxAttempts}`],
    ["next attempt", job.nextAttemptAt],
    ["created", job.createdAt],
    ["started", job.startedAt],
    ["completed", job.completedAt],
    ["output", job.status === "completed" ? `${Buffer.byteLength(job.result)} bytes` : null],
    ["failure", job.failure?.code ?? null],
    ["superseded by", job.supersededBy],
    ["externals", job.externals.length > 0 ? job.externals.join(", ") : null],
  ];
  return lines.flatMap(([name, value]) => (value === null ? [] : [`${name.padEnd(14)}${value}`])).join("\n");
}

function figures(stats: QueueStats): string {
  const { p50, p95 } = stats.processing;
  return [
    `${"queued".padEnd(14)}${stats.totalQueued}${stats.queuePaused ? " (the queue is paused)" : ""}`,
    `${"running".padEnd(14)}${stats.totalRunning}`,
    `${"completed".padEnd(14)}${stats.totalCompleted}`,
    `${"failed".padEnd(14)}${stats.totalFailed}, ${stats.deadLetters} dead letters`,
    `${"builds take".padEnd(14)}${p50 === null || p95 === null ? "not measured yet" : `${seconds(p50)} (p95 ${seconds(p95)})`}`,
    `${"oldest waits".padEnd(14)}${stats.oldestWaitMs === null ? "nothing waits for a slot" : seconds(stats.oldestWaitMs)}`,
    `${"nodes".padEnd(14)}${stats.nodes.filter(({ alive }) => alive).length} alive, ${stats.slots} slots here`,
  ].join("\n");
}
