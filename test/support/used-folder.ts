/**
 * A data folder in which Buildlane has been before, for services whose test is not about their first start: making the
 * database and its tables takes two thirds of a first start's processor time. Made once per run, then copied.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, rename, rm } from "node:fs/promises";
import path from "node:path";
import { inject } from "vitest";
import { systemClock } from "../../src/clock.js";
import { openStore } from "../../src/store/open.js";
import { tempFolder } from "./temp.js";

/** Like `tempFolder`, with the database in `data/`. */
export async function usedFolder(): Promise<Awaited<ReturnType<typeof tempFolder>> & { data: string }> {
  const folder = await tempFolder();
  const data = path.join(folder.path, "data");
  await cp(await original(), data, { recursive: true });
  return { ...folder, data };
}

async function original(): Promise<string> {
  const made = path.join(inject("runFolder"), "used-data");
  if (existsSync(made)) return made;
  const part = `${made}.${randomBytes(4).toString("hex")}`;
  const store = await openStore({ dataDir: part, nodeId: systemClock.id(), clock: systemClock });
  await store.close();
  // Another worker's, finished meanwhile, is as good.
  await rename(part, made).catch(() => rm(part, { recursive: true, force: true }));
  return made;
}
