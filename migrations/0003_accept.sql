-- Jobs on their way in (the rules of 0002_verbs.sql).

-- A lone job, without priority or delay, that need not wait: its lane is idle, nobody is in line, and its node has a free slot
-- (p_claim_id) that nothing keeps from being taken. It is written once, as what a turn would have made of it in the same step:
-- half the work of both. Null, with nothing written: it takes the long way. Called by accept, under its settings.
create function buildlane_accept_running(
  p_node text, p_jobs json, p_queue_max bigint, p_claim_id text, p_at timestamptz, p_line_from double precision
) returns json language plpgsql as $$
declare
  v_cap_lock text := buildlane_keep_cap();
  v_slots integer;
  v_answer json;
begin
  select n.slots into v_slots from queue_state q cross join build_nodes n
  where q.paused_at is null and not q.cap_binds and n.id = p_node and n.lease_until > p_at
    and not exists (select 1 from chat_lanes where state = 'ready' and tenant = '' and turn_at >= coalesce(to_timestamp(p_line_from / 1000.0), '-infinity'))
    and not exists (select 1 from chat_lanes where state = 'ready' and tenant > '')
    and not exists (select 1 from chat_lanes where state = 'delayed' and ready_at <= p_at)
    and not exists (select 1 from tenant_shares)
    and not exists (select 1 from code_crashes where quarantined_at is not null)
    and (select coalesce(sum(pending), 0) < p_queue_max from build_counters);
  if v_slots is null then
    return null;
  end if;

  with asked as (
    select id, chat_id, buildlane_tenant(chat_id) as tenant, message_id, code, files, entry, coalesce(options, '{}') as options, code_hash, max_attempts, timeout_ms, traceparent
    from json_to_recordset(p_jobs) as x (
      id text, chat_id text, message_id text, code text, files jsonb, entry text, options jsonb, code_hash text, max_attempts integer, timeout_ms integer, traceparent text)
  ), lane as (
    insert into chat_lanes as l (chat_id, tenant, tail, place_tail, event_tail, accepted_at, state, owner, fence, claim_id)
    select chat_id, tenant, 1, 1, 2, p_at, 'running', p_node, 1, p_claim_id from asked
    on conflict (chat_id) do update set
      tail = l.tail + 1, place_tail = l.place_tail + 1, event_tail = l.event_tail + 2, accepted_at = greatest(l.accepted_at, p_at),
      state = 'running', owner = excluded.owner, fence = l.fence + 1, claim_id = excluded.claim_id, taken_until = null, taken_claim = null
    where l.state = 'idle' and l.paused_at is null and (l.taken_until <= p_at) is not false
    returning l.tail, l.place_tail, l.event_tail, l.accepted_at, greatest(l.accepted_at, l.settled_at) as started_at, l.fence
  ), jobs as (
    insert into build_jobs (id, chat_id, tenant, chat_seq, place, rank, message_id, code, files, entry, options, code_hash, priority, max_attempts, timeout_ms, traceparent, run_at, created_at,
      status, attempt, started_at, owner, fence, claim_id)
    select id, chat_id, tenant, tail, place_tail, accepted_at, message_id, code, files, entry, options, code_hash, 0, max_attempts, timeout_ms, traceparent, accepted_at, accepted_at,
      'running', 1, started_at, p_node, fence, p_claim_id
    from asked, lane
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select chat_id, event_tail - 1, 'job.accepted', id, tail, 'pending', 0, accepted_at, jsonb_build_object('messageId', message_id, 'priority', 0) from asked, lane
    union all
    select chat_id, event_tail, 'job.started', id, tail, 'running', 1, started_at, jsonb_build_object('nodeId', p_node, 'slots', v_slots, 'fence', fence) from asked, lane
  )
  select json_build_object('fresh', json_build_array(json_build_array(1, tail, 1, accepted_at)), 'told', '[]'::json, 'claims', json_build_array(
    json_build_object('id', id, 'chatId', chat_id, 'messageId', message_id, 'chatSeq', tail, 'attempt', 1,
      'code', code, 'files', files, 'entry', entry, 'options', options, 'priority', 0, 'maxAttempts', max_attempts, 'timeoutMs', timeout_ms,
      'traceparent', traceparent, 'spent', 0, 'strikes', 0, 'fence', fence, 'startedAt', started_at)))
  into v_answer from asked, lane;
  return buildlane_sent(v_answer);
