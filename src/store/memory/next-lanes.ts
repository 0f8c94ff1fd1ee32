/** Whose turn it is, between the lanes of all chats: the same as migrations/0015_tenant_shares.sql, where it is told. */
import { lineUpDue } from "./tables.js";
import type { Lane, Tables } from "./tables.js";

/** How far a start moves a tenant of weight 1; divided by the weight, rounded down. */
const strideMax = 1_000_000;

/** An acceptance may commit so much later than its time without coming into line before `lineFrom`. */
const slackMs = 2000;
/** Of more tenants it is not told where the lines begin. */
const tenantsMax = 100;

/** Where a tenant's line begins, or what of it has this turn or a later one, and where the next one's begins. */
const lineOf = ({ ready }: Tables, tenant: string, turnAt = Number.NEGATIVE_INFINITY): { from: number; to: number } => ({
  from: ready.rankOf({ tenant, turnAt, chatId: "" }),
  to: ready.rankOf({ tenant, turnAt: Number.POSITIVE_INFINITY, chatId: "" }),
});

/** Lanes of the same tenant that stand before this one. */
export const lanesBefore = (tables: Tables, lane: Lane): number => tables.ready.rankOf(lane) - lineOf(tables, lane.tenant).from;

function waitingTenants(tables: Tables): string[] {
  const waiting: string[] = [];
  for (let lane = tables.ready.first; lane; lane = tables.ready.at(lineOf(tables, lane.tenant).to)) waiting.push(lane.tenant);
  return waiting;
}

/** No ready lane's turn is earlier, nor one's that comes into line later. */
export function lineFrom(tables: Tables, at: number): number | null {
  const waiting = waitingTenants(tables);
  if (waiting.length > tenantsMax) return null;
  return Math.floor(Math.min(at - slackMs, ...waiting.map((tenant) => tables.ready.at(lineOf(tables, tenant).from)?.turnAt ?? at)));
}

/** The next lanes that may start, at most `limit`, none with an earlier turn than `lineFrom`. */
export function nextLanes(tables: Tables, limit: number, at: number, from?: number): Lane[] {
  lineUpDue(tables, at);
  const waiting = waitingTenants(tables);
  const alone = waiting.length <= 1 && [...tables.shares.next.keys()].every((tenant) => tenant === waiting[0]);
  if (!alone) return share(tables, waiting, limit, at, from);
  return untaken(tables, lineOf(tables, waiting[0] ?? "", from), limit, at);
}

/** The first of a line that no node has in hand. */
function untaken({ ready }: Tables, { from, to }: { from: number; to: number }, limit: number, at: number): Lane[] {
  const lanes: Lane[] = [];
  for (let index = from; index < to && lanes.length < limit; index++) {
    const lane = ready.at(index) as Lane;
    if (lane.taken === null || lane.taken.until <= at) lanes.push(lane);
  }
  return lanes;
}

/** Between tenants. */
function share(tables: Tables, waiting: string[], limit: number, at: number, lineFrom: number | undefined): Lane[] {
  const { shares } = tables;
  for (const tenant of waiting) if (!shares.next.has(tenant)) shares.next.set(tenant, { tag: shares.at, servedAt: at });
  const tagged = waiting.flatMap((tenant) => {
    const tag = Math.max(shares.next.get(tenant)?.tag ?? 0, shares.at);
    const stride = Math.floor(strideMax / (shares.weights.get(tenant) ?? 1));
    return untaken(tables, lineOf(tables, tenant, lineFrom), limit, at).map((lane, nth) => ({ lane, tag: tag + nth * stride, next: tag + (nth + 1) * stride }));
  });
  const picked = tagged.sort((a, b) => a.tag - b.tag || a.lane.turnAt - b.lane.turnAt || (a.lane.chatId < b.lane.chatId ? -1 : 1)).slice(0, limit);
  for (const { lane, tag, next } of picked) {
    shares.next.set(lane.tenant, { tag: next, servedAt: at });
    shares.at = Math.max(shares.at, tag);
  }
  return picked.map(({ lane }) => lane);
}
