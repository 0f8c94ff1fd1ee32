/**
 * The last word on P2 and P6 inside one process: a run that was told to stop may take a moment to be gone, and until
 * then its slot is taken and its chat has a build, whatever the ledger says (a lost lease empties that at once).
 */
import type { Clock } from "./clock.js";
import type { Runner } from "./job.js";

/** `graceMs`: a run that ignores its signal for so long is given up on, or it would take its slot for ever. */
export function withinSlots(runner: Runner, { slots, graceMs, clock }: { slots: number; graceMs: number; clock: Clock }): Runner {
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
  function enter(chatId: string, signal: AbortSignal): Promise<void> | undefined {
    if (waiting.length === 0 && chats.size < slots && !chats.has(chatId)) return void chats.add(chatId);
    return new Promise((resolve, reject) => {
      const entry = { chatId, enter: resolve };
      waiting.push(entry);
      signal.addEventListener("abort", () => {
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
    async run(job, context) {
      const { chatId } = job;
      const { signal } = context;
      await enter(chatId, signal);
      let taken = true;
      const leave = () => {
        if (!taken) return;
        taken = false;
        chats.delete(chatId);
        admit();
      };
      let grace: { cancel(): void } | null = null;
      if (signal.aborted) {
        leave();
        throw new Error("Stopped before it started.");
      }
      const giveUpLater = () => void (grace = clock.after(graceMs, leave));
      signal.addEventListener("abort", giveUpLater);
      try {
        return await runner.run(job, context);
      } finally {
        signal.removeEventListener("abort", giveUpLater);
        (grace as { cancel(): void } | null)?.cancel();
        leave();
      }
    },
  };
}
