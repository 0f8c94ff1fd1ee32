#!/usr/bin/env node
/** The command line. Data goes to stdout, talk to stderr; exit codes: 0 ok, 1 failed, 2 usage. */
import { Command, CommanderError } from "commander";
import { SettingsError } from "../errors.js";
import { messageOf } from "../report.js";
import { version } from "../version.js";
import { keysCommand } from "./keys.js";
import { migrateCommand } from "./migrate.js";
import { serveCommand } from "./serve.js";
import { verifyCommand } from "./verify.js";

const program = new Command("buildlane")
  .description("A build queue for AI chat products: every chat is a lane, strictly first in, first out.")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(see --help)")
  .addCommand(serveCommand())
  .addCommand(keysCommand())
  .addCommand(migrateCommand())
  .addCommand(verifyCommand());
// A command that was made elsewhere would end the process by itself, with a status of its own.
for (const command of program.commands) command.copyInheritedSettings(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    process.stderr.write(`${error instanceof SettingsError ? error.message : messageOf(error)}\n`);
    process.exitCode = error instanceof SettingsError ? 2 : 1;
  }
}
