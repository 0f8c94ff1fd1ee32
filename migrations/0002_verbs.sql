-- The verbs that change lanes, each one function and so one statement for its caller: a lock first, then work that sees
-- what the lock protects (each statement of a function has a fresh snapshot under READ COMMITTED; a single big
-- statement would look for the next head in a snapshot older than its own lock, and could strand a job).
-- The hot ones forbid scans and hash joins: a plan made while the tables were small would be kept for a session's life,
-- and a partial index that matches by status alone would be read whole (hence `(status = …) is true` beside an id).
-- A forbidden scan that cannot be avoided costs 1e10, which would have each call compiled just in time (250 ms where the
-- server has LLVM): so that is off. And they are planned once: for their arrays, whose lengths it does not know, PostgreSQL
-- finds a plan of their own better each time, and that planning was half of a small turn.
-- p_lock_ms bounds the wait for any one lock, for calls that carry several lanes: one stuck lane must not stall the rest.
-- Verbs on behalf of somebody take the tenant whose jobs they may see; null is everybody.
-- Times come from clock_timestamp(), or from p_now (milliseconds since 1970) in tests.

create function buildlane_now(p_now double precision) returns timestamptz language sql volatile as $$
  select coalesce(to_timestamp(p_now / 1000.0), clock_timestamp())
$$;

create function buildlane_ms(p_ms double precision) returns interval language sql immutable as $$
  select p_ms * interval '1 millisecond'
$$;

-- As the API writes times.
create function buildlane_iso(p_at timestamptz) returns text language sql immutable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Whose chat a lane is: its key is the tenant, U+001F and the chat's own id.
create function buildlane_tenant(p_chat text) returns text language sql immutable as $$
  select case when position(chr(31) in p_chat) > 0 then split_part(p_chat, chr(31), 1) else '' end
$$;

create function buildlane_failure(p_code text, p_message text, p_quarantined boolean) returns jsonb language sql immutable as $$
  select jsonb_build_object('code', p_code, 'message', p_message, 'retryable', false, 'diagnostics', '[]'::jsonb)
      || case when p_quarantined then '{"quarantined": true}'::jsonb else '{}'::jsonb end
$$;

-- Adds to the running totals, last in each verb: the row is this node's and this verb's alone.
-- The row is nearly always there, and an update makes less ready than an upsert does.
create function buildlane_count(p_node text, p_verb text, p_pending bigint, p_completed bigint, p_failed bigint) returns void language plpgsql as $$
begin
  if p_pending = 0 and p_completed = 0 and p_failed = 0 then
    return;
  end if;
  update build_counters set pending = pending + p_pending, completed = completed + p_completed, failed = failed + p_failed
  where node_id = p_node and verb = p_verb;
  if not found then
    insert into build_counters as c (node_id, verb, pending, completed, failed) values (p_node, p_verb, p_pending, p_completed, p_failed)
    on conflict (node_id, verb) do update set
      pending = c.pending + excluded.pending, completed = c.completed + excluded.completed, failed = c.failed + excluded.failed;
  end if;
end $$;

-- Puts lanes that nobody runs where they belong by their pending jobs. The caller holds their locks. What was not in line (paused,
-- say) comes to its end, and in line none moves to before where it stood (its head may be cancelled, and an older job be the next one): so, but for
-- what commits late, nothing stands before the place where the latest pulse saw the line begin.
create function buildlane_line_up(p_chats text[], p_at timestamptz) returns void language sql as $$
  update chat_lanes l set
    head_id = h.id, head_rank = h.rank, ready_at = h.run_at,
    turn_at = case when h.id is not null then greatest(h.rank, h.run_at, l.settled_at, case when l.state = 'ready' or l.state = 'delayed' and l.ready_at <= p_at then least(l.turn_at, p_at) else p_at end) end,
    mixed = l.mixed and h.id is not null,
    state = case when h.id is null then 'idle' when l.paused_at is not null then 'paused' when h.run_at > p_at then 'delayed' else 'ready' end
  from unnest(p_chats) as c (chat_id)
  left join lateral (
    select j.id, j.rank, j.run_at from build_jobs j where j.chat_id = c.chat_id and j.status = 'pending' order by j.rank, j.place limit 1
  ) h on true
  where l.chat_id = c.chat_id and l.owner is null
$$;

-- Position of a pending job: itself, the pending ones before it, and a running one. In a lane without priorities they stand
-- by place, and where no place between the first and the lane's latest was given up there is nothing to count.
create function buildlane_position(p_chat text, p_rank timestamptz, p_place bigint) returns bigint language sql stable as $$
  select case when not l.mixed and l.place_tail - first.place + 1 = l.pending then p_place - first.place + 1
      else (select count(*) from build_jobs j where j.chat_id = p_chat and j.status = 'pending' and (j.rank, j.place) <= (p_rank, p_place)) end
    + case when l.owner is null then 0 else 1 end
  from chat_lanes l,
    lateral (select j.place from build_jobs j where j.chat_id = p_chat and j.status = 'pending' order by j.rank, j.place limit 1) first
  where l.chat_id = p_chat
$$;

-- A lone job, without priority or delay, that need not wait: its lane is idle, nobody is in line, and its node has a free slot
-- (p_claim_id) that nothing keeps from being taken. It is written once, as what a turn would have made of it in the same step:
-- half the work of both. Null, with nothing written: it takes the long way. Called by accept, under its settings.
create function buildlane_accept_running(
  p_node text, p_jobs json, p_queue_max bigint, p_claim_id text, p_at timestamptz, p_line_from double precision
) returns json language plpgsql as $$
declare
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
  return v_answer;
end $$;

