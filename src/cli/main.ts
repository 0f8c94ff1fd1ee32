#!/usr/bin/env node
/** The command line. Data goes to stdout, talk to stderr; exit codes are in exit.ts. One file a command. */
import { Command, CommanderError } from "commander";
import { version } from "../version.js";
import { exitCodes, exitOf } from "./exit.js";
import { say } from "./talk.js";

/** By heading and name; each is loaded when it is called, since some bring the whole service along. */
const groups: Record<string, Record<string, () => Promise<Command>>> = {
  "Jobs and chats of a running service:": {
    submit: async () => (await import("./submit.js")).submitCommand(),
    status: async () => (await import("./status.js")).statusCommand(),
    list: async () => (await import("./list.js")).listCommand(),
    logs: async () => (await import("./logs.js")).logsCommand(),
    why: async () => (await import("./why.js")).whyCommand(),
    cancel: async () => (await import("./cancel.js")).cancelCommand(),
    retry: async () => (await import("./retry.js")).retryCommand(),
    "dead-letters": async () => (await import("./dead-letters.js")).deadLettersCommand(),
    redrive: async () => (await import("./redrive.js")).redriveCommand(),
    pause: async () => (await import("./pause.js")).pauseCommand(),
    resume: async () => (await import("./pause.js")).resumeCommand(),
    policy: async () => (await import("./policy.js")).policyCommand(),
    quarantine: async () => (await import("./quarantine.js")).quarantineCommand(),
    erase: async () => (await import("./erase.js")).eraseCommand(),
  },
  "For who runs it:": {
    serve: async () => (await import("./serve.js")).serveCommand(),
    inspect: async () => (await import("./inspect.js")).inspectCommand(),
    bench: async () => (await import("./bench.js")).benchCommand(),
    audit: async () => (await import("./audit.js")).auditCommand(),
    keys: async () => (await import("./keys.js")).keysCommand(),
    migrate: async () => (await import("./migrate.js")).migrateCommand(),
    verify: async () => (await import("./verify.js")).verifyCommand(),
    backup: async () => (await import("./backup.js")).backupCommand(),
    restore: async () => (await import("./restore.js")).restoreCommand(),
    config: async () => (await import("./config.js")).configCommand(),
    doctor: async () => (await import("./doctor.js")).doctorCommand(),
  },
};
/** The one that is called, or all, for the help and for what is misspelt. */
const called = process.argv[2] ?? "";
const isWanted = (name: string): boolean => name === called || !Object.values(groups).some((group) => Object.hasOwn(group, called));

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
for (const [heading, group] of Object.entries(groups)) {
  program.commandsGroup(heading);
  for (const [name, load] of Object.entries(group)) if (isWanted(name)) program.addCommand(await load());
}
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
