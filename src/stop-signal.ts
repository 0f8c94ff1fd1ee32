/**
 * How an attempt is told to stop. The AbortSignal that runners see is made only when one asks for it: with its event
 * target it costs more than the rest of a small attempt, and most attempts are never stopped.
 *
 * Classes, for their getters: V8 puts a getter of an object literal straight among the old objects, each time one is made,
 * and all that it reaches outlives every collection but the full ones (bench/README.md). Of an attempt that is nearly all.
 */
export class StopSignal {
  #aborted = false;
  #controller: AbortController | null = null;
  #callback: (() => void) | null = null;

  get aborted(): boolean {
    return this.#aborted;
  }
  get signal(): AbortSignal {
    if (this.#controller) return this.#controller.signal;
    this.#controller = new AbortController();
    if (this.#aborted) this.#controller.abort();
    return this.#controller.signal;
  }
  /** Calls back once when it aborts; not when it has already. The last callback given counts. */
  onAbort(callback: (() => void) | null): void {
    this.#callback = callback;
  }
  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#callback?.();
    this.#controller?.abort();
  }
}

/** What a run is told beside its job. Its signal is its own property, so that a copy (`{ ...context }`) has it too. */
export class RunContext {
  readonly attempt: number;
  declare readonly signal: AbortSignal;
  readonly #stop: StopSignal;
  readonly #restartLimit: () => void;

  constructor(attempt: number, stop: StopSignal, restartLimit: () => void) {
    this.attempt = attempt;
    this.#stop = stop;
    this.#restartLimit = restartLimit;
    Object.defineProperty(this, "signal", RunContext.#onDemand);
  }

  restartLimit(): void {
    this.#restartLimit();
  }

  static readonly #onDemand: PropertyDescriptor & ThisType<RunContext> = {
    enumerable: true,
    get() {
      return this.#stop.signal;
    },
  };
}
