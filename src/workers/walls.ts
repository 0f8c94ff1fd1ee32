/**
 * Every wall between a build and all that is not its own, each one enough for what it covers; most things are covered
 * by two or three. All stand always. Only test/workers/walls.test.ts takes some away, to see what then comes in, and
 * that each of the others still keeps it out.
 */
export interface Walls {
  /** The gate answers what every import means, so that esbuild's own resolver never looks. */
  resolve: boolean;
  /** The gate answers what every file holds, so that esbuild never reads one. */
  load: boolean;
  /** Each file ends with a source-map comment that esbuild passes over in silence. */
  disarm: boolean;
  /** esbuild's process has no free file descriptor. */
  openFiles: boolean;
  /** The kernel bounds its memory. */
  memory: boolean;
  /** It leads a process group of its own: signals to ours do not reach it, and a kill takes all of it. */
  ownGroup: boolean;
  /** What it says at once is bounded before a byte of it is kept. */
  packets: boolean;
  /** Output, messages and their texts are bounded in what is handed on. */
  outputs: boolean;
}

/** The walls that are not a matter of yes or no, as a test may set them. */
export interface Openings {
  /** False: as on a machine that has no such limits. */
  limits?: boolean | undefined;
  openFilesMax?: number | undefined;
  /** Empty otherwise. */
  environment?: Record<string, string> | undefined;
  /** An empty one otherwise, removed under the worker's feet. */
  workingFolder?: string | undefined;
}

export const allWalls: Walls = {
  resolve: true, load: true, disarm: true, openFiles: true, memory: true, ownGroup: true, packets: true, outputs: true,
};
