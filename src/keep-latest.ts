/** Lets go of what came first where more than `max` are kept; whoever uses one again takes it out and puts it in anew. */
export function keepLatest<K>(kept: { readonly size: number; keys(): Iterator<K>; delete(key: K): boolean }, max: number): void {
  if (kept.size > max) kept.delete(kept.keys().next().value as K);
}