-- accept: p_jobs in order of acceptance, each with the group `g` it is accepted with, and without what has its usual value.
-- `n` of its chat come together, it is the `nth` of them, and the first says whether any has a priority (`mixed`): the
-- caller has counted, that is cheaper than here. p_keys: one row for a group with an idempotency key.
-- Answers with `fresh`, for each new job its place in p_jobs, chatSeq, queuePosition and createdAt, or with whole jobs as
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
      select json_agg(json_build_object('g', k.g, 'id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'status', j.status,
        'createdAt', j.created_at, 'replayed', true,
        'queuePosition', case when j.status = 'pending' then buildlane_position(j.chat_id, j.rank, j.place) else 0 end) order by k.g, u.ord) into v_told
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
    returning l.chat_id, l.tail, l.place_tail, l.event_tail, l.pending, l.mixed, l.accepted_at, l.rate_at, l.owner
  ), numbered as (
    select a.*, l.accepted_at, l.pending - n + nth + case when l.owner is null then 0 else 1 end as position, l.pending, l.mixed, l.owner, l.rate_at,
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
  select json_agg(json_build_array(ord, chat_seq, position, accepted_at)), count(*), bool_or(mixed),
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
    raise exception 'chat queue full' using errcode = 'BL001', detail = json_build_object('chatId', v_full)::text;
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
    select json_agg(json_build_object('g', a.g, 'id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'status', j.status,
        'createdAt', j.created_at, 'replayed', false, 'queuePosition', case when j.status = 'pending' then buildlane_position(j.chat_id, j.rank, j.place) else 0 end,
        'stops', (select json_build_object('chatId', r.chat_id, 'jobId', r.id, 'nodeId', r.owner) from build_jobs r where r.chat_id = j.chat_id and r.status = 'running' and r.superseded_by = j.id))
      order by a.ord) into v_told
    from (select row_number() over () as ord, x.* from json_to_recordset(p_jobs) as x (g integer, id text)) a join build_jobs j on j.id = a.id;
    v_fresh := null;
  end if;
  -- Last, so that the row is locked for a moment only.
  perform buildlane_count(p_node, p_verb, v_count, 0, 0);
  return json_build_object('fresh', coalesce(v_fresh, '[]'), 'told', coalesce(v_told, '[]'));
end $$;

-- How an attempt ends, as a node offers it (turn) or as its loss is found (rescue).
create type buildlane_ending as (
  ord integer, job_id text, chat_id text, attempt integer, owner text, fence bigint, claim_id text,
  kind text, result text, source_map text, warnings jsonb, externals jsonb, failure jsonb, error text, delay_ms double precision, blameless boolean,
  stamp text, copied_from text, run_ms double precision,
  -- By the store's clock, milliseconds, as its node reckons it: when the run was over, and when it began where no start is recorded yet.
  ended_ms double precision, started_ms double precision
);

-- A time that a node reckoned; never a later one than this.
create function buildlane_reckoned(p_ms double precision, p_at timestamptz) returns timestamptz language sql immutable as $$
  select least(p_at, to_timestamp(p_ms / 1000.0))
$$;

-- When an end was recorded, if that was more than a moment after it: only since then is its lane in line.
create function buildlane_late(p_ended_at timestamptz, p_at timestamptz) returns text language sql immutable as $$
  select case when p_at > p_ended_at + interval '25 milliseconds' then buildlane_iso(p_at) end
$$;

-- Records what was built, unless its cancel was requested meanwhile, and puts the lanes back in line; answers with the `ord`
-- of what it recorded. Nearly all ends are these, and a statement costs by what it could do: this one does nothing else.
create function buildlane_complete(p_endings buildlane_ending[], p_at timestamptz) returns integer[] language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_recorded integer[];
begin
  with ended as (
    update build_jobs j set status = 'completed', completed_at = greatest(buildlane_reckoned(e.ended_ms, p_at), j.started_at), spent = j.spent + 1, result = e.result, source_map = e.source_map,
      warnings = e.warnings, externals = e.externals, stamp = e.stamp, copied_from = e.copied_from, owner = null, fence = null, claim_id = null
    from unnest(p_endings) e
    -- The fence (P5): whatever differs, the lane is somebody else's by now.
    where j.id = e.job_id and j.chat_id = e.chat_id and j.attempt = e.attempt and (j.status = 'running') is true and j.owner = e.owner and j.fence = e.fence and j.claim_id = e.claim_id
      and e.kind = 'completed' and j.cancel_requested_at is null
    returning e.ord, e.run_ms, j.id, j.chat_id, j.chat_seq, j.attempt, j.started_at, j.completed_at, octet_length(j.result) as result_bytes
  ), lane as (
    update chat_lanes l set
      owner = null, claim_id = null, settled_at = e.completed_at, event_tail = l.event_tail + 1, completed = l.completed + 1,
      head_id = n.id, head_rank = n.rank, ready_at = n.run_at, mixed = l.mixed and n.id is not null,
      turn_at = case when n.id is not null then greatest(n.rank, n.run_at, e.completed_at, p_at) end,
      state = case when n.id is null then 'idle' when l.paused_at is not null then 'paused' when n.run_at > p_at then 'delayed' else 'ready' end
    from ended e
    left join lateral (
      select j.id, j.rank, j.run_at from build_jobs j where j.chat_id = e.chat_id and j.status = 'pending' order by j.rank, j.place limit 1
    ) n on true
    where l.chat_id = e.chat_id
    returning e.*, l.event_tail
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select chat_id, event_tail, 'job.completed', id, chat_seq, 'completed', attempt, completed_at,
      jsonb_strip_nulls(jsonb_build_object('resultBytes', result_bytes, 'processingMs', round(extract(epoch from completed_at - started_at) * 1000), 'runMs', run_ms, 'recordedAt', buildlane_late(completed_at, p_at)))
    from lane
  )
  select array_agg(ord) into v_recorded from lane;
  return v_recorded;
end $$;

-- Records all other ends of attempts whose guard holds and puts their lanes back in line. The caller holds the lanes' locks, and
-- counts: `pending` more, and so on.
create function buildlane_end(p_node text, p_endings buildlane_ending[], p_losses_max integer, p_at timestamptz,
  out answer json, out pending bigint, out failed bigint) language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_quarantined text[] := '{}';
begin
  -- Two crashed workers, or too many lost nodes, and the code itself is refused from now on.
  if exists (select 1 from unnest(p_endings) e where e.kind = 'rescued' or (e.failure ->> 'code' in ('worker_crashed', 'out_of_memory') and not e.blameless)) then
    with crash as (
      select j.code_hash, case when e.kind = 'rescued' then 'node_lost' else e.failure ->> 'code' end as cause,
        count(*) filter (where e.kind <> 'rescued') as crashes, bool_or(e.kind = 'rescued' and j.node_losses + 1 >= p_losses_max) as fatal
      from unnest(p_endings) e
      join build_jobs j on j.id = e.job_id and j.chat_id = e.chat_id and j.attempt = e.attempt and j.status = 'running' and j.owner = e.owner and j.fence = e.fence and j.claim_id = e.claim_id
      where (e.kind = 'rescued' or e.failure ->> 'code' in ('worker_crashed', 'out_of_memory') and not e.blameless) and j.cancel_requested_at is null
      group by 1, 2
    )
    insert into code_crashes as c (code_hash, crashes, cause, quarantined_at)
    select distinct on (code_hash) code_hash, crashes, cause, case when fatal or crashes >= 2 then p_at end
    from crash where fatal or crashes > 0 order by code_hash, fatal desc
    on conflict (code_hash) do update set
      crashes = c.crashes + excluded.crashes,
      cause = case when c.quarantined_at is null then excluded.cause else c.cause end,
      quarantined_at = coalesce(c.quarantined_at, excluded.quarantined_at, case when c.crashes + excluded.crashes >= 2 then p_at end);
    select coalesce(array_agg(code_hash), '{}') into v_quarantined from code_crashes
    where quarantined_at is not null and code_hash in (select j.code_hash from unnest(p_endings) e join build_jobs j on j.id = e.job_id);
  end if;

  with final as (
    -- What really happens: a requested cancel wins; a quarantined code is not tried again; too many lost nodes are enough.
    select e.ord, e.job_id, e.chat_id, e.attempt, e.owner, e.fence, e.claim_id, e.delay_ms, case when j.cancel_requested_at is null then e.stamp end as stamp, case when j.cancel_requested_at is null then e.copied_from end as copied_from, e.run_ms, buildlane_reckoned(e.ended_ms, p_at) as at, e.kind as offered,
      case when j.cancel_requested_at is not null then 'failed'
           when e.kind = 'retrying' and j.code_hash = any (v_quarantined) and e.failure ->> 'code' in ('worker_crashed', 'out_of_memory') and not e.blameless then 'failed'
           when e.kind = 'rescued' and j.node_losses + 1 >= p_losses_max then 'failed'
           else e.kind end as kind,
      case when j.superseded_by is not null then buildlane_failure('superseded', 'Superseded by a newer job of its chat.', false)
           when j.cancel_requested_at is not null then buildlane_failure('cancelled', 'Cancelled while it ran.', false)
           when e.kind = 'rescued' then buildlane_failure('node_lost', 'The nodes that ran it were lost, ' || (j.node_losses + 1) || ' times.', true)
           when j.code_hash = any (v_quarantined) and e.failure ->> 'code' in ('worker_crashed', 'out_of_memory') and not e.blameless
             then e.failure || '{"quarantined": true, "retryable": false}'::jsonb
           else e.failure end as failure,
      case when j.superseded_by is not null then 'Superseded by a newer job of its chat.'
           when j.cancel_requested_at is not null then 'Cancelled while it ran.'
           when e.kind = 'rescued' then 'The nodes that ran it were lost, ' || (j.node_losses + 1) || ' times.'
           else e.error end as error
    from unnest(p_endings) e join build_jobs j on j.id = e.job_id
    where e.kind <> 'returned' and (e.kind <> 'completed' or j.cancel_requested_at is not null)
  ), ended as (
    update build_jobs j set
      status = case when f.kind = 'failed' then 'failed' else 'pending' end,
      -- Where retrying jobs yield, one stands where one accepted at the end of its backoff would.
      rank = case f.kind when 'retrying' then greatest(j.rank, (select p_at + buildlane_ms(f.delay_ms) from chat_lanes l where l.chat_id = j.chat_id and l.while_retrying = 'yield')) else j.rank end,
      run_at = case f.kind when 'retrying' then p_at + buildlane_ms(f.delay_ms) when 'released' then p_at when 'rescued' then p_at else j.run_at end,
      completed_at = case when f.kind = 'failed' then greatest(f.at, j.started_at) end,
      spent = j.spent + case when f.offered in ('released', 'rescued') then 0 else 1 end,
      strikes = j.strikes + case when f.kind = 'retrying' and f.failure ->> 'code' in ('timed_out', 'out_of_memory') then 1 else 0 end,
      node_losses = j.node_losses + case when f.offered = 'rescued' then 1 else 0 end,
      failure = case when f.kind = 'failed' then f.failure end,
      failure_code = case when f.kind = 'failed' then f.failure ->> 'code' end,
      error = case when f.kind = 'failed' then f.error end,
      stamp = case when f.kind = f.offered then f.stamp end,
      copied_from = case when f.kind = f.offered then f.copied_from end,
      owner = null, fence = null, claim_id = null
    from final f
    -- The fence (P5): whatever differs, the lane is somebody else's by now.
    where j.id = f.job_id and j.chat_id = f.chat_id and j.attempt = f.attempt and (j.status = 'running') is true and j.owner = f.owner and j.fence = f.fence and j.claim_id = f.claim_id
    returning f.ord, f.kind, f.owner as lost_owner, f.failure as failed_as, f.delay_ms, f.run_ms, greatest(f.at, j.started_at) as at,
      j.id, j.chat_id, j.chat_seq, j.status, j.attempt, j.rank, j.place, j.run_at, j.started_at, j.node_losses, j.superseded_by
  ), next as (
    select e.*, coalesce(h.head_id, n.id) as head_id, coalesce(h.head_rank, n.rank) as head_rank, coalesce(h.head_run_at, n.run_at) as head_run_at
    from ended e
    left join lateral (
      select j.id, j.rank, j.place, j.run_at from build_jobs j where j.chat_id = e.chat_id and j.status = 'pending' order by j.rank, j.place limit 1
    ) n on true
    -- This statement does not see its own update: a job that is pending again is compared by hand.
    left join lateral (
      select e.id as head_id, e.rank as head_rank, e.run_at as head_run_at where e.status = 'pending' and (n.id is null or (e.rank, e.place) < (n.rank, n.place))
    ) h on true
  ), lane as (
    update chat_lanes l set
      owner = null, claim_id = null, settled_at = n.at, event_tail = l.event_tail + 1,
      pending = l.pending + case when n.status = 'pending' then 1 else 0 end,
      failed = l.failed + case when n.status = 'failed' then 1 else 0 end,
      head_id = n.head_id, head_rank = n.head_rank, ready_at = n.head_run_at, mixed = (l.mixed or (n.kind = 'retrying' and l.while_retrying = 'yield')) and n.head_id is not null,
      turn_at = case when n.head_id is not null then greatest(n.head_rank, n.head_run_at, n.at, p_at) end,
      state = case when n.head_id is null then 'idle' when l.paused_at is not null then 'paused' when n.head_run_at > p_at then 'delayed' else 'ready' end
    from next n where l.chat_id = n.chat_id
    returning n.*, l.event_tail
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select e.chat_id, e.event_tail, 'job.' || e.kind, e.id, e.chat_seq, e.status, e.attempt, e.at,
      case e.kind
        when 'failed' then jsonb_strip_nulls(jsonb_build_object('failureCode', e.failed_as -> 'code', 'message', e.failed_as -> 'message', 'quarantined', e.failed_as -> 'quarantined', 'supersededBy', e.superseded_by))
        when 'retrying' then jsonb_build_object('failureCode', e.failed_as -> 'code', 'message', e.failed_as -> 'message', 'runAt', buildlane_iso(e.run_at), 'delayMs', e.delay_ms)
        when 'rescued' then jsonb_build_object('nodeId', e.lost_owner, 'nodeLosses', e.node_losses)
        else '{}'::jsonb end
        || jsonb_strip_nulls(jsonb_build_object('runMs', e.run_ms, 'recordedAt', buildlane_late(e.at, p_at)))
    from lane e
  )
  select
    json_agg(json_build_object('ord', ord, 'jobId', id, 'chatId', chat_id, 'status', status, 'runAt', case when status = 'pending' then run_at end,
      'quarantined', coalesce((failed_as ->> 'quarantined')::boolean, false), 'failureCode', failed_as ->> 'code')),
    count(*) filter (where status = 'pending'), count(*) filter (where status = 'failed')
  into answer, pending, failed from lane;
  answer := coalesce(answer, '[]'::json);
  if failed > 0 then
    perform buildlane_hold(array(select x ->> 'jobId' from json_array_elements(answer) x where x ->> 'status' = 'failed'), p_at);
  end if;
end $$;

-- Fails pending jobs without a run (cancelled, superseded, quarantined). The caller holds the lanes' locks.
create function buildlane_fail_pending(p_node text, p_ids text[], p_failures jsonb[], p_at timestamptz) returns void language plpgsql as $$
declare
  v_chats text[];
  v_count bigint;
begin
  with f as (
    select * from unnest(p_ids, p_failures) as x (id, failure)
  ), failed as (
    update build_jobs j set status = 'failed', completed_at = greatest(p_at, j.started_at, j.created_at), failure = f.failure,
      failure_code = f.failure ->> 'code', error = f.failure ->> 'message'
    from f where j.id = f.id and j.status = 'pending'
    returning j.id, j.chat_id, j.chat_seq, j.place, j.attempt, j.completed_at, j.failure, j.superseded_by
  ), per_chat as (
    select chat_id, count(*) as n from failed group by chat_id
  ), lane as (
    update chat_lanes l set event_tail = l.event_tail + p.n, pending = l.pending - p.n, failed = l.failed + p.n,
      -- Out of line for the moment, or the lane would be idle with jobs: line_up follows at once.
      head_id = null, head_rank = null, ready_at = null, turn_at = null, state = 'idle'
    from per_chat p where l.chat_id = p.chat_id and l.owner is null and l.pending - p.n = 0
    returning l.chat_id, l.event_tail, p.n
  ), busy as (
    update chat_lanes l set event_tail = l.event_tail + p.n, pending = l.pending - p.n, failed = l.failed + p.n
    from per_chat p where l.chat_id = p.chat_id and not (l.owner is null and l.pending - p.n = 0)
    returning l.chat_id, l.event_tail, p.n
  ), tails as (
    select * from lane union all select * from busy
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select f.chat_id, t.event_tail - t.n + row_number() over (partition by f.chat_id order by f.place), 'job.failed', f.id, f.chat_seq, 'failed', f.attempt, f.completed_at,
      jsonb_strip_nulls(jsonb_build_object('failureCode', f.failure -> 'code', 'message', f.failure -> 'message', 'quarantined', f.failure -> 'quarantined', 'supersededBy', f.superseded_by))
    from failed f join tails t using (chat_id)
  )
  select array_agg(distinct chat_id), count(*) into v_chats, v_count from failed;
  if v_chats is not null then
    perform buildlane_hold(p_ids, p_at);
    perform buildlane_line_up(v_chats, p_at);
    perform buildlane_count(p_node, 'fail_pending', -v_count, 0, v_count);
  end if;
end $$;

-- supersede: the jobs of a chat that are older than one of p_by end in its favour, each by the first that is newer. Pending
-- ones at once; a running one, where that is asked, is to be stopped like a cancelled one. How many pending ones were.
create function buildlane_supersede(p_node text, p_by jsonb, p_at timestamptz) returns bigint language plpgsql as $$
declare
  v_ids text[];
begin
  with newer as (
    select * from jsonb_to_recordset(p_by) as x (id text, chat_id text, place bigint)
  ), old as (
    select j.id, (select n.id from newer n where n.chat_id = j.chat_id and n.place > j.place order by n.place limit 1) as superseded_by
    from build_jobs j where j.status = 'pending' and j.chat_id in (select chat_id from newer)
  ), marked as (
    update build_jobs j set superseded_by = o.superseded_by from old o where j.id = o.id and o.superseded_by is not null returning j.id
  )
  select array_agg(id) into v_ids from marked;
  if v_ids is not null then
    perform buildlane_fail_pending(p_node, v_ids, array_fill(buildlane_failure('superseded', 'Superseded by a newer job of its chat.', false), array[cardinality(v_ids)]), p_at);
  end if;
  with newer as (
    select distinct on (chat_id) * from jsonb_to_recordset(p_by) as x (id text, chat_id text, place bigint, running boolean) where running order by chat_id, place
  ), stopped as (
    update build_jobs j set cancel_requested_at = p_at, superseded_by = n.id
    from newer n where j.chat_id = n.chat_id and j.status = 'running' and j.cancel_requested_at is null
    returning j.id, j.chat_id, j.chat_seq, j.attempt, j.superseded_by, greatest(p_at, j.started_at) as at
  ), lane as (
    update chat_lanes l set event_tail = l.event_tail + 1 from stopped s where l.chat_id = s.chat_id returning s.*, l.event_tail
  )
  insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
  select chat_id, event_tail, 'job.cancelRequested', id, chat_seq, 'running', attempt, at, jsonb_build_object('supersededBy', superseded_by) from lane;
  return coalesce(cardinality(v_ids), 0);
end $$;

-- What a node took ahead and began goes on record as running: where the lane is in its hand still, and the job its head, and nothing was paused before it began.
-- One that waited in its hand for longer than a moment says since when (`takenAt`), since others were served meanwhile. Answers with the jobs that started.
create type buildlane_begun as (job_id text, chat_id text, attempt integer, fence bigint, claim_id text, started_ms double precision);

-- What the event of such a start says.
create function buildlane_start_data(p_node text, p_slots integer, p_fence bigint, p_started_at timestamptz, p_taken_at timestamptz) returns jsonb language sql immutable as $$
  select jsonb_build_object('nodeId', p_node, 'slots', p_slots, 'fence', p_fence)
    || case when p_started_at > p_taken_at + interval '25 milliseconds' then jsonb_build_object('takenAt', buildlane_iso(p_taken_at)) else '{}'::jsonb end
$$;

create function buildlane_begin(p_node text, p_slots integer, p_begun buildlane_begun[], p_at timestamptz, p_paused_at timestamptz, p_hand interval) returns text[] language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_started text[];
begin
  with started as (
    update build_jobs j set status = 'running', attempt = j.attempt + 1, started_at = greatest(buildlane_reckoned(b.started_ms, p_at), l.settled_at, j.created_at),
      owner = p_node, fence = l.fence, claim_id = l.taken_claim
    from unnest(p_begun) b join chat_lanes l on l.chat_id = b.chat_id
    where j.id = b.job_id and j.attempt + 1 = b.attempt and (j.status = 'pending') is true and l.head_id = j.id and l.fence = b.fence and l.taken_claim = b.claim_id and l.state in ('ready', 'delayed')
      and (buildlane_reckoned(b.started_ms, p_at) > p_paused_at) is not true
    returning j.id, j.chat_id, j.chat_seq, j.attempt, j.fence, j.claim_id, j.started_at, l.taken_until - p_hand as taken_at
  ), lane as (
    update chat_lanes l set state = 'running', owner = p_node, claim_id = s.claim_id, taken_until = null, taken_claim = null, pending = l.pending - 1,
      head_id = null, head_rank = null, ready_at = null, turn_at = null, event_tail = l.event_tail + 1
    from started s where l.chat_id = s.chat_id
    returning s.*, l.event_tail
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select s.chat_id, s.event_tail, 'job.started', s.id, s.chat_seq, 'running', s.attempt, s.started_at, buildlane_start_data(p_node, p_slots, s.fence, s.started_at, s.taken_at)
    from lane s
  )
  select array_agg(id) into v_started from lane;
  return v_started;
end $$;

-- Records runs that were begun ahead of their record and are over, built: started and ended at once, half the work of both.
create function buildlane_run_through(p_node text, p_slots integer, p_endings buildlane_ending[], p_at timestamptz, p_paused_at timestamptz, p_hand interval) returns integer[] language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_recorded integer[];
begin
  with ended as (
    update build_jobs j set status = 'completed', attempt = j.attempt + 1, spent = j.spent + 1,
      started_at = greatest(buildlane_reckoned(e.started_ms, p_at), l.settled_at, j.created_at),
      completed_at = greatest(buildlane_reckoned(e.ended_ms, p_at), l.settled_at, j.created_at),
      result = e.result, source_map = e.source_map, warnings = e.warnings, externals = e.externals, stamp = e.stamp, copied_from = e.copied_from
    from unnest(p_endings) e join chat_lanes l on l.chat_id = e.chat_id
    where e.kind = 'completed' and e.started_ms is not null
      and j.id = e.job_id and j.attempt + 1 = e.attempt and (j.status = 'pending') is true and l.head_id = j.id and l.fence = e.fence and l.taken_claim = e.claim_id and l.state in ('ready', 'delayed')
      and (buildlane_reckoned(e.started_ms, p_at) > p_paused_at) is not true
    returning e.ord, e.fence, e.run_ms, l.taken_until - p_hand as taken_at, j.id, j.chat_id, j.chat_seq, j.attempt, j.started_at, j.completed_at, octet_length(j.result) as result_bytes
  ), lane as (
    update chat_lanes l set
      taken_until = null, taken_claim = null, settled_at = e.completed_at, event_tail = l.event_tail + 2, pending = l.pending - 1, completed = l.completed + 1,
      head_id = n.id, head_rank = n.rank, ready_at = n.run_at, mixed = l.mixed and n.id is not null,
      turn_at = case when n.id is not null then greatest(n.rank, n.run_at, e.completed_at, p_at) end,
      state = case when n.id is null then 'idle' when n.run_at > p_at then 'delayed' else 'ready' end
    from ended e
    left join lateral (
      -- This statement does not see its own update.
      select j.id, j.rank, j.run_at from build_jobs j where j.chat_id = e.chat_id and j.status = 'pending' and j.id <> e.id order by j.rank, j.place limit 1
    ) n on true
    where l.chat_id = e.chat_id
    returning e.*, l.event_tail
  ), events as (
    insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
    select chat_id, event_tail - 1, 'job.started', id, chat_seq, 'running', attempt, started_at, buildlane_start_data(p_node, p_slots, fence, started_at, taken_at) from lane
    union all
    select chat_id, event_tail, 'job.completed', id, chat_seq, 'completed', attempt, completed_at,
      jsonb_strip_nulls(jsonb_build_object('resultBytes', result_bytes, 'processingMs', round(extract(epoch from completed_at - started_at) * 1000), 'runMs', run_ms, 'recordedAt', buildlane_late(completed_at, p_at)))
    from lane
  )
  select array_agg(ord) into v_recorded from lane;
  return v_recorded;
end $$;

-- Takes lanes ahead: the next in line, up to one that must wait for a slot of its own. That is one whose job was tried before, or that some
-- node had in hand already: should it be what nodes are lost by, its start must be on record before it happens. And one with a priority, which several nodes follow
-- to the letter so, and one with quarantined code, which does not start.
create function buildlane_take_ahead(p_claim_id text, p_ahead integer, p_slots integer, p_at timestamptz, p_until timestamptz, p_line_from double precision, p_is_quarantining boolean) returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_nodes bigint := (select count(*) from build_nodes where lease_until > p_at);
  v_ahead bigint := p_ahead;
  v_chats text[];
  v_claims json;
begin
  -- Where others claim too, all hands together take half of a long line at most, and nothing of a short one: so whoever is in a hand has its turn before the others
  -- are through with the rest, and nobody has two turns meanwhile (P8).
  if v_nodes > 1 then
    v_ahead := (select count(*) / (2 * v_nodes) from (
      (select 1 from chat_lanes where state = 'ready' limit p_ahead * 2 * v_nodes) union all (select 1 from chat_lanes where state = 'delayed' and ready_at <= p_at limit p_ahead * 2 * v_nodes)
      limit p_ahead * 2 * v_nodes) waiting);
    if v_ahead < 2 * p_slots then
      return null;
    end if;
  end if;
  v_chats := buildlane_next_lanes(v_ahead::integer, p_at, p_line_from);
  if v_chats is null then
    return null;
  end if;
  with next as (
    select c.chat_id, c.ord, min(c.ord) filter (where l.taken_until is not null or j.attempt > 0 or j.priority <> 0 or p_is_quarantining and exists (select 1 from code_crashes q where q.code_hash = j.code_hash and q.quarantined_at is not null)) over () as first_apart
    from unnest(v_chats) with ordinality as c (chat_id, ord) join chat_lanes l using (chat_id) join build_jobs j on j.id = l.head_id
  ), taken as (
    update chat_lanes l set fence = l.fence + 1, taken_until = p_until, taken_claim = p_claim_id
    from next n where l.chat_id = n.chat_id and (n.ord < n.first_apart) is not false
    returning l.head_id, l.fence, n.ord
  )
  select json_agg(json_build_object('id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'attempt', j.attempt + 1,
      'code', j.code, 'files', j.files, 'entry', j.entry, 'options', j.options, 'priority', j.priority, 'maxAttempts', j.max_attempts, 'timeoutMs', j.timeout_ms,
      'traceparent', j.traceparent, 'spent', j.spent, 'strikes', j.strikes, 'fence', t.fence, 'startedAt', null) order by t.ord)
  into v_claims from taken t join build_jobs j on j.id = t.head_id;
  return v_claims;
end $$;

-- What a node says of lanes that it took ahead: runs that began (p_begun, whose lanes it has locked), runs that are over and whose start is not on
-- record, and lanes that it gives back. `left_line`: so many jobs are pending no more.
create function buildlane_record_ahead(p_node text, p_begun buildlane_begun[], p_endings buildlane_ending[], p_at timestamptz, p_hand interval,
  out through integer[], out on_record text[], out refused text[], out left_line bigint) language plpgsql as $$
declare
  v_slots integer;
  v_paused_at timestamptz;
  -- What is over and was not built starts on record here, and ends like any other.
  v_begun buildlane_begun[] := p_begun || array(select row (e.job_id, e.chat_id, e.attempt, e.fence, e.claim_id, e.started_ms)::buildlane_begun from unnest(p_endings) e where e.started_ms is not null and e.kind not in ('completed', 'returned'));
  v_started text[];
begin
  select n.slots, q.paused_at into v_slots, v_paused_at from build_nodes n cross join queue_state q where n.id = p_node and n.lease_until > p_at and not q.cap_binds;
  if v_slots is not null then
    through := buildlane_run_through(p_node, v_slots, p_endings, p_at, v_paused_at, p_hand);
    v_started := case when cardinality(v_begun) > 0 then buildlane_begin(p_node, v_slots, v_begun, p_at, v_paused_at, p_hand) end;
  end if;
  left_line := coalesce(cardinality(through), 0) + coalesce(cardinality(v_started), 0);
  on_record := (select array_agg(b.job_id) from unnest(p_begun) b where b.job_id = any (v_started));
  if left_line < cardinality(v_begun) + (select count(*) from unnest(p_endings) e where e.kind = 'returned' or (e.kind = 'completed' and e.started_ms is not null)) then
    -- What is over is anybody's at once; that it was in hand until now is told with its start. A run that is refused goes on for a moment: its lane stays in hand.
    update chat_lanes l set taken_until = p_at, taken_claim = null from unnest(p_endings) e
    where (e.started_ms is not null or e.kind = 'returned') and l.chat_id = e.chat_id and l.fence = e.fence and l.taken_claim = e.claim_id;
    -- One whose start went on record with an answer that was lost is not refused.
    select array_agg(b.job_id) filter (where j.id is not null), array_agg(b.job_id) filter (where j.id is null) into on_record, refused
    from unnest(p_begun) b left join build_jobs j on j.id = b.job_id and j.chat_id = b.chat_id and (j.status = 'running') is true and j.fence = b.fence and j.claim_id = b.claim_id;
  end if;
end $$;

-- turn: ends attempts, then claims up to p_want lanes from the head of the line and starts their heads, and takes up to p_ahead
-- more of them ahead of free slots, for p_hand_ms. p_begun: runs of such lanes that began since.
create function buildlane_turn(p_node text, p_claim_id text, p_endings json, p_want integer, p_losses_max integer, p_lock_ms integer default null,
  p_now double precision default null, p_line_from double precision default null, p_begun json default null, p_ahead integer default 0, p_hand_ms double precision default 0)
returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_endings buildlane_ending[];
  v_built integer[];
  v_settled json := '[]';
  v_pending bigint := 0;
  v_completed bigint := 0;
  v_failed bigint := 0;
  v_claims json := '[]';
  v_more json;
  v_taken json;
  v_at timestamptz;
  v_allowed integer := p_want;
  v_left integer;
  v_chats text[];
  v_bad_ids text[];
  v_bad_failures jsonb[];
  v_started integer;
  -- Turns of a node may be under way beside one another, each on a connection of its own: they must not wait for one row.
  v_counter text := 'turn' || pg_backend_pid() % 4;
  v_slots integer;
  v_is_paused boolean;
  v_is_capped boolean;
  v_is_quarantining boolean;
  v_setting text;
  v_begun buildlane_begun[];
  v_ahead record;
  v_on_record text[];
  v_refused text[];
  v_left_line bigint := 0;
begin
  if p_lock_ms is not null then
    v_setting := set_config('lock_timeout', p_lock_ms::text, true);
  end if;
  if p_endings is not null then
    select array_agg(e) into v_endings from json_populate_recordset(null::buildlane_ending, p_endings) e;
    perform 1 from chat_lanes l where l.chat_id in (select e.chat_id from unnest(v_endings) e) order by l.chat_id for update;
  end if;
  if p_begun is not null then
    -- Not worth a wait: who holds a lane here holds up the record of its start, and nothing else.
    select array_agg(b) into v_begun from json_populate_recordset(null::buildlane_begun, p_begun) b
    where exists (select 1 from chat_lanes l where l.chat_id = b.chat_id for update skip locked);
  end if;
  v_at := buildlane_now(p_now);
  if v_begun is not null or exists (select 1 from unnest(v_endings) e where e.started_ms is not null or e.kind = 'returned') then
    select * into v_ahead from buildlane_record_ahead(p_node, v_begun, v_endings, v_at, buildlane_ms(p_hand_ms));
    v_built := v_ahead.through;
    v_on_record := v_ahead.on_record;
    v_refused := v_ahead.refused;
    v_left_line := v_ahead.left_line;
  end if;
  if cardinality(v_endings) > coalesce(cardinality(v_built), 0) then
    v_built := v_built || buildlane_complete(v_endings, v_at);
    if coalesce(cardinality(v_built), 0) < cardinality(v_endings) then
      select e.answer, e.pending, e.failed into v_settled, v_pending, v_failed from buildlane_end(p_node, v_endings, p_losses_max, v_at) e;
    end if;
  end if;
  v_completed := coalesce(cardinality(v_built), 0);
  v_pending := v_pending - v_left_line;
  -- After the settling took its time, so that a slot's attempts never overlap (P6).
  v_at := buildlane_now(p_now);
  -- In one statement: each costs as much as a row.
  select (select slots from build_nodes where id = p_node and lease_until > v_at), paused_at is not null, cap_binds,
    exists (select 1 from code_crashes where quarantined_at is not null)
  into v_slots, v_is_paused, v_is_capped, v_is_quarantining from queue_state;
  if v_is_paused or v_slots is null then
    v_allowed := 0;
  elsif v_is_capped then
    v_allowed := buildlane_allow(p_node, v_allowed, v_at);
  end if;
  v_left := v_allowed;
  while v_left > 0 loop
    v_chats := buildlane_next_lanes(v_left, v_at, p_line_from);
    exit when v_chats is null;

    if v_is_quarantining then
      select array_agg(j.id), array_agg(buildlane_failure(q.cause,
          case when q.cause = 'node_lost' then 'This code was quarantined: the nodes that ran it were lost.' else 'This code was quarantined: it crashed its worker twice.' end, true))
      into v_bad_ids, v_bad_failures
      from chat_lanes l join build_jobs j on j.id = l.head_id join code_crashes q on q.code_hash = j.code_hash and q.quarantined_at is not null
      where l.chat_id = any (v_chats);
      if v_bad_ids is not null then
        v_chats := array(select l.chat_id from chat_lanes l where l.chat_id = any (v_chats) and l.head_id <> all (v_bad_ids) order by l.turn_at, l.chat_id);
        perform buildlane_fail_pending(p_node, v_bad_ids, v_bad_failures, v_at);
      end if;
    end if;

    with l as (
      select * from chat_lanes where chat_id = any (v_chats)
    ), started as (
      update build_jobs j set status = 'running', attempt = j.attempt + 1, started_at = greatest(v_at, l.settled_at),
        owner = p_node, fence = l.fence + 1, claim_id = p_claim_id
      from l where j.id = l.head_id and (j.status = 'pending') is true
      returning j.id, j.chat_id, j.chat_seq, j.attempt, j.fence, j.started_at, l.turn_at as waited_since, l.taken_until,
        json_build_object('id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'attempt', j.attempt,
          'code', j.code, 'files', j.files, 'entry', j.entry, 'options', j.options, 'priority', j.priority, 'maxAttempts', j.max_attempts, 'timeoutMs', j.timeout_ms,
          'traceparent', j.traceparent, 'spent', j.spent, 'strikes', j.strikes, 'fence', j.fence, 'startedAt', j.started_at) as claim
    ), lane as (
      update chat_lanes l set state = 'running', owner = p_node, fence = l.fence + 1, claim_id = p_claim_id, taken_until = null, taken_claim = null, pending = l.pending - 1,
        head_id = null, head_rank = null, ready_at = null, turn_at = null, event_tail = l.event_tail + 1
      from started s where l.chat_id = s.chat_id
      returning s.*, l.event_tail
    ), events as (
      insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
      select s.chat_id, s.event_tail, 'job.started', s.id, s.chat_seq, 'running', s.attempt, s.started_at,
        jsonb_build_object('nodeId', p_node, 'slots', v_slots, 'fence', s.fence) || case when s.taken_until is null then '{}'::jsonb else jsonb_build_object('inHandUntil', buildlane_iso(s.taken_until)) end
      from lane s
    )
    select json_agg(claim order by waited_since, chat_id), count(*)
    into v_more, v_started from lane;

    if v_started > 0 then
      v_claims := case when v_left = v_allowed then v_more else (select json_agg(x) from (select json_array_elements(v_claims) as x union all select json_array_elements(v_more)) both_claims) end;
      v_left := v_left - v_started;
    end if;
    -- Another round only when quarantined heads took places that the next in line may have.
    exit when v_bad_ids is null;
    v_bad_ids := null;
  end loop;

  -- Where a start needs more than its turn in line, a permit of the cluster's or a tenant's share, nothing is taken ahead of it.
  if p_ahead > 0 and v_left <= 0 and v_slots is not null and not (v_is_paused or v_is_capped) and not exists (select 1 from tenant_shares) then
    v_taken := buildlane_take_ahead(p_claim_id, p_ahead, v_slots, v_at, v_at + buildlane_ms(p_hand_ms), p_line_from, v_is_quarantining);
  end if;
  if v_is_capped and (p_endings is not null or v_allowed > 0) then
    perform buildlane_yield_permits(p_node);
  end if;
  perform buildlane_count(p_node, v_counter, v_pending + v_left - v_allowed, v_completed, v_failed);
  return json_build_object('built', v_built, 'settled', v_settled, 'claims', v_claims, 'taken', v_taken, 'onRecord', v_on_record, 'refused', v_refused, 'atMs', extract(epoch from v_at) * 1000);
end $$;

-- accept, and what a turn would start then for free slots, in one step: a job that need not wait starts with its acceptance.
-- Starts nothing beside replays. p_is_plain: it is one job, without priority or delay; the caller knows, and to look costs a parse.
create function buildlane_accept_and_start(
  p_node text, p_verb text, p_jobs json, p_keys json, p_aging_ms double precision,
  p_pending_max integer, p_queue_max bigint, p_rate_burst integer, p_rate_interval_ms double precision, p_claim_id text, p_want integer, p_is_plain boolean,
  p_lock_ms integer default null, p_now double precision default null, p_line_from double precision default null
) returns json language plpgsql as $$
declare
  v_accepted json := buildlane_accept(p_node, p_verb, p_jobs, p_keys, p_aging_ms, p_pending_max, p_queue_max, p_rate_burst, p_rate_interval_ms, p_lock_ms, p_now,
    case when p_is_plain then p_claim_id end, p_line_from);
  v_claims json := '[]';
begin
  -- What was written as running has its claim with it.
  if p_is_plain and v_accepted -> 'claims' is not null then
    return v_accepted;
  end if;
  if p_keys is null or (v_accepted -> 'told' -> 0 ->> 'replayed')::boolean is not true then
    v_claims := buildlane_turn(p_node, p_claim_id, null, p_want, 0, p_lock_ms, p_now, p_line_from) -> 'claims';
  end if;
  return json_build_object('fresh', v_accepted -> 'fresh', 'told', v_accepted -> 'told', 'claims', v_claims);
end $$;

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
begin
  insert into build_nodes as n (id, slots, draining, cluster_cap, started_at, lease_until)
  values (p_node, p_slots, p_draining, p_cluster_cap, v_at, v_at + buildlane_ms(p_lease_ms))
  on conflict (id) do update set slots = excluded.slots, draining = excluded.draining, cluster_cap = excluded.cluster_cap, lease_until = excluded.lease_until, left_at = null;
  perform buildlane_set_cap(v_at);
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

create function buildlane_cancel(p_node text, p_tenant text, p_id text, p_now double precision default null) returns json language plpgsql set lock_timeout = '5s' as $$
declare
  v_chat text;
  v_job build_jobs%rowtype;
  v_at timestamptz;
begin
  select chat_id into v_chat from build_jobs where id = p_id and (p_tenant is null or tenant = p_tenant);
  perform 1 from chat_lanes where chat_id = v_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_job from build_jobs where id = p_id and chat_id = v_chat;
  if v_job.id is null then
    return json_build_object('kind', 'unknown');
  elsif v_job.status = 'pending' then
    perform buildlane_fail_pending(p_node, array[p_id], array[buildlane_failure('cancelled', 'Cancelled before it ran.', false)], v_at);
    return json_build_object('kind', 'cancelled', 'chatId', v_chat);
  elsif v_job.status = 'running' then
    if v_job.cancel_requested_at is null then
      update build_jobs set cancel_requested_at = v_at where id = p_id;
      update chat_lanes set event_tail = event_tail + 1 where chat_id = v_chat;
      insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at)
      select v_chat, event_tail, 'job.cancelRequested', v_job.id, v_job.chat_seq, 'running', v_job.attempt, greatest(v_at, v_job.started_at) from chat_lanes where chat_id = v_chat;
    end if;
    return json_build_object('kind', 'requested', 'chatId', v_chat, 'nodeId', v_job.owner);
  elsif v_job.failure_code = 'cancelled' then
    return json_build_object('kind', 'already');
  end if;
  return json_build_object('kind', 'final', 'status', v_job.status);
