/**
 * The last word on P2 and P6 inside one process: a run that was told to stop may take a moment to be gone, and until
 * then its slot is taken and its chat has a build, whatever the ledger says (a lost lease empties that at once).
 */
import type { Clock } from "./clock.js";
import type { Outcome, RunnableJob, Runner } from "./job.js";
import { RunContext } from "./stop-signal.js";
import type { StopSignal } from "./stop-signal.js";

/** A runner behind the slots: it is told to stop by a StopSignal. */
export interface SlottedRunner {
  start(): Promise<void>;
  /** `isOnRecord`: the store has it as running already, so a slot is its own. `began` is told when it has entered, before it runs: it may be stopped then; `left` before anybody else enters in its place; `restartLimit` when its time limit begins anew. */
  run(job: RunnableJob, context: { stop: StopSignal; attempt: number; isOnRecord: boolean; began(): void; left(): void; restartLimit(): void }): Promise<Outcome>;
  stop(): Promise<void>;
  /** A lane was claimed for a slot, whose run comes as soon as its actor is ready for it; or comes no more. */
  expect(chatId: string): void;
  expectNoMore(chatId: string): void;
  /** Slots may be free that were promised. */
  admit(): void;
}

interface Needs {
  slots: number;
  /** A run that ignores its signal for so long is given up on, or it would take its slot for ever. */
  graceMs: number;
  /** Slots for which lanes are being claimed. */
  promised(): number;
  clock: Clock;
}

export function withinSlots(runner: Runner, { slots, graceMs, promised, clock }: Needs): SlottedRunner {
  const chats = new Set<string>();
  const expected = new Set<string>();
  /** First come, first served, but for those whose chat is still taken. */
  const waiting: { chatId: string; isOnRecord: boolean; enter(): void }[] = [];

  function admit(): void {
    // Slots of those that wait and are on record, or will be by a claim under way, are theirs: whoever is ahead of its record would be one too many there.
    let own = promised() + expected.size;
    for (const { isOnRecord } of waiting) if (isOnRecord) own++;
    for (let index = 0; chats.size < slots && index < waiting.length; ) {
      const { chatId, isOnRecord, enter } = waiting[index] as (typeof waiting)[number];
      if (chats.has(chatId) || (!isOnRecord && chats.size + own >= slots)) index++;
      else {
        waiting.splice(index, 1);
        chats.add(chatId);
        if (isOnRecord) own--;
        enter();
      }
    }
  }
  function enter(chatId: string, isOnRecord: boolean, stop: StopSignal): Promise<void> | undefined {
    if (isOnRecord) expected.delete(chatId);
    if (isOnRecord && waiting.length === 0 && chats.size < slots && !chats.has(chatId)) return void chats.add(chatId);
    return new Promise((resolve, reject) => {
      const entry = { chatId, isOnRecord, enter: resolve };
      waiting.push(entry);
      stop.onAbort(() => {
        const index = waiting.indexOf(entry);
        if (index < 0) return;
        waiting.splice(index, 1);
        reject(new Error("Stopped before its slot was free."));
      });
      // Those on record that come in this very step, after it, go before it.
      if (isOnRecord) admit();
      else queueMicrotask(admit);
    });
  }

  return {
    start: () => runner.start(),
    stop: () => runner.stop(),
    expect: (chatId) => void expected.add(chatId),
    expectNoMore: (chatId) => void (expected.delete(chatId) && admit()),
    admit,
    async run(job, { stop, attempt, isOnRecord, began, left, restartLimit }) {
      const { chatId } = job;
      // Here and now, and nothing runs before whoever asks is at rest.
      await enter(chatId, isOnRecord, stop);
      let taken = true;
      const leave = () => {
        if (!taken) return;
        taken = false;
        left();
        chats.delete(chatId);
        admit();
      };
      if (!stop.aborted) began();
      if (stop.aborted) {
        leave();
        throw new Error("Stopped before it started.");
      }
      let grace: { cancel(): void } | null = null;
      stop.onAbort(() => void (grace = clock.after(graceMs, leave)));
      try {
        return await runner.run(job, new RunContext(attempt, stop, restartLimit));
      } finally {
        stop.onAbort(null);
        (grace as { cancel(): void } | null)?.cancel();
        leave();
      }
    },
  };
}
