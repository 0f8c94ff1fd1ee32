/** `buildlane backup FILE`: the embedded database of a running service as one file. */
import { createWriteStream } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { clientCommand, withClient } from "./client-command.js";
import type { ClientFlags } from "./client-command.js";
import { unusable } from "./exit.js";
import { print, printJson, say } from "./talk.js";

export const backupCommand = (): Command =>
  clientCommand("backup", "Copy the embedded database of a running service into a file. A PostgreSQL is backed up by its own tools.", ["backup monday.tar.gz", "restore monday.tar.gz --data-dir restored"])
    .argument("<file>", "where to; it is replaced when it is there")
    .action((file: string, flags: ClientFlags) =>
      withClient(flags, async (client, signal) => {
        const part = `${file}.part`;
        let bytes = 0;
        // Before anything is copied.
        await writeFile(part, "").catch(unusable(file, "written"));
        try {
          const body = Readable.fromWeb((await client.backup({ signal })) as never);
          body.on("data", (chunk: Uint8Array) => void (bytes += chunk.length));
          await pipeline(body, createWriteStream(part), { signal });
          // A backup that broke off never has the name of a whole one.
          await rename(part, file).catch(unusable(file, "written"));
        } finally {
          await rm(part, { force: true });
        }
        if (flags.json) return printJson({ file, bytes });
        print(file);
        say(`${bytes} bytes. buildlane restore brings it back.`);
      }),
    );
