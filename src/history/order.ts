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
}

export interface Order {
  /** At the tail, as at acceptance and redrive. */
  join(id: string, priority: number, acceptedAtMs: number): void;
  /** Started or ended: stands no longer in line. */
  leave(id: string): void;
  /** Pending again, at the place that it had. */
  comeBack(id: string): void;
  readonly agingMs: number | undefined;
  readonly standings: ReadonlyMap<string, Standing>;
  /** Per priority those in line, by place. Inside a priority that is the order of ranks too. */
  readonly lines: ReadonlyMap<number, readonly Standing[]>;
}

export function createOrder(agingMs: number | undefined): Order {
  const standings = new Map<string, Standing>();
  const lines = new Map<number, Standing[]>();
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
    const line = lines.get(standing.priority) ?? [];
    lines.set(standing.priority, line);
    const index = indexIn(line, standing);
    if (line[index] !== standing) line.splice(index, 0, standing);
  }
  function leave(id: string): void {
    const standing = standings.get(id);
    const line = standing && lines.get(standing.priority);
    if (!standing || !line) return;
    const index = indexIn(line, standing);
    if (line[index] === standing) line.splice(index, 1);
  }

  return {
    agingMs, standings, lines, leave,
    join(id, priority, acceptedAtMs) {
      leave(id);
      const standing = { id, priority, acceptedAtMs, place: ++places };
      standings.set(id, standing);
      enter(standing);
    },
    comeBack(id) {
      const standing = standings.get(id);
      if (standing) enter(standing);
    },
  };
}

/** A job in line that surely stands before this one; null when there is none. */
export function beforeIn({ lines, standings, agingMs }: Order, id: string): string | null {
  const own = standings.get(id);
  if (!own) return null;
  for (const [priority, [first]] of lines) {
    if (!first || first.id === id) continue;
    const sure = first.place < own.place && priority >= own.priority;
    const ranked = agingMs !== undefined && priority !== own.priority && rank(first, agingMs) + 1 <= rank(own, agingMs);
    if (sure || ranked) return first.id;
  }
  return null;
}

const rank = ({ acceptedAtMs, priority }: Standing, agingMs: number): number => acceptedAtMs - priority * agingMs;