end $$;

-- accept: p_jobs in order of acceptance, each with the group `g` it is accepted with, and without what has its usual value.
-- `n` of its chat come together, it is the `nth` of them, and the first says whether any has a priority (`mixed`): the
-- caller has counted, that is cheaper than here. p_keys: one row for a group with an idempotency key.
-- Answers with `fresh`, for each new job its place in p_jobs, chatSeq, queuePosition and createdAt, and if its chat is held whether
-- it is paused, and until when its first job waits; or with whole jobs as
-- `told`, where there is more to tell: replays, what stands among priorities, what supersedes.
-- Refusals raise: BL001 chat full, BL002 rate limited, BL003 key used for something else, BL004 queue full; the caller then
-- offers each group alone. BL005 names the groups that are replays where others are new: both are offered apart.
-- With p_claim_id there is one job, without priority or delay; where it need not wait it is written as a running one, and the
-- answer has its `claims`.
create function buildlane_accept(
  p_node text, p_verb text, p_jobs json, p_keys json, p_aging_ms double precision,
  p_pending_max integer, p_queue_max bigint, p_rate_burst integer, p_rate_interval_ms double precision, p_lock_ms integer default null,
  p_now double precision default null, p_claim_id text default null, p_line_from double precision default null
) returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  v_now timestamptz := buildlane_now(p_now);
  v_running json;
  v_fresh_groups integer[];
  v_replays integer[] := '{}';
  v_conflict text;
  v_full text;
  v_limited text;
  v_limited_at timestamptz;
  v_line_up text[];
  v_is_mixed boolean;
  v_fresh json;
  v_told json;
  v_count bigint;
  v_superseding jsonb;
  v_superseded bigint := 0;
  v_setting text;
