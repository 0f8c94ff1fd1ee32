/** What a worker goes through before it serves: one real build, and tries to read what must not be readable. */
import type { Channel } from "./channel.js";
import type { Canary, Confinement } from "./confinement.js";
import { build, leaks, tryToLeak } from "./engine.js";
import type { BuildLimits } from "./limits.js";
import { noPackages } from "./packages.js";

/** Why a worker does not serve: a canary was read, or esbuild does not run or does not work here. */
export type UnfitReason = "canary_read" | "engine_failed";

/**
 * Null when all is well. Where the machine has walls of its own, plain esbuild behind them must not get at the
 * canaries; where it has none, the gate alone must keep a build from them.
 */
export async function selfTest(channel: Channel, canary: Canary, { missing, walls }: Confinement, limits: BuildLimits): Promise<UnfitReason | null> {
  try {
    const gated = (code: string) => build(channel, { source: { kind: "code", code }, options: { sourcemap: true }, packages: noPackages, limits, walls });
    // First: the engine's own descriptors must exist before anything tries to open a file, or it dies for want of them.
    const outcome = await gated("export const Warm = (p: { n: number }) => <b>{p.n}</b>;");
    if (outcome.kind !== "built" || !outcome.result.includes("Warm")) return "engine_failed";
    if (!walls.openFiles) return null;
    const brought = missing.length === 0 ? await tryToLeak(channel, canary) : JSON.stringify(await Promise.all(leaks(canary).map(gated)));
    return brought.includes(canary.secret) ? "canary_read" : null;
  } catch {
    return "engine_failed";
  }
}
