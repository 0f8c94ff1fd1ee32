-- Nodes: their leases, and what becomes of the lanes of those that are gone (the rules of 0002_verbs.sql).

-- rescue: the lanes of nodes whose lease is over go back in line. One that had left, or had said that it drains, is not lost:
-- its last words did not arrive, because somebody held a lane or the database was away.
create function buildlane_rescue(p_node text, p_limit integer, p_losses_max integer, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_chats text[];
  v_endings buildlane_ending[];
  v_end record;
begin
  select array_agg(chat_id) into v_chats from (
    select l.chat_id from chat_lanes l left join build_nodes n on n.id = l.owner
    where l.owner is not null and l.owner <> p_node and (n.id is null or n.lease_until <= v_at)
    order by l.chat_id limit p_limit for update of l skip locked
  ) lost;
  if v_chats is null then
    return '[]'::json;
  end if;
  select array_agg(row (0, j.id, j.chat_id, j.attempt, j.owner, j.fence, j.claim_id, case when n.left_at is not null or n.draining then 'released' else 'rescued' end, null, null, null, null, null, null, 0, false, null, null, null, null, null)::buildlane_ending)
  into v_endings from build_jobs j left join build_nodes n on n.id = j.owner where j.chat_id = any (v_chats) and j.status = 'running';
  select * into v_end from buildlane_end(p_node, v_endings, p_losses_max, buildlane_now(p_now));
  perform buildlane_yield_permits(e.owner) from (select distinct owner from unnest(v_endings)) e;
  perform buildlane_count(p_node, 'rescue', v_end.pending, 0, v_end.failed);
  return v_end.answer;
end $$;

-- leave: a node's clean stop. Its lanes go back in line, at the cost of no attempt, and its lease ends. A lane that
-- somebody holds, or that a turn which had seen the lease claims only after this, is found by rescue, which sees that its node had left.
create function buildlane_leave(p_node text, p_now double precision default null) returns bigint language plpgsql as $$
declare
  v_chats text[];
  v_endings buildlane_ending[];
  v_end record;
begin
  update build_nodes set lease_until = least(lease_until, buildlane_now(p_now)), left_at = buildlane_now(p_now) where id = p_node;
  select array_agg(chat_id) into v_chats from (select chat_id from chat_lanes where owner = p_node order by chat_id for update skip locked) own;
  select array_agg(row (0, j.id, j.chat_id, j.attempt, j.owner, j.fence, j.claim_id, 'released', null, null, null, null, null, null, 0, false, null, null, null, null, null)::buildlane_ending)
  into v_endings from build_jobs j where j.chat_id = any (v_chats) and j.status = 'running';
  if v_endings is null then
    return 0;
  end if;
  select * into v_end from buildlane_end(p_node, v_endings, 1, buildlane_now(p_now));
  perform buildlane_yield_permits(p_node);
  perform buildlane_count(p_node, 'leave', v_end.pending, 0, v_end.failed);
  return cardinality(v_endings);
end $$;

-- pulse: one statement that renews a node's lease and tells it what it must know.
create function buildlane_pulse(p_node text, p_lease_ms double precision, p_slots integer, p_draining boolean, p_cluster_cap integer, p_now double precision default null) returns json language plpgsql
set plan_cache_mode = force_generic_plan as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_from timestamptz;
  v_is_new boolean := not exists (select 1 from build_nodes where id = p_node and lease_until > v_at);
  v_joins boolean := v_is_new or exists (select 1 from build_nodes where id = p_node and (slots <> p_slots or cluster_cap is distinct from p_cluster_cap));
begin
  insert into build_nodes as n (id, slots, draining, cluster_cap, started_at, lease_ms, lease_until)
  values (p_node, p_slots, p_draining, p_cluster_cap, v_at, p_lease_ms, v_at + buildlane_ms(p_lease_ms))
  on conflict (id) do update set slots = excluded.slots, draining = excluded.draining, cluster_cap = excluded.cluster_cap, lease_ms = excluded.lease_ms, lease_until = excluded.lease_until, left_at = null;
  perform buildlane_set_cap(p_node, v_joins, v_is_new, p_now);
  v_from := buildlane_line_from(v_at);
  return json_build_object(
    'held', (select coalesce(json_agg(json_build_object('chatId', l.chat_id, 'jobId', j.id, 'attempt', j.attempt, 'fence', l.fence, 'claimId', l.claim_id, 'cancelRequested', j.cancel_requested_at is not null)), '[]'::json)
             -- A job for each lane, not the lanes among all that ever ran: before statistics say otherwise, both look alike.
             from chat_lanes l cross join lateral (select id, attempt, cancel_requested_at from build_jobs where chat_id = l.chat_id and status = 'running' limit 1) j
             where l.owner = p_node),
    'queuePaused', (select paused_at is not null from queue_state),
    'nextReadyInMs', (select extract(epoch from min(ready_at) - v_at) * 1000 from chat_lanes where state = 'delayed' and ready_at > v_at),
    'readyLanes', (select count(*) from (select 1 from chat_lanes where state = 'ready' and turn_at >= v_from union all select 1 from chat_lanes where state = 'delayed' and ready_at <= v_at limit 1000) some_ready),
    'nextLeaseEndInMs', (select min(extract(epoch from coalesce(n.lease_until, v_at) - v_at) * 1000)
                         from (select distinct owner from chat_lanes where owner is not null and owner <> p_node) o left join build_nodes n on n.id = o.owner),
    'pending', (select coalesce(sum(pending), 0) from build_counters),
    'lineFrom', case when isfinite(v_from) then floor(extract(epoch from v_from) * 1000) end);
end $$;
