-- The reads that are asked for most: one job, the view of a chat, and what a job waits for. Each is one function, since sent as text a read is
-- planned at each call, and that planning was most of what it cost. Their settings are those of the hot verbs, for the same
-- reasons (0002_verbs.sql). Stable: all statements of one call see one moment.

-- Jobs by id, in the order asked for, each with its events and what its lane says of it. Code and result are large, so
-- they come only when wanted, the source map never. p_first: the pending ones are the first of their chat, in order.
create function buildlane_jobs(p_ids text[], p_code boolean, p_result boolean, p_first boolean) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return (
    select coalesce(json_agg(row_to_json(x) order by x.ord), '[]')
    from (
      select a.ord, j.id, j.chat_id as "chatId", j.message_id as "messageId", j.chat_seq as "chatSeq", j.priority, j.status, j.attempt, j.max_attempts as "maxAttempts",
        j.created_at as "createdAt", j.started_at as "startedAt", j.completed_at as "completedAt", j.run_at as "runAt",
        case when p_code then j.code end as code, case when p_code then j.files end as files, case when p_result then j.result end as result,
        j.entry, j.options, j.warnings, j.externals, j.error, j.failure, j.superseded_by as "supersededBy", j.copied_from as "copiedFrom",
        case when j.status <> 'pending' then 0
          when p_first then a.ord + case when l.owner is null then 0 else 1 end
          else buildlane_position(j.chat_id, j.rank, j.place) end as position,
        l.paused_at is not null as "chatPaused", buildlane_iso(l.ready_at) as "chatReadyAt",
        (select json_agg(json_build_object('number', e.number, 'type', e.type, 'jobId', e.job_id, 'chatSeq', e.chat_seq, 'status', e.status, 'attempt', e.attempt, 'at', e.at, 'data', e.data) order by e.number)
          from job_events e where e.job_id = j.id) as events
      from unnest(p_ids) with ordinality as a (id, ord)
      join build_jobs j on j.id = a.id
      left join chat_lanes l on l.chat_id = j.chat_id
    ) x
  );
end $$;

-- One job, if it is of the tenant and of the chat, where these are given.
create function buildlane_job(p_id text, p_tenant text, p_chat text) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  if not exists (select 1 from build_jobs where id = p_id and (p_tenant is null or tenant = p_tenant) and (p_chat is null or chat_id = p_chat)) then
    return '[]';
  end if;
  return buildlane_jobs(array[p_id], true, true, false);
end $$;

-- A chat's jobs: what is pending in running order, then what runs, then of each final status the newest.
create function buildlane_view(p_chat text, p_limit integer, p_code boolean, p_result boolean) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  return buildlane_jobs(
    array(select id from build_jobs where chat_id = p_chat and status = 'pending' order by rank, place limit p_limit)
      || array(select id from build_jobs where chat_id = p_chat and status = 'running' limit p_limit)
      || array(select id from build_jobs where chat_id = p_chat and status = 'completed' and status in ('completed', 'failed') order by completed_at desc, chat_seq desc limit p_limit)
      || array(select id from build_jobs where chat_id = p_chat and status = 'failed' and status in ('completed', 'failed') order by completed_at desc, chat_seq desc limit p_limit),
    p_code, p_result, true);
end $$;

create function buildlane_front(f build_jobs, p_at timestamptz) returns json language sql stable as $$
  select json_build_object('id', f.id, 'chatSeq', f.chat_seq, 'status', f.status, 'attempt', f.attempt, 'nextAttemptAt', case when f.status = 'pending' and f.run_at > p_at then buildlane_iso(f.run_at) end)
$$;

-- What a job waits for: its chat's front, the chats before its own in line, pauses, and who is there to run it.
create function buildlane_why(p_id text, p_tenant text, p_now double precision default null) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_at timestamptz := buildlane_now(p_now);
begin
  return (
    select json_build_object(
      'id', j.id, 'chatId', j.chat_id, 'status', j.status, 'attempt', j.attempt, 'startedAt', buildlane_iso(j.started_at), 'completedAt', buildlane_iso(j.completed_at),
      'failureCode', j.failure_code, 'nodeId', j.owner,
      'queuePosition', case when j.status = 'pending' then buildlane_position(j.chat_id, j.rank, j.place) else 0 end,
      'front', case when j.status = 'pending' then coalesce(
          (select buildlane_front(f, v_at) from build_jobs f where f.chat_id = j.chat_id and f.status = 'running'),
          (select buildlane_front(f, v_at) from build_jobs f where f.chat_id = j.chat_id and f.status = 'pending' order by f.rank, f.place limit 1)) end,
      'nextAttemptAt', case when j.status = 'pending' and j.run_at > v_at then buildlane_iso(j.run_at) end,
      'chatPaused', l.paused_at is not null, 'heldBy', l.held_by,
      'queuePaused', (select paused_at is not null from queue_state),
      'lanesAhead', case when l.turn_at is null then 0 else (select count(*) from chat_lanes o where o.state = 'ready' and o.tenant = l.tenant and (o.turn_at, o.chat_id) < (l.turn_at, l.chat_id))
          + (select count(*) from chat_lanes o where o.state = 'delayed' and o.ready_at <= v_at and o.tenant = l.tenant and (o.turn_at, o.chat_id) < (l.turn_at, l.chat_id)) end,
      'nodes', (select json_build_object('alive', count(*), 'claiming', count(*) filter (where not n.draining), 'slots', least(coalesce(sum(n.slots) filter (where not n.draining), 0), (select cluster_cap from queue_state)),
          'running', (select count(*) from chat_lanes where owner is not null)) from build_nodes n where n.lease_until > v_at))
    from build_jobs j join chat_lanes l on l.chat_id = j.chat_id where j.id = p_id and (p_tenant is null or j.tenant = p_tenant)
  );
end $$;
