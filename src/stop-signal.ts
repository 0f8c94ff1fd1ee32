/**
 * How an attempt is told to stop. The AbortSignal that runners see is made only when one asks for it: with its event
 * target it costs more than the rest of a small attempt, and most attempts are never stopped.
 */
export interface StopSignal {
  readonly aborted: boolean;
  readonly signal: AbortSignal;
  /** Calls back once when it aborts; not when it has already. The last callback given counts. */
  onAbort(callback: (() => void) | null): void;
  abort(): void;
}

export function stopSignal(): StopSignal {
  let aborted = false;
  let controller: AbortController | null = null;
  let callback: (() => void) | null = null;
  return {
    get aborted() {
      return aborted;
    },
    get signal() {
      if (controller) return controller.signal;
      controller = new AbortController();
      if (aborted) controller.abort();
      return controller.signal;
    },
    onAbort(given) {
      callback = given;
    },
    abort() {
      if (aborted) return;
      aborted = true;
      callback?.();
      controller?.abort();
    },
  };
}
