/** Callbacks of the user's own: whatever they do, the queue goes on. */
import { messageOf } from "./report.js";

/** The callback, of which neither a throw nor a rejection reaches its caller; `failed` hears of each. */
export const guarded =
  <A extends unknown[]>(callback: (...args: A) => unknown, failed: (error: unknown) => void) =>
  (...args: A): void => {
    try {
      const answer = callback(...args);
      if (answer instanceof Promise) answer.catch(failed);
    } catch (error) {
      failed(error);
    }
  };

/** Counts each failure of the option's callback, and tells of the first one as a warning of the process: the module has no log. */
export function countFailures(option: "onReport" | "onProgress", counters: Record<string, number>): (error: unknown) => void {
  const name = `${option}.failed`;
  return (error) => {
    counters[name] = (counters[name] ?? 0) + 1;
    if (counters[name] === 1) process.emitWarning(`${option} failed, which changes nothing for the queue: ${messageOf(error)}. From now on it is only counted, as ${name}.`, "BuildlaneWarning");
  };
}
