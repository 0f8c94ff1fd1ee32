/** `buildlane restore FILE`: a backup becomes the embedded database of a folder that has none. */
import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { systemClock } from "../clock.js";
import { readSettings } from "../options.js";
import { restoreEmbedded } from "../store/open.js";
import { unusable } from "./exit.js";
import { withSettings } from "./settings-flags.js";
import { print, say } from "./talk.js";

export const restoreCommand = (): Command =>
  withSettings(new Command("restore").description("Make the embedded database of a folder from a backup."), ["dataDir"])
    .argument("<file>", "what buildlane backup wrote")
    .addHelpText("after", "\nExamples:\n  $ buildlane restore monday.tar.gz --data-dir restored\n  $ buildlane serve --data-dir restored\n")
    .action(async (file: string, flags: Record<string, unknown>) => {
      const { dataDir } = readSettings(process.env, flags);
      const backup = await readFile(file).catch(unusable(file, "read"));
      const jobs = await restoreEmbedded(dataDir, backup, systemClock);
      print(dataDir);
      say(`Restored, with ${jobs} jobs. What was running when the backup was taken runs again at the next start.`);
    });
