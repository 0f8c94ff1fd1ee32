/** A deep copy of the memory store's tables, so that one state can be left in several ways. */
import { createLane, createTables } from "../../src/store/memory/tables.js";
import type { JobRow, Lane, Tables } from "../../src/store/memory/tables.js";

const known = ["jobs", "byAge", "finished", "deadLetters", "lanes", "chatEvents", "ready", "delayed", "paused", "owned", "nodes", "keys", "crashes", "totals", "queuePausedAt", "clusterCap", "capBinds", "hands", "known", "shares"];

export function copyTables(from: Tables): Tables {
  const unknown = Object.keys(from).filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`copyTables does not know ${unknown.join(", ")}`);
  // Nothing in the small world carries the stamp with which outcomes are taken over.
  if (from.known.size > 0) throw new Error("copyTables does not copy known outcomes");
  const to = createTables();
  const jobs = new Map<JobRow, JobRow>();
  const lanes = new Map<Lane, Lane>();
  const job = (row: JobRow): JobRow => jobs.get(row) as JobRow;
  const lane = (row: Lane): Lane => lanes.get(row) as Lane;
  for (const [id, row] of from.jobs) {
    const twin: JobRow = { ...row, held: row.held && { ...row.held }, events: [...row.events] };
    jobs.set(row, twin);
    to.jobs.set(id, twin);
  }
  for (const [id, row] of from.lanes) {
    const { pending, finished } = createLane(id, 0);
    const twin: Lane = { ...row, pending, finished, running: row.running && job(row.running), events: [...row.events] };
    for (const one of row.pending) pending.add(job(one));
    for (const one of row.finished) finished.add(job(one));
    lanes.set(row, twin);
    to.lanes.set(id, twin);
  }
  for (const one of from.chatEvents) to.chatEvents.add(one);
  for (const one of from.byAge) to.byAge.add(job(one as JobRow));
  for (const one of from.finished) to.finished.add(job(one));
  for (const one of from.deadLetters) to.deadLetters.add(job(one));
  for (const one of from.ready) to.ready.add(lane(one));
  for (const one of from.delayed) to.delayed.add(lane(one));
  for (const one of from.paused) to.paused.add(lane(one));
  for (const [id, owned] of from.owned) to.owned.set(id, new Set([...owned].map(lane)));
  for (const [id, node] of from.nodes) to.nodes.set(id, { ...node });
  for (const [key, kept] of from.keys) to.keys.set(key, kept);
  for (const [hash, crashes] of from.crashes) to.crashes.set(hash, { ...crashes });
  to.hands = { until: from.hands.until, slots: new Map(from.hands.slots) };
  Object.assign(to.totals, from.totals);
  to.queuePausedAt = from.queuePausedAt;
  to.clusterCap = from.clusterCap;
  to.capBinds = from.capBinds;
  for (const [tenant, tag] of from.shares.next) to.shares.next.set(tenant, tag);
  for (const [tenant, weight] of from.shares.weights) to.shares.weights.set(tenant, weight);
  to.shares.at = from.shares.at;
  return to;
}
