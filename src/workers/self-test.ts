/** What a worker does before it says that it is ready: one real build, and a try to read what must not be readable. */
import { build, tryToLeak, warmUp } from "./engine.js";
import type { BuildLimits } from "./limits.js";
import type { Canary, UnfitReason } from "./protocol.js";

/** Null when all is well. Without a canary (an unconfined machine) only the build is tried. */
export async function selfTest(canary: Canary | null, limits: BuildLimits): Promise<UnfitReason | null> {
  try {
    // The engine's own descriptors must exist before anything tries to open a file, or it dies for want of them.
    await warmUp();
    if (canary && (await tryToLeak(canary)).includes(canary.secret)) return "canary_read";
    const outcome = await build({ kind: "code", code: "export const Warm = (p: { n: number }) => <b>{p.n}</b>;" }, { sourcemap: true }, limits);
    return outcome.kind === "built" && outcome.result.includes("Warm") ? null : "engine_failed";
  } catch {
    return "engine_failed";
  }
}
