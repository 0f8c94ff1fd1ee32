/**
 * What is known of code by its hash, over all chats and nodes: code that is quarantined, because it killed workers or
 * nodes, and code whose outcome is known, because a job of the same code ended in a way that any other would.
 */
import type { FailureCode, Outcome } from "../job.js";

export interface CodeQuestion {
  codeHash: string;
  /** See `Origin`. */
  stamp: string;
  /** Older outcomes are not taken over, milliseconds. */
  ageMs: number;
  /** Who asks, while it runs. */
  jobId: string;
  /** A job of this code has ended on the asker's node a moment ago: what was known when this one was claimed is old. */
  isBuiltHere?: boolean;
}

export type CodeAnswer =
  | { kind: "known"; outcome: Outcome }
  /** A job of the same code runs since before the asker started. */
  | { kind: "running"; jobId: string }
  | { kind: "unknown" };

export interface CodeStore {
  /** Forgets what quarantined code did; false when it is not quarantined. Jobs that failed for it stay failed, to be redriven. */
  lift(hash: string): Promise<boolean>;
  /** How a build of the code would end. */
  ask(question: CodeQuestion, now?: number): Promise<CodeAnswer>;
}

/** Failures that are the code's own, so that any other build of it would fail alike. */
export const ownFailures: FailureCode[] = ["build_failed", "import_refused", "output_too_large"];
