/**
 * A process that can die or be frozen: everything that reaches a node from outside (timers and the database's answers)
 * passes here. A dead one hears nothing more, as after SIGKILL; a frozen one hears it all when it goes on, as after
 * SIGSTOP and SIGCONT. Its wall clock may be wrong; its monotonic clock has an origin of its own.
 */
import type { Clock } from "../../src/clock.js";
import type { SimulatedClock } from "../../src/simulated-clock.js";

export interface SimulatedProcess {
  readonly clock: Clock;
  readonly state: "up" | "frozen" | "dead";
  /** How often it was frozen and went on. */
  readonly thaws: number;
  /** Lets something from outside in: now, when it goes on, or never. */
  deliver(callback: () => void): void;
  freeze(): void;
  thaw(): void;
  kill(): void;
}

export function createProcess(world: SimulatedClock, skewMs: number): SimulatedProcess {
  let state: SimulatedProcess["state"] = "up";
  let thaws = 0;
  const timers = new Set<{ cancel(): void }>();
  let due: { callback(): void; isTimer: boolean }[] = [];
  const origin = world.monotonic() - 1000 * world.random();

  function enter(isTimer: boolean, callback: () => void): void {
    if (state === "up") callback();
    else if (state === "frozen") due.push({ callback, isTimer });
  }
  function timer(delayMs: number, callback: () => void): { cancel(): void } {
    let set = true;
    const outer = world.after(delayMs, () => {
      timers.delete(outer);
      enter(true, () => set && callback());
    });
    timers.add(outer);
    return {
      cancel() {
        set = false;
        timers.delete(outer);
        outer.cancel();
      },
    };
  }

  return {
    clock: {
      now: () => world.now() + skewMs,
      monotonic: () => world.monotonic() - origin,
      after: timer,
      random: world.random,
      id: world.id,
      jobId: world.id,
      timers: { setTimeout: (callback, delayMs) => timer(delayMs, callback), clearTimeout: (handle) => (handle as ReturnType<typeof timer> | undefined)?.cancel() },
    },
    get state() {
      return state;
    },
    get thaws() {
      return thaws;
    },
    deliver: (callback) => enter(false, callback),
    freeze() {
      if (state === "up") state = "frozen";
    },
    thaw() {
      if (state !== "frozen") return;
      state = "up";
      thaws++;
      // What a real process hears first, its timers or its sockets, is left to chance.
      const timersFirst = world.random() < 0.5;
      const all = [...due].sort((a, b) => Number(b.isTimer === timersFirst) - Number(a.isTimer === timersFirst));
      due = [];
      for (const { callback } of all) enter(false, callback);
    },
    kill() {
      state = "dead";
      due = [];
      for (const outer of timers) outer.cancel();
      timers.clear();
    },
  };
}
