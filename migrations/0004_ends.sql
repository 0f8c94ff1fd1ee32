-- Jobs on their way out: ends of attempts, and ends without a run (the rules of 0002_verbs.sql).

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
    insert into code_crashes as c (code_hash, crashes, cause, crashed_at, quarantined_at)
    select distinct on (code_hash) code_hash, crashes, cause, p_at, case when fatal or crashes >= 2 then p_at end
    from crash where fatal or crashes > 0 order by code_hash, fatal desc
    on conflict (code_hash) do update set
      crashes = c.crashes + excluded.crashes,
      cause = case when c.quarantined_at is null then excluded.cause else c.cause end,
      crashed_at = greatest(c.crashed_at, excluded.crashed_at),
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
