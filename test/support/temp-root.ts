/**
 * Where the tests' folders are made: in memory, if the machine has a file system there with room, and else where the system
 * says. A run makes and deletes some 50,000 files, databases' for the most part. On a disk that costs processor time, and on
 * ext4 without a journal, as virtual machines have it, more with every file: it walks past all that were deleted in the
 * last minutes before it gives out a new one (making a cluster took 1 s at first and 3 s later).
 * No test asks what a power loss leaves, which is all that a disk would add.
 */
import { accessSync, chmodSync, constants, mkdirSync, readFileSync, statfsSync } from "node:fs";
import { freemem } from "node:os";

const memory = "/dev/shm";
/** A run takes up to 400 MB; containers often have 64. */
const roomBytesMin = 2e9;

/** Undefined: let the system say. One folder for all runs, in which each finds what a killed one left. */
export function tempRoot(): string | undefined {
  try {
    const [, options] = new RegExp(`^\\S+ ${memory} tmpfs (\\S+)`, "m").exec(readFileSync("/proc/mounts", "utf8")) ?? [];
    const { bavail, bsize } = statfsSync(memory);
    // PostgreSQL's programs may have to run from there.
    if (options === undefined || options.split(",").includes("noexec") || bavail * bsize < roomBytesMin || freemem() < 2 * roomBytesMin) return undefined;
    const made = `${memory}/buildlane-tests`;
    // As /tmp is: a server that runs as somebody else deletes its own folder there.
    if (mkdirSync(made, { recursive: true })) chmodSync(made, 0o1777);
    accessSync(made, constants.W_OK | constants.X_OK);
    return made;
  } catch {
    return undefined;
  }
}