end $$;

create function buildlane_redrive(p_node text, p_tenant text, p_id text, p_aging_ms double precision, p_delay_ms double precision, p_now double precision default null) returns json language plpgsql set lock_timeout = '5s' as $$
declare
  v_chat text;
  v_at timestamptz;
  v_job build_jobs%rowtype;
  v_lane chat_lanes%rowtype;
begin
  select chat_id into v_chat from build_jobs where id = p_id and (p_tenant is null or tenant = p_tenant);
  perform 1 from chat_lanes where chat_id = v_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_job from build_jobs where id = p_id and chat_id = v_chat;
  if v_job.id is null then
    return json_build_object('kind', 'unknown');
  elsif v_job.status <> 'failed' then
    return json_build_object('kind', 'notFailed', 'status', v_job.status);
  end if;
  update chat_lanes l set place_tail = l.place_tail + 1, event_tail = l.event_tail + 1, pending = l.pending + 1, accepted_at = greatest(l.accepted_at, v_at),
    mixed = l.mixed or v_job.priority <> 0,
    -- An idle lane must not be idle with a job, not even for a statement.
    state = case when l.state = 'idle' then 'ready' else l.state end,
    head_id = case when l.state = 'idle' then p_id else l.head_id end, head_rank = case when l.state = 'idle' then v_at else l.head_rank end,
    ready_at = case when l.state = 'idle' then v_at else l.ready_at end, turn_at = case when l.state = 'idle' then v_at else l.turn_at end
  where l.chat_id = v_chat returning * into v_lane;
  update build_jobs set status = 'pending', place = v_lane.place_tail, rank = v_lane.accepted_at - priority * buildlane_ms(p_aging_ms), run_at = v_at + buildlane_ms(p_delay_ms),
    spent = 0, strikes = 0, node_losses = 0, completed_at = null, stamp = null, copied_from = null, error = null, failure = null, failure_code = null, cancel_requested_at = null, discarded_at = null, superseded_by = null
  where id = p_id returning * into v_job;
  insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at)
  values (v_chat, v_lane.event_tail, 'job.redriven', p_id, v_job.chat_seq, 'pending', v_job.attempt, v_lane.accepted_at);
  -- A chat that was held for this job goes on with it.
  if v_lane.held_by = p_id then
    update chat_lanes set paused_at = null, held_by = null, event_tail = event_tail + 1 where chat_id = v_chat;
    insert into job_events (chat_id, number, type, at) values (v_chat, v_lane.event_tail + 1, 'chat.resumed', v_lane.accepted_at);
  end if;
  perform buildlane_line_up(array[v_chat], v_at);
  perform buildlane_count(p_node, 'redrive', 1, 0, 0);
  return json_build_object('kind', 'redriven', 'job', json_build_object('id', v_job.id, 'chatId', v_chat, 'messageId', v_job.message_id, 'chatSeq', v_job.chat_seq,
    'status', 'pending', 'createdAt', v_job.created_at, 'queuePosition', buildlane_position(v_chat, v_job.rank, v_job.place)));
end $$;

create function buildlane_pause_chat(p_chat text, p_paused boolean, p_now double precision default null) returns boolean language plpgsql set lock_timeout = '5s' as $$
declare
  v_at timestamptz;
  v_lane chat_lanes%rowtype;
begin
  perform 1 from chat_lanes where chat_id = p_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_lane from chat_lanes where chat_id = p_chat;
  if v_lane.chat_id is null then
    return false;
  end if;
  -- From now on the pause is a person's own.
  update chat_lanes set held_by = null where chat_id = p_chat and held_by is not null;
  if (v_lane.paused_at is not null) <> p_paused then
    update chat_lanes set paused_at = case when p_paused then v_at end, event_tail = event_tail + 1 where chat_id = p_chat;
    insert into job_events (chat_id, number, type, at) values (p_chat, v_lane.event_tail + 1, case when p_paused then 'chat.paused' else 'chat.resumed' end, v_at);
    perform buildlane_line_up(array[p_chat], v_at);
  end if;
  return true;
end $$;
