/**
 * Deliberate breakages and what catches each: the promise that it breaks, an edit of one place in one file, and the run
 * that must turn red. `npm run mutate` plays them.
 */
const verbs = "migrations/0002_verbs.sql";
const shares = "migrations/0009_tenant_shares.sql";
const turn = "src/store/memory/turn.ts";

const vitest = (...args) => ["node", "node_modules/vitest/vitest.mjs", "run", "--no-color", ...args];
/** What may catch a breakage; a simulation stops at the first seed that shows it. */
export const runs = {
  simulation: ["node", "scripts/run-bundled.mjs", "test/sim/cli.ts", "--seed", "1", "--seeds", "150", "--chats", "40", "--jobs", "600", "--clients", "6"],
  "long simulation": ["node", "scripts/run-bundled.mjs", "test/sim/cli.ts", "--seed", "5001", "--seeds", "20", "--chats", "150", "--jobs", "2000", "--clients", "20"],
  "random programs, memory": vitest("test/store/model.test.ts", "-t", "on the memory store"),
  "random programs, PostgreSQL": vitest("test/store/model.test.ts", "-t", "on PostgreSQL"),
  contract: vitest("test/store/pglite.test.ts"),
  shares: vitest("test/store/shares.test.ts"),
  exploration: vitest("test/explore/explore.test.ts"),
  interleavings: vitest("test/store/interleavings.test.ts"),
  queue: vitest("test/queue.test.ts"),
  heartbeat: vitest("test/heartbeat.test.ts"),
  turns: vitest("test/turns.test.ts"),
  cancel: vitest("test/nodes/cancel.test.ts"),
  "same code": vitest("test/recall.test.ts"),
  "chat machine": vitest("test/machines/chat.test.ts"),
  "hand-made histories": vitest("test/history/verify.test.ts"),
};

