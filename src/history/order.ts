/**
 * Who stands before whom among a chat's pending jobs, told from events: rank = time of acceptance − priority × aging,
 * then place. An event's time has milliseconds where a database ranks by microseconds, so what lies within one
 * millisecond is not judged; and without knowing the aging, only what no aging could change.
 */

interface Standing {
  id: string;
  priority: number;
  place: number;
  acceptedAtMs: number;
  /** It yielded while it backed off until then, and stands where one accepted then would; its priority counts only if that is later still. */
  yieldedMs: number | null;
}

export interface Order {
  /** At the tail, as at acceptance and redrive. */
  join(id: string, priority: number, acceptedAtMs: number): void;
  /** Started or ended: stands no longer in line. */
  leave(id: string): void;
  /** Pending again, at the place that it had. */
  comeBack(id: string): void;
  /** Pending again, and passed by all that stand before a job accepted at `runAtMs`. */
  yieldUntil(id: string, runAtMs: number): void;
  readonly agingMs: number | undefined;
  readonly standings: ReadonlyMap<string, Standing>;
  /** Per priority those in line, by place. Inside a priority that is the order of ranks too. */
  readonly lines: ReadonlyMap<number, readonly Standing[]>;
  /** Those in line that yielded: in no line of their priority, since their ranks are not in the order of places. */
  readonly yielded: ReadonlyMap<string, Standing>;
}

export function createOrder(agingMs: number | undefined): Order {
  const standings = new Map<string, Standing>();
  const lines = new Map<number, Standing[]>();
  const yielded = new Map<string, Standing>();
  let places = 0;

  /** Where a standing is in its line, or would be. */
  function indexIn(line: Standing[], { place }: Standing): number {
    const last = line.at(-1);
    if (!last || last.place < place) return line.length;
    let from = 0;
    let to = line.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((line[middle] as Standing).place < place) from = middle + 1;
      else to = middle;
    }
    return from;
  }
  function enter(standing: Standing): void {
    if (standing.yieldedMs !== null) return void yielded.set(standing.id, standing);
    const line = lines.get(standing.priority) ?? [];
    lines.set(standing.priority, line);
    const index = indexIn(line, standing);
    if (line[index] !== standing) line.splice(index, 0, standing);
  }
  function leave(id: string): void {
    const standing = standings.get(id);
    yielded.delete(id);
    const line = standing && lines.get(standing.priority);
    if (!standing || !line) return;
    const index = indexIn(line, standing);
    if (line[index] === standing) line.splice(index, 1);
  }

  return {
    agingMs, standings, lines, yielded, leave,
    join(id, priority, acceptedAtMs) {
      leave(id);
      const standing = { id, priority, acceptedAtMs, place: ++places, yieldedMs: null };
      standings.set(id, standing);
      enter(standing);
    },
    comeBack(id) {
      const standing = standings.get(id);
      if (standing) enter(standing);
    },
    yieldUntil(id, runAtMs) {
      const standing = standings.get(id);
      if (!standing) return;
      standing.yieldedMs = Math.max(standing.yieldedMs ?? Number.NEGATIVE_INFINITY, runAtMs);
      enter(standing);
    },
  };
}

/** A job in line that surely stands before this one; null when there is none. */
export function beforeIn({ lines, standings, yielded, agingMs }: Order, id: string): string | null {
  const own = standings.get(id);
  if (!own) return null;
  for (const other of yielded.values()) if (other.id !== id && surelyBefore(other, own, agingMs)) return other.id;
  if (own.yieldedMs !== null) {
    for (const [first] of lines.values()) if (first && surelyBefore(first, own, agingMs)) return first.id;
    return null;
  }
  for (const [priority, [first]] of lines) {
    if (!first || first.id === id) continue;
    const sure = first.place < own.place && priority >= own.priority;
    const ranked = agingMs !== undefined && priority !== own.priority && rank(first, agingMs) + 1 <= rank(own, agingMs);
    if (sure || ranked) return first.id;
  }
  return null;
}

const rank = ({ acceptedAtMs, priority, yieldedMs }: Standing, agingMs: number): number => Math.max(yieldedMs ?? Number.NEGATIVE_INFINITY, acceptedAtMs - priority * agingMs);

/** By rank alone, where one of the two yielded. Without priorities the aging does not matter. */
function surelyBefore(one: Standing, other: Standing, agingMs: number | undefined): boolean {
  const plain = one.priority === 0 && other.priority === 0;
  return (plain || agingMs !== undefined) && rank(one, agingMs ?? 0) + 1 < rank(other, agingMs ?? 0);
}
