-- Lanes taken ahead of free slots: what is taken, what of it began, what of it is over (docs/speed.md; the rules of 0002_verbs.sql).

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
      -- What began before it was cancelled and redriven is the run of what was cancelled.
      and (j.run_at <= j.created_at or buildlane_reckoned(b.started_ms, p_at) >= j.run_at)
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
      and (j.run_at <= j.created_at or buildlane_reckoned(e.started_ms, p_at) >= j.run_at)
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
create function buildlane_take_ahead(p_claim_id text, p_ahead integer, p_slots integer, p_at timestamptz, p_until timestamptz, p_line_from double precision, p_is_quarantining boolean, p_asks_code boolean) returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_nodes bigint := (select count(*) from build_nodes where lease_until > p_at);
  v_ahead bigint := p_ahead;
  v_most bigint;
  v_share bigint;
  v_chats text[];
  v_claims json;
begin
  -- Where others claim too, a turn takes no more than its node's part of half of a long line, and nothing of a short one: so whoever is in a hand has its turn before the others
  -- are through with the rest, and nobody has two turns meanwhile (P8).
  if v_nodes > 1 then
    -- Not counted further than it matters.
    v_most := 2 * v_nodes * greatest(p_ahead, 2 * p_slots);
    v_share := (select count(*) / (2 * v_nodes) from (
      (select 1 from chat_lanes where state = 'ready' limit v_most) union all (select 1 from chat_lanes where state = 'delayed' and ready_at <= p_at limit v_most)
      limit v_most) waiting);
    if v_share < 2 * p_slots then
      return null;
    end if;
    v_ahead := least(v_ahead, v_share);
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
      'traceparent', j.traceparent, 'spent', j.spent, 'strikes', j.strikes, 'fence', t.fence, 'startedAt', null, 'isNovel', case when p_asks_code then buildlane_is_novel(j.code_hash) end) order by t.ord)
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