export const mutations = [
  // SQL
  { name: "Drop the fence and the claim id from the guard of what was built", promise: "P5", file: verbs, find: " and j.fence = e.fence and j.claim_id = e.claim_id\n      and e.kind", replace: "\n      and e.kind", run: "random programs, PostgreSQL" },
  { name: "Complete although a cancel was requested", promise: "P4", file: verbs, find: " and e.kind = 'completed' and j.cancel_requested_at is null\n", replace: " and e.kind = 'completed'\n", run: "random programs, PostgreSQL" },
  { name: "Drop the fence and the claim id from the guard of any other end", promise: "P5", file: verbs, find: " and j.fence = f.fence and j.claim_id = f.claim_id", replace: "", run: "random programs, PostgreSQL" },
  { name: "Settle without any guard", promise: "P5", file: verbs, find: "and j.attempt = f.attempt and (j.status = 'running') is true and j.owner = f.owner and j.fence = f.fence and j.claim_id = f.claim_id", replace: "", run: "random programs, PostgreSQL" },
  { name: "Drop the lane's lock before attempts end", promise: "P2, P5", file: verbs, find: "(select e.chat_id from unnest(v_endings) e) order by l.chat_id for update;", replace: "(select e.chat_id from unnest(v_endings) e) order by l.chat_id;", run: "interleavings" },
  { name: "Claim without skip locked", promise: "P7", file: shares, find: "limit p_limit for update of l, j skip locked\n        ) ready", replace: "limit p_limit for update of l, j\n        ) ready", run: "interleavings" },
  { name: "Claim although the lease is over", promise: "P2", file: verbs, find: "where id = p_node and lease_until > v_at),", replace: "where id = p_node),", run: "random programs, PostgreSQL" },
  { name: "Write a lone job as running although its chat has jobs", promise: "P1, P2", file: verbs, find: "where l.state = 'idle' and l.paused_at is null", replace: "where l.paused_at is null", run: "contract" },
  { name: "Write a lone job as running although others wait longer", promise: "P8", file: verbs, find: "    and not exists (select 1 from chat_lanes where state = 'ready' and tenant = '' and turn_at >= coalesce(to_timestamp(p_line_from / 1000.0), '-infinity'))\n", replace: "", run: "contract" },
  { name: "Rescue a living node's lanes", promise: "P2", file: verbs, find: "and l.owner <> p_node and (n.id is null or n.lease_until <= v_at)", replace: "and l.owner <> p_node", run: "random programs, PostgreSQL" },
  { name: "Do not count the event of a start", promise: "P5", file: verbs, find: "ready_at = null, turn_at = null, event_tail = l.event_tail + 1\n      from started", replace: "ready_at = null, turn_at = null, event_tail = l.event_tail\n      from started", run: "random programs, PostgreSQL" },
  { name: "A retry loses its place", promise: "P1", file: verbs, find: "(n.id is null or (e.rank, e.place) < (n.rank, n.place))", replace: "n.id is null", run: "random programs, PostgreSQL" },
  { name: "Ignore the priority at acceptance", promise: "P1", file: verbs, find: "accepted_at - priority * buildlane_ms(p_aging_ms), message_id", replace: "accepted_at, message_id", run: "random programs, PostgreSQL" },
  { name: "Ignore a requested cancel when an attempt ends or is taken over", promise: "P4", file: verbs, find: "      case when j.cancel_requested_at is not null then 'failed'\n           when", replace: "      case when", run: "random programs, PostgreSQL" },
  { name: "Claim although the queue is paused", promise: "P1", file: verbs, find: "if v_is_paused or v_slots is null then", replace: "if v_slots is null then", run: "random programs, PostgreSQL" },
  { name: "Put a paused chat in line", promise: "P1", file: verbs, find: "state = case when h.id is null then 'idle' when l.paused_at is not null then 'paused' when h.run_at > p_at then 'delayed' else 'ready' end\n  from unnest(p_chats)", replace: "state = case when h.id is null then 'idle' when h.run_at > p_at then 'delayed' else 'ready' end\n  from unnest(p_chats)", run: "random programs, PostgreSQL" },
  { name: "A redriven job keeps its old place", promise: "P1", file: verbs, find: "place = v_lane.place_tail, rank = v_lane.accepted_at - priority * buildlane_ms(p_aging_ms),", replace: "place = place, rank = rank,", run: "contract" },
  { name: "A served lane keeps its turn", promise: "P8", file: verbs, find: "greatest(n.rank, n.run_at, e.completed_at)", replace: "greatest(n.rank, n.run_at)", run: "contract" },
  { name: "A lane whose attempt failed keeps its turn", promise: "P8", file: verbs, find: "greatest(n.head_rank, n.head_run_at, n.at)", replace: "greatest(n.head_rank, n.head_run_at)", run: "random programs, PostgreSQL" },
  { name: "A chat that goes on takes the turn that it had before its pause", promise: "P8", file: verbs, find: "l.settled_at, case when l.state = 'ready' or l.state = 'delayed' and l.ready_at <= p_at then least(l.turn_at, p_at) else p_at end) end,", replace: "l.settled_at) end,", run: "contract" },
  { name: "Tell a line's beginning that acceptances on their way may pass", promise: "P3", file: shares, find: "p_at - interval '2 seconds'", replace: "p_at", run: "contract" },
  { name: "Let a tenant that was idle catch up", promise: "P8", file: shares, find: "greatest(s.next_tag, v_queue.share_at) as tag", replace: "s.next_tag as tag", run: "contract" },
  // Memory store
  { name: "Drop fence and claim id (memory)", promise: "P5", file: turn, find: " && job.held.fence === fence && job.held.claimId === claimId", replace: "", run: "random programs, PostgreSQL" },
  { name: "Accept a second settle (memory)", promise: "P5", file: turn, find: "const holds = job?.status === \"running\" && job.chatId === chatId && job.attempt === attempt && job.held?.nodeId === nodeId && job.held.fence === fence && job.held.claimId === claimId;", replace: "const holds = job !== undefined && job.attempt === attempt;", run: "exploration" },
  { name: "A lane in line moves forward when its head is cancelled (memory)", promise: "P8", file: "src/store/memory/tables.ts", find: "wasInLine ? Math.min(lane.turnAt, at) : at);", replace: "wasInLine ? Number.NEGATIVE_INFINITY : at);", run: "long simulation" },
  { name: "Rescue a living node's lanes (memory)", promise: "P2", file: turn, find: "owner !== nodeId && (tables.nodes.get(owner)?.leaseUntil ?? Number.NEGATIVE_INFINITY) <= at", replace: "owner !== nodeId", run: "simulation" },
  { name: "A retry goes to the tail (memory)", promise: "P1", file: turn, find: "    job.runAt = at + (end.kind === \"retrying\" ? end.delayMs : 0);\n", replace: "    job.runAt = at + (end.kind === \"retrying\" ? end.delayMs : 0);\n    job.rank = at;\n    job.place = ++lane.placeTail;\n", run: "exploration" },
  { name: "A served lane keeps its turn (memory)", promise: "P8", file: "src/store/memory/tables.ts", find: "Math.max(head.rank, head.runAt, lane.settledAt ?? Number.NEGATIVE_INFINITY, wasInLine ? Math.min(lane.turnAt, at) : at)", replace: "Math.max(head.rank, head.runAt)", run: "simulation" },
  { name: "Let a tenant that was idle catch up (memory)", promise: "P8", file: "src/store/memory/next-lanes.ts", find: "Math.max(shares.next.get(tenant)?.tag ?? 0, shares.at)", replace: "(shares.next.get(tenant)?.tag ?? 0)", run: "shares" },
  { name: "Lose a submission that is asked again: accept it twice (memory)", promise: "P3", file: "src/store/memory/accept.ts", find: "  if (kept) return", replace: "  if (kept && jobs.length > 1000) return", run: "simulation" },
  { name: "Give an event no number of its own (memory)", promise: "P5", file: "src/store/memory/tables.ts", find: "number: ++lane.eventTail", replace: "number: type === \"job.released\" ? lane.eventTail : ++lane.eventTail", run: "exploration" },
  { name: "Leave what a clean stop still holds to be rescued (memory)", promise: "P11", file: turn, find: "  endAttempts(tables, inHand([...(tables.owned.get(nodeId) ?? [])], { kind: \"released\" }), at);\n", replace: "", run: "simulation" },
  { name: "Count a lane that a leaving node could not give back as the loss of a node", promise: "P11", file: verbs, find: "case when n.left_at is not null or n.draining then 'released' else 'rescued' end", replace: "'rescued'", run: "interleavings" },
  // Node, heartbeat, machines
  { name: "A drain keeps a claim that waits behind a running head", promise: "P11", file: "machines/chat.machine.ts", find: "actions: [{ type: \"returnNext\", params: ({ context }) => ({ claim: context.next?.claim }) }, \"dropNext\"],", replace: "actions: [],", run: "chat machine" },
  { name: "Budget off by one", promise: "P6", file: "src/node.ts", find: "snapshot.context.slots - Object.keys(snapshot.context.held).length", replace: "snapshot.context.slots + 1 - Object.keys(snapshot.context.held).length", run: "simulation" },
  { name: "A lane that took no slot frees one", promise: "P6", file: "src/turns.ts", find: "const freed = ended.filter(takesSlot).length;", replace: "const freed = ended.length;", run: "simulation" },
  { name: "Keep the next claim when the lease is lost", promise: "P2, P6", file: "machines/chat.machine.ts", find: "actions: [\"loseHead\", \"dropNext\"]", replace: "actions: [\"loseHead\"]", run: "chat machine" },
  { name: "Give back a claim whose answer is still on its way", promise: "P2", file: "src/heartbeat.ts", find: "if (since === undefined || !turns.isOver(since)) continue;", replace: "if (since === undefined) continue;", run: "heartbeat" },
  { name: "Believe an answer from before the loss of the lease", promise: "P2", file: "src/turns.ts", find: "const ours = losses === leaseLosses() ? answer.claims : [];", replace: "const ours = answer.claims;", run: "turns" },
  { name: "Tell nobody by the pulse of a cancel", promise: "P4", file: verbs, find: "'cancelRequested', j.cancel_requested_at is not null", replace: "'cancelRequested', false", run: "cancel" },
  { name: "Build the same code twice at once", promise: "P5", file: "migrations/0007_same_code.sql", find: "and asker.id = a.job and asker.status = 'running'", replace: "and false", run: "same code" },
  { name: "End the lease here later than elsewhere", promise: "P2", file: "src/heartbeat.ts", find: "const leaseMargin = 0.05;", replace: "const leaseMargin = -0.5;", run: "simulation" },
  { name: "Go on building when the lease is lost", promise: "P2", file: "machines/supervisor.machine.ts", find: "enqueue.sendTo(chatId, { type: \"chat.leaseLost\" });\n      enqueue.assign({ held: {} });", replace: "enqueue.assign({ held: {} });", run: "simulation" },
  { name: "Free a slot while its build still runs", promise: "P2, P6", file: "src/slots.ts", find: "stop.onAbort(() => void (grace = clock.after(graceMs, leave)));", replace: "stop.onAbort(leave);", run: "simulation" },
  { name: "Lose the hints and the poll", promise: "P3", file: "src/heartbeat.ts", find: "if (answer.readyLanes > 0) tell({ type: \"lanes.ready\" });", replace: "", run: "simulation", also: { file: "src/node.ts", find: "if (hint.kind === \"ready\") tell({ type: \"lanes.ready\" });", replace: "" } },
  { name: "Never aim at the end of a foreign lease", promise: "P11", file: "src/heartbeat.ts", find: "() => void rescue()", replace: "() => undefined", run: "simulation" },
  { name: "Do not tell the holder of a cancel", promise: "P4", file: "machines/chat.machine.ts", find: "cancelHead: sendTo(\"head\", { type: \"job.cancelRequested\" }),", replace: "cancelHead: () => {},", run: "queue" },
  { name: "Try again without end", promise: "P5", file: "machines/job.machine.ts", find: "context.claim.spent + 1 >= context.claim.job.maxAttempts", replace: "context.claim.spent > context.claim.job.maxAttempts", run: "simulation" },
  // The checkers
  { name: "Judge no overtaking", promise: "P1", file: "src/history/order.ts", find: "const sure = first.place < own.place && priority >= own.priority;", replace: "const sure = false;", run: "hand-made histories" },
  { name: "Judge no wait", promise: "P8", file: "src/history/sweep.ts", find: "other.from > from + slackMs &&", replace: "false &&", run: "hand-made histories" },
];
