/** How an attempt fails for reasons that are not a place in the code: constant sentences, made of limits only, never of what a process said. */
import type { Failure, FailureCode, Outcome } from "../job.js";

type Failed = Extract<Outcome, { kind: "failed" }>;

const failed = (code: FailureCode, retryable: boolean, message: string): Failed => {
  const failure: Failure = { code, message, retryable, diagnostics: [] };
  return { kind: "failed", failure, error: message };
};

export const workerCrashed = (): Failed => failed("worker_crashed", true, "The build process ended with an error of its own before it had a result.");

export const outOfMemory = (memoryMb: number): Failed =>
  failed("out_of_memory", true, `The build ended with an error: it needed more than the ${memoryMb} MiB of memory that it may use.`);

export const outputTooLarge = (bytes: number, outputBytesMax: number): Failed =>
  failed("output_too_large", false, `The build ended with an error: its output has ${bytes} bytes, and at most ${outputBytesMax} are allowed.`);

export const messagesTooLarge = (): Failed =>
  failed("output_too_large", false, "The build ended with an error: its output or its messages are too large to be read.");

/** A request that cannot be built whatever the code says, such as an unknown target. */
export const buildRefused = (message: string): Failed => {
  const diagnostic = { text: message, file: null, line: null, column: null, length: null, lineText: null, suggestion: null };
  return { kind: "failed", failure: { code: "build_failed", message, retryable: false, diagnostics: [diagnostic] }, error: `error: ${message}` };
};