begin
  if p_lock_ms is not null then
    v_setting := set_config('lock_timeout', p_lock_ms::text, true);
  end if;
  -- Whoever may wait for long stands in line since it came to its lanes, not since it asked (P8).
  if p_lock_ms is null or p_lock_ms > 1000 then
    perform 1 from chat_lanes l where l.chat_id in (select a.chat_id from json_to_recordset(p_jobs) as a (chat_id text)) order by l.chat_id for update;
    v_now := buildlane_now(p_now);
  end if;
  if p_keys is not null then
    with k as (
      select * from json_to_recordset(p_keys) as x (g integer, scope text, key text, request_hash text, job_ids json)
    ), fresh as (
      insert into idempotency_keys (scope, key, request_hash, job_ids, created_at)
      select scope, key, request_hash, array(select json_array_elements_text(job_ids)), v_now from k order by scope, key
      on conflict do nothing
      returning scope, key
    )
    select array_agg(k.g) into v_fresh_groups from k join fresh using (scope, key);

    select array_agg(k.g), min(k.key) filter (where i.request_hash <> k.request_hash) into v_replays, v_conflict
    from json_to_recordset(p_keys) as k (g integer, scope text, key text, request_hash text)
    join idempotency_keys i using (scope, key)
    where k.g <> all (coalesce(v_fresh_groups, '{}'));
    v_replays := coalesce(v_replays, '{}');
    if v_conflict is not null then
      raise exception 'idempotency key was used for another request' using errcode = 'BL003';
    end if;
    if v_replays <> '{}' then
      if exists (select 1 from json_to_recordset(p_jobs) as a (g integer) where a.g <> all (v_replays)) then
        raise exception 'some are replays' using errcode = 'BL005', detail = to_json(v_replays)::text;
      end if;
      select json_agg(buildlane_accepted(j, v_now) || jsonb_build_object('g', k.g, 'replayed', true) order by k.g, u.ord) into v_told
      from json_to_recordset(p_keys) as k (g integer, scope text, key text)
      join idempotency_keys i using (scope, key)
      cross join lateral unnest(i.job_ids) with ordinality as u (job_id, ord)
      join build_jobs j on j.id = u.job_id;
      return json_build_object('fresh', '[]'::json, 'told', coalesce(v_told, '[]'));
    end if;
  end if;

  if p_claim_id is not null and p_rate_burst is null then
    v_running := buildlane_accept_running(p_node, p_jobs, p_queue_max, p_claim_id, v_now, p_line_from);
    if v_running is not null then
      return v_running;
    end if;
  end if;

  with asked as (
    select g, id, chat_id, buildlane_tenant(chat_id) as tenant, message_id, code, files, entry, coalesce(options, '{}') as options, code_hash, coalesce(priority, 0::smallint) as priority,
      max_attempts, timeout_ms, coalesce(delay_ms, 0) as delay_ms, supersede, traceparent, coalesce(n, 1) as n, coalesce(nth, 1) as nth, coalesce(mixed, false) as is_mixed, ord
    from rows from (json_to_recordset(p_jobs) as (
      g integer, id text, chat_id text, message_id text, code text, files jsonb, entry text, options jsonb, code_hash text, priority smallint, max_attempts integer,
      timeout_ms integer, delay_ms double precision, supersede text, traceparent text, n integer, nth integer, mixed boolean)) with ordinality as x (
      g, id, chat_id, message_id, code, files, entry, options, code_hash, priority, max_attempts, timeout_ms, delay_ms, supersede, traceparent, n, nth, mixed, ord)
  ), lane as (
    -- Takes the locks in order, numbers the jobs, and puts a lane that was idle in line by its first job.
    insert into chat_lanes as l (chat_id, tenant, tail, place_tail, event_tail, pending, mixed, accepted_at, rate_at, state, head_id, head_rank, ready_at, turn_at)
    select chat_id, tenant, n, n, n, n, is_mixed, v_now, v_now + buildlane_ms(n * p_rate_interval_ms),
      case when delay_ms > 0 then 'delayed' else 'ready' end, id, v_now, v_now + buildlane_ms(delay_ms), v_now + buildlane_ms(delay_ms)
    from asked where nth = 1 order by chat_id
    on conflict (chat_id) do update set
      tail = l.tail + excluded.tail,
      place_tail = l.place_tail + excluded.tail,
      event_tail = l.event_tail + excluded.tail,
      pending = l.pending + excluded.pending,
      mixed = l.mixed or excluded.mixed,
      accepted_at = greatest(l.accepted_at, v_now),
      rate_at = greatest(l.rate_at, v_now) + (excluded.rate_at - v_now),
      state = case when l.state = 'idle' then case when l.paused_at is null then excluded.state else 'paused' end else l.state end,
      head_id = case when l.state = 'idle' then excluded.head_id else l.head_id end,
      head_rank = case when l.state = 'idle' then greatest(l.accepted_at, v_now) else l.head_rank end,
      ready_at = case when l.state = 'idle' then greatest(excluded.ready_at, l.accepted_at) else l.ready_at end,
      turn_at = case when l.state = 'idle' then greatest(excluded.turn_at, l.accepted_at, l.settled_at) else l.turn_at end
    returning l.chat_id, l.tail, l.place_tail, l.event_tail, l.pending, l.mixed, l.accepted_at, l.rate_at, l.owner,
      case when l.paused_at is not null then 'paused' end as paused, buildlane_held_until(l, v_now) as ready_at
  ), numbered as (
    select a.*, l.paused, l.ready_at, l.accepted_at, l.pending - n + nth + case when l.owner is null then 0 else 1 end as position, l.pending, l.mixed, l.owner, l.rate_at,
      l.tail - n + nth as chat_seq, l.place_tail - n + nth as place, l.event_tail - n + nth as number
    from asked a join lane l using (chat_id)
  ), jobs as (
    insert into build_jobs (id, chat_id, tenant, chat_seq, place, rank, message_id, code, files, entry, options, code_hash, priority, max_attempts, timeout_ms, traceparent, run_at, created_at)
    select id, chat_id, tenant, chat_seq, place, accepted_at - priority * buildlane_ms(p_aging_ms), message_id, code, files, entry, options, code_hash, priority,
      max_attempts, timeout_ms, traceparent, accepted_at + buildlane_ms(delay_ms), accepted_at
    from numbered
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select chat_id, number, 'job.accepted', id, chat_seq, 'pending', 0, accepted_at,
      case when delay_ms > 0 then jsonb_build_object('messageId', message_id, 'priority', priority, 'runAt', buildlane_iso(accepted_at + buildlane_ms(delay_ms)))
        else jsonb_build_object('messageId', message_id, 'priority', priority) end
    from numbered
  )
  select json_agg(case when coalesce(paused, ready_at) is null then json_build_array(ord, chat_seq, position, accepted_at) else json_build_array(ord, chat_seq, position, accepted_at, paused is not null, ready_at) end), count(*), bool_or(mixed),
    min(chat_id) filter (where pending > p_pending_max),
    min(chat_id) filter (where rate_at - v_now > buildlane_ms(p_rate_burst * p_rate_interval_ms)), max(rate_at),
    array_agg(chat_id) filter (where mixed and owner is null and nth = 1),
    jsonb_agg(jsonb_build_object('id', id, 'chat_id', chat_id, 'place', place, 'running', supersede = 'running')) filter (where supersede is not null)
  into v_fresh, v_count, v_is_mixed, v_full, v_limited, v_limited_at, v_line_up, v_superseding from numbered;

  -- What is superseded makes room in its chat. In the queue's total only for a group that is alone, so that no group
  -- is let in by what a later one will end.
  if v_superseding is not null then
    v_superseded := buildlane_supersede(p_node, v_superseding, v_now);
    select min(chat_id) into v_full from chat_lanes where chat_id in (select a.chat_id from json_to_recordset(p_jobs) as a (chat_id text)) and pending > p_pending_max;
    if (select count(distinct g) from json_to_recordset(p_jobs) as a (g integer)) = 1 then
      v_superseded := 0;
    end if;
  end if;

  if v_full is not null then
    raise exception 'chat queue full' using errcode = 'BL001', detail = (select json_build_object('chatId', v_full, 'chatPaused', l.paused_at is not null,
      'chatReadyAt', buildlane_held_until(l, v_now)) from chat_lanes l where l.chat_id = v_full)::text;
  end if;
  if (select coalesce(sum(pending), 0) + v_superseded + v_count > p_queue_max from build_counters) then
    raise exception 'queue full' using errcode = 'BL004';
  end if;
  if v_limited is not null then
    raise exception 'rate limited' using errcode = 'BL002', detail = json_build_object('chatId', v_limited,
      'retryAfterMs', extract(epoch from v_limited_at - v_now) * 1000 - p_rate_burst * p_rate_interval_ms)::text;
  end if;
  if v_line_up is not null then
    perform buildlane_line_up(v_line_up, v_now);
  end if;
  -- Among priorities a new job need not be last, and before one that supersedes nothing is left: count what stands before it.
  if v_superseding is not null or v_is_mixed then
    select json_agg(buildlane_accepted(j, v_now) || jsonb_build_object('g', a.g, 'replayed', false,
        'stops', (select json_build_object('chatId', r.chat_id, 'jobId', r.id, 'nodeId', r.owner) from build_jobs r where r.chat_id = j.chat_id and r.status = 'running' and r.superseded_by = j.id))
      order by a.ord) into v_told
    from (select row_number() over () as ord, x.* from json_to_recordset(p_jobs) as x (g integer, id text)) a join build_jobs j on j.id = a.id;
    v_fresh := null;
  end if;
  -- Last, so that the row is locked for a moment only.
  perform buildlane_count(p_node, p_verb, v_count, 0, 0);
  return json_build_object('fresh', coalesce(v_fresh, '[]'), 'told', coalesce(v_told, '[]'));
end $$;
