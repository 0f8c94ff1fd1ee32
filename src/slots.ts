/**
 * The last word on P2 and P6 inside one process: a run that was told to stop may take a moment to be gone, and until
 * then its slot is taken and its chat has a build, whatever the ledger says (a lost lease empties that at once).
 */
import type { Clock } from "./clock.js";
import type { Outcome, RunnableJob, Runner } from "./job.js";
import type { StopSignal } from "./stop-signal.js";

/** A runner behind the slots: it is told to stop by a StopSignal. */
export interface SlottedRunner {
  start(): Promise<void>;
  run(job: RunnableJob, context: { stop: StopSignal; attempt: number }): Promise<Outcome>;
  stop(): Promise<void>;
}

/** `graceMs`: a run that ignores its signal for so long is given up on, or it would take its slot for ever. */
export function withinSlots(runner: Runner, { slots, graceMs, clock }: { slots: number; graceMs: number; clock: Clock }): SlottedRunner {
  const chats = new Set<string>();
  /** First come, first served, but for those whose chat is still taken. */
  const waiting: { chatId: string; enter(): void }[] = [];

  function admit(): void {
    for (let index = 0; chats.size < slots && index < waiting.length; ) {
      const { chatId, enter } = waiting[index] as (typeof waiting)[number];
      if (chats.has(chatId)) index++;
      else {
        waiting.splice(index, 1);
        chats.add(chatId);
        enter();
      }
    }
  }
  function enter(chatId: string, stop: StopSignal): Promise<void> | undefined {
    if (waiting.length === 0 && chats.size < slots && !chats.has(chatId)) return void chats.add(chatId);
    return new Promise((resolve, reject) => {
      const entry = { chatId, enter: resolve };
      waiting.push(entry);
      stop.onAbort(() => {
        const index = waiting.indexOf(entry);
        if (index < 0) return;
        waiting.splice(index, 1);
        reject(new Error("Stopped before its slot was free."));
      });
      admit();
    });
  }

  return {
    start: () => runner.start(),
    stop: () => runner.stop(),
    async run(job, { stop, attempt }) {
      const { chatId } = job;
      const turn = enter(chatId, stop);
      if (turn) await turn;
      let taken = true;
      const leave = () => {
        if (!taken) return;
        taken = false;
        chats.delete(chatId);
        admit();
      };
      if (stop.aborted) {
        leave();
        throw new Error("Stopped before it started.");
      }
      let grace: { cancel(): void } | null = null;
      stop.onAbort(() => void (grace = clock.after(graceMs, leave)));
      try {
        return await runner.run(job, { attempt, get signal() { return stop.signal; } });
      } finally {
        stop.onAbort(null);
        (grace as { cancel(): void } | null)?.cancel();
        leave();
      }
    },
  };
}
