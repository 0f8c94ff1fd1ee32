/** `buildlane doctor`: is everything in order, here and at the service? Each question with its answer; exit code 1 when one is wrong, 3 or 5 when the service is away or refuses the key. */
import type { Command } from "commander";
import { ClientError } from "../client/index.js";
import type { Client } from "../client/index.js";
import { systemClock } from "../clock.js";
import { readSettings } from "../options.js";
import { version } from "../version.js";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { Exit, exitCodes } from "./exit.js";
import { paint, print, printJson, seconds } from "./talk.js";

interface Finding {
  question: string;
  state: "ok" | "warning" | "wrong";
  answer: string;
}

const nodeFloor = [20, 19] as const;
const waitMsWorrying = 60_000;

export const doctorCommand = (): Command =>
  clientCommand("doctor", "Check this installation and the running service.", ["doctor", "doctor --url https://builds.example --json"]).action((flags: ClientFlags) =>
    withClient(flags, async (client) => {
      const findings = [nodeVersion(), settingsHere(), ...(await service(client, flags.url))];
      if (flags.json) printJson(findings);
      else for (const { question, state, answer } of findings) print(`${paint(process.stdout, { ok: "green", warning: "yellow", wrong: "red" }[state] as "green", state.padEnd(8))} ${question.padEnd(22)} ${answer}`);
      const isWrong = (asked: string): boolean => findings.some(({ question, state }) => question === asked && state === "wrong");
      if (isWrong("service answers")) throw new Exit(exitCodes.unreachable);
      if (isWrong("key")) throw new Exit(exitCodes.auth);
      if (findings.some(({ state }) => state === "wrong")) throw new Exit(exitCodes.failed);
    }),
  );

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const enough = major > nodeFloor[0] || (major === nodeFloor[0] && minor >= nodeFloor[1]);
  return { question: "Node", state: enough ? "ok" : "wrong", answer: `${process.versions.node}${enough ? "" : `; at least ${nodeFloor.join(".")} is needed`}` };
}

function settingsHere(): Finding {
  try {
    readSettings(process.env);
    return { question: "settings", state: "ok", answer: "valid; buildlane config shows them" };
  } catch (error) {
    return { question: "settings", state: "wrong", answer: error instanceof Error ? error.message : String(error) };
  }
}

async function service(client: Client, url: string): Promise<Finding[]> {
  const found: Finding[] = [];
  const add = (question: string, state: Finding["state"], answer: string) => void found.push({ question, state, answer });
  const from = systemClock.monotonic();
  try {
    const health = await client.health();
    add("service answers", "ok", `${url}, in ${seconds(systemClock.monotonic() - from)}`);
    add("version", health.version === version ? "ok" : "warning", `${health.version}${health.version === version ? "" : `; this command line is ${version}`}`);
    add("database", "ok", "reachable");
  } catch (error) {
    const { code, message } = error as ClientError;
    if (code === "unreachable" || code === "timed_out" || code === "not_buildlane") return [...found, { question: "service answers", state: "wrong", answer: message }];
    add("service answers", "ok", url);
    add("ready", "wrong", message);
  }
  try {
    const stats = await client.stats();
    add("key", "ok", "accepted");
    const alive = stats.nodes.filter(({ alive }) => alive).length;
    add("nodes", alive > 0 ? "ok" : "wrong", `${alive} alive, ${stats.totalRunning} builds running`);
    add("queue", stats.queuePaused ? "warning" : "ok", `${stats.totalQueued} pending${stats.queuePaused ? ", paused: buildlane resume" : ""}`);
    const oldest = stats.oldestWaitMs;
    add("oldest wait", oldest !== null && oldest > waitMsWorrying && !stats.queuePaused ? "warning" : "ok", oldest === null ? "nothing waits for a slot" : seconds(oldest));
    add("dead letters", stats.deadLetters > 0 ? "warning" : "ok", `${stats.deadLetters}${stats.deadLetters > 0 ? "; see buildlane dead-letters --groups" : ""}`);
  } catch (error) {
    const { statusCode, message } = error as ClientError;
    add(statusCode === 401 || statusCode === 403 ? "key" : "figures", "wrong", message);
  }
  return found;
}
