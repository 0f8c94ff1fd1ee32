import { expect, it } from "vitest";
import { RunContext, StopSignal } from "../src/stop-signal.js";

it("a run's context can be taken apart and copied, and the signal of a copy aborts too", () => {
  const stop = new StopSignal();
  const context = new RunContext(2, stop, () => {});
  const copied = { ...context };
  const { signal, attempt } = context;
  expect([Object.keys(copied).sort(), attempt, copied.attempt, signal.aborted]).toEqual([["attempt", "signal"], 2, 2, false]);
  expect(copied.signal).toBe(signal);
  stop.abort();
  expect([signal.aborted, copied.signal.aborted, stop.aborted]).toEqual([true, true, true]);
});

it("a signal that is asked for after the stop is aborted already, and who waits is called back once", () => {
  const stop = new StopSignal();
  const called: string[] = [];
  stop.onAbort(() => called.push("first"));
  stop.onAbort(() => called.push("last"));
  stop.abort();
  stop.abort();
  expect([called, new RunContext(1, stop, () => {}).signal.aborted]).toEqual([["last"], true]);
});
