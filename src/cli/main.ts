#!/usr/bin/env node
/** The command line. Data goes to stdout, talk to stderr; exit codes are in exit.ts. One file a command. */
import { Command, CommanderError } from "commander";
import { version } from "../version.js";
import { cancelCommand } from "./cancel.js";
import { configCommand } from "./config.js";
import { deadLettersCommand } from "./dead-letters.js";
import { doctorCommand } from "./doctor.js";
import { eraseCommand } from "./erase.js";
import { exitCodes, exitOf } from "./exit.js";
import { keysCommand } from "./keys.js";
import { listCommand } from "./list.js";
import { logsCommand } from "./logs.js";
import { migrateCommand } from "./migrate.js";
import { pauseCommand, resumeCommand } from "./pause.js";
import { redriveCommand } from "./redrive.js";
import { retryCommand } from "./retry.js";
import { serveCommand } from "./serve.js";
import { statusCommand } from "./status.js";
import { submitCommand } from "./submit.js";
import { say } from "./talk.js";
import { verifyCommand } from "./verify.js";
import { whyCommand } from "./why.js";

const client = [submitCommand, statusCommand, listCommand, logsCommand, whyCommand, cancelCommand, retryCommand, deadLettersCommand, redriveCommand, pauseCommand, resumeCommand, eraseCommand];
const operator = [serveCommand, keysCommand, migrateCommand, verifyCommand, configCommand, doctorCommand];

const program = new Command("buildlane")
  .description("A build queue for AI chat products: every chat is a lane, strictly first in, first out.")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(see --help)")
  .addHelpText("after", `
Exit codes: 0 ok, 1 failed, 2 usage, 3 the service is unreachable, 4 timed out, 5 refused for lack of a key or of rights, 130 interrupted.

Examples:
  $ buildlane serve
  $ buildlane submit app.tsx --chat c1 --wait --out app.js
  $ buildlane logs --chat c1 -f
`);
program.commandsGroup("Jobs and chats of a running service:");
for (const make of client) program.addCommand(make());
program.commandsGroup("For who runs it:");
for (const make of operator) program.addCommand(make());
// A command that was made elsewhere would end the process by itself, with a status of its own.
for (const command of program.commands) command.copyInheritedSettings(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  } else {
    const { code, message } = exitOf(error);
    say(message);
    process.exitCode = code;
  }
}
