/** A caller's own `run` in the place of the build: the same queue for any kind of job. */
import { errorText, firstLine } from "./error-text.js";
import type { FailureCode, Outcome, RunnableJob, Runner } from "./job.js";

/** Gets the claimed job; what it returns becomes the job's result (a text as it is, anything else as JSON, and what JSON cannot write fails the job). Throwing fails the attempt; an error with `retryable: false` is not tried again. */
export type Run = (job: RunnableJob, context: { signal: AbortSignal; attempt: number }) => unknown;

const asText = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));

/** Whether an error says that another try makes no sense. */
function isFinal(error: unknown): boolean {
  try {
    return (error as { retryable?: unknown } | null)?.retryable === false;
  } catch {
    return false;
  }
}

const refused = (code: FailureCode, message: string): Outcome => ({ kind: "failed", failure: { code, message, retryable: false, diagnostics: [] }, error: message });

/** The Runner of a caller's function. */
export function ownRunner(run: Run, outputBytesMax: number): Runner {
  return {
    start: async () => {},
    stop: async () => {},
    async run(job, context): Promise<Outcome> {
      let value: unknown;
      try {
        value = await run(job, context);
      } catch (error) {
        if (context.signal.aborted) throw error;
        const text = errorText(error);
        return { kind: "failed", failure: { code: "run_failed", message: firstLine(text), retryable: !isFinal(error), diagnostics: [] }, error: text };
      }
      // What is done is not done again: the same result would be there once more.
      try {
        const result = asText(value);
        const bytes = Buffer.byteLength(result);
        if (bytes <= outputBytesMax) return { kind: "built", result, sourceMap: null, warnings: [], externals: [] };
        return refused("output_too_large", `The result has ${bytes} bytes; at most ${outputBytesMax} are kept.`);
      } catch (error) {
        return refused("run_failed", `The result cannot be written as JSON: ${firstLine(errorText(error))}`);
      }
    },
  };
}
