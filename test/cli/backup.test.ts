/** A backup of the embedded database, taken while it works, becomes a database that goes on from there. */
import { readFile, writeFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { createBuildQueue } from "../../src/index.js";
import { systemClock } from "../../src/clock.js";
import { restoreEmbedded } from "../../src/store/open.js";
import { tempFolder } from "../support/temp.js";

const request = (messageId: string) => ({ chatId: "c", messageId, code: "1" });

it("holds all that was accepted when it was taken, and what ran then runs again", async () => {
  await using folder = await tempFolder();
  const from = path.join(folder.path, "from");
  const to = path.join(folder.path, "to");
  const file = path.join(folder.path, "backup.tar.gz");
  let release = () => {};
  const first = await createBuildQueue({ dataDir: from, drainMs: 0, run: (job) => (job.messageId === "held" ? new Promise<string>((resolve) => (release = () => resolve(""))) : `built ${job.messageId}`) });
  try {
    const done = await first.enqueue(request("done"));
    await first.waitFor(done.id);
    const held = await first.enqueue(request("held"));
    while ((await first.get(held.id)).status !== "running");
    const waiting = await first.enqueue(request("waiting"));
    await writeFile(file, await buffer(await first.backUp()));
    const after = await first.enqueue(request("after"));

    expect(await restoreEmbedded(to, await readFile(file), systemClock)).toBe(3);
    const second = await createBuildQueue({ dataDir: to, run: (job) => `again ${job.messageId}` });
    try {
      expect(await second.get(done.id)).toMatchObject({ status: "completed", result: "built done" });
      expect(await second.waitFor(held.id)).toMatchObject({ status: "completed", result: "again held", attempt: 2 });
      expect(await second.waitFor(waiting.id)).toMatchObject({ status: "completed" });
      await expect(second.get(after.id)).rejects.toMatchObject({ code: "job_not_found" });
      expect(await second.enqueue(request("next"))).toMatchObject({ chatSeq: 4 });
    } finally {
      await second.stop();
    }
    await expect(restoreEmbedded(to, await readFile(file), systemClock)).rejects.toThrow("holds a database already");
  } finally {
    release();
    await first.stop();
  }
}, 180_000);

it("refuses what is no backup, and another version's, and leaves nothing", async () => {
  await using folder = await tempFolder();
  await expect(restoreEmbedded(folder.path, Buffer.from("nonsense"), systemClock)).rejects.toThrow("not a backup");
  await expect(restoreEmbedded(folder.path, gzipSync(Buffer.alloc(1024)), systemClock)).rejects.toThrow("has no PG_VERSION");
  const tar = Buffer.alloc(1536);
  tar.write("PG_VERSION", 0);
  tar.write("00000000003", 124);
  tar.write("17\n", 512);
  await expect(restoreEmbedded(folder.path, gzipSync(tar), systemClock)).rejects.toThrow("The backup is of PostgreSQL 17");
  const memory = await createBuildQueue({ store: "memory", run: () => "" });
  await expect(memory.backUp()).rejects.toMatchObject({ code: "no_backup" });
  await memory.stop();
});
