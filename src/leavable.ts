/**
 * Items without an end of their own. They end when the signal aborts, or as soon as their reader calls `return()`, also while
 * it waits for the next one: a generator by itself would hear of that only with the next item.
 */
export function leavable<T>(read: (signal: AbortSignal) => AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
  const ends = new AbortController();
  const pass = (): void => ends.abort(signal?.reason);
  let isLeft = false;
  async function* reading(): AsyncGenerator<T, void, undefined> {
    if (signal?.aborted) pass();
    signal?.addEventListener("abort", pass, { once: true });
    try {
      yield* read(ends.signal);
    } catch (error) {
      if (!isLeft) throw error;
    } finally {
      signal?.removeEventListener("abort", pass);
    }
  }
  const items = reading();
  const leave = items.return.bind(items);
  items.return = (value) => {
    isLeft = true;
    ends.abort();
    return leave(value);
  };
  return items;
}
