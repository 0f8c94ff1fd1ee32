import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder for one test: `await using folder = await tempFolder()`. */
export async function tempFolder(): Promise<{ path: string; [Symbol.asyncDispose](): Promise<void> }> {
  const made = await mkdtemp(path.join(tmpdir(), "buildlane-test-"));
  return { path: made, [Symbol.asyncDispose]: () => rm(made, { recursive: true, force: true, maxRetries: 3 }) };
}
