/** A list that is always in order, for keys that mostly grow: adding at the end and finding are cheap. */

export class Sorted<T extends K, K = T> {
  readonly #items: T[] = [];
  readonly #compare: (a: K, b: K) => number;

  /** `compare` must tell any two items apart. */
  constructor(compare: (a: K, b: K) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#items.length;
  }
  get first(): T | undefined {
    return this.#items[0];
  }
  at(index: number): T | undefined {
    return this.#items[index];
  }

  /** How many items stand before `key`. */
  rankOf(key: K): number {
    const last = this.#items.at(-1);
    if (last === undefined || this.#compare(last, key) < 0) return this.#items.length;
    let from = 0;
    let to = this.#items.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#compare(this.#items[middle] as T, key) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  add(item: T): void {
    const index = this.rankOf(item);
    if (index === this.#items.length) this.#items.push(item);
    else this.#items.splice(index, 0, item);
  }

  /** Before anything that `compare` looks at changes. Harmless when the item is not there. */
  remove(item: T): void {
    const index = this.rankOf(item);
    if (this.#items[index] !== item) return;
    if (index === 0) this.#items.shift();
    else this.#items.splice(index, 1);
  }

  slice(from: number, to?: number): T[] {
    return this.#items.slice(from, to);
  }
  [Symbol.iterator](): Iterator<T> {
    return this.#items.values();
  }
}
