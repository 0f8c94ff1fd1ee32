-- The reads that are asked for most: one job, the view of a chat, and what a job waits for. Each is one function, since sent as text a read is
-- planned at each call, and that planning was most of what it cost. Their settings are those of the hot verbs, for the same
-- reasons (0002_verbs.sql). Stable: all statements of one call see one moment.

-- Jobs by id, in the order asked for, each with its attempts' events and what its lane says of it. Code and result are large, so
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
        case when j.attempt > 0 then (select json_agg(json_build_object('type', e.type, 'attempt', e.attempt, 'at', e.at, 'data', e.data) order by e.number)
          from job_events e where e.job_id = j.id and e.attempt > 0) end as attempts
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
      'lanesAhead', case when l.state not in ('ready', 'delayed') then 0 else (select count(*) from chat_lanes o where o.state = 'ready' and o.tenant = l.tenant and (o.turn_at, o.chat_id) < (l.turn_at, l.chat_id))
          + (select count(*) from chat_lanes o where o.state = 'delayed' and o.ready_at <= v_at and o.tenant = l.tenant and (o.turn_at, o.chat_id) < (l.turn_at, l.chat_id)) end,
      'nodes', (select json_build_object('alive', count(*), 'claiming', count(*) filter (where not n.draining), 'slots', least(coalesce(sum(n.slots) filter (where not n.draining), 0), (select cluster_cap from queue_state)),
          'running', (select count(*) from chat_lanes where owner is not null)) from build_nodes n where n.lease_until > v_at))
    from build_jobs j join chat_lanes l on l.chat_id = j.chat_id where j.id = p_id and (p_tenant is null or j.tenant = p_tenant)
  );
end $$;

-- Figures of the whole queue, of one tenant, or of what belongs to none: three functions of one text, since each reads indexes of its own.
-- Totals come from running counters, and a tenant's are the sums of its lanes'; spreads come from the latest p_sample finished jobs, the
-- longest wait from the first p_line lanes in line, and what may be many is counted to p_counted: the cost grows neither
-- with history nor with what waits. Nothing is sorted for its order: before statistics say otherwise the planner takes all that ever
-- finished for few, and sorts them. Whether a job started is asked by its duration: by the column, it takes those that finished for as few as started among
-- all that wait.
do $make$
declare
  v_sums text := 'select coalesce(sum(pending), 0) as pending, coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed from ';
  v_form record;
begin
  for v_form in select * from (values
    ('all', 'true', v_sums || 'build_counters', 'select buildlane_waiting_tenants()'),
    ('tenant', $$tenant = p_tenant and tenant <> ''$$, v_sums || $$chat_lanes where tenant = p_tenant and tenant <> ''$$, 'select p_tenant'),
    ('default', $$tenant = ''$$, format($$select a.pending - t.pending as pending, a.completed - t.completed as completed, a.failed - t.failed as failed from (%sbuild_counters) a, (%schat_lanes where tenant <> '') t$$, v_sums, v_sums), $$select ''::text$$)
  ) as forms (name, mine, totals, tenants) loop
    execute replace(replace(replace(replace($text$
create function buildlane_stats_of_{name}(p_tenant text, p_counted integer, p_sample integer, p_line integer, p_now double precision) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_at timestamptz := buildlane_now(p_now);
begin
  return (
    with latest as (
      select status, completed_at, (extract(epoch from completed_at - started_at) * 1000)::float8 as processing_ms, (extract(epoch from started_at - created_at) * 1000)::float8 as waiting_ms
      from build_jobs where status in ('completed', 'failed') and (completed_at - started_at) is not null and {mine} order by completed_at desc limit p_sample
    )
    select json_build_object(
      'totals', (select json_build_object('pending', pending, 'completed', completed, 'failed', failed) from ({totals}) sums),
      'sample', (select json_build_object('count', count(*), 'completed', count(*) filter (where status = 'completed'),
          'lastMinute', count(*) filter (where completed_at > v_at - interval '1 minute'), 'spanMs', extract(epoch from v_at - min(completed_at)) * 1000, 'average', avg(processing_ms),
          'processing', percentile_cont(array[0.5, 0.9, 0.95, 0.99]) within group (order by processing_ms),
          'waiting', percentile_cont(array[0.5, 0.95, 0.99]) within group (order by waiting_ms)) from latest),
      'running', (select count(*) from chat_lanes where owner is not null and {mine}),
      'ready', least(p_counted, (select count(*) from (select 1 from chat_lanes where state = 'ready' and {mine} limit p_counted) counted)
        + (select count(*) from (select 1 from chat_lanes where state = 'delayed' and ready_at <= v_at and {mine} limit p_counted) counted)),
      'delayed', (select count(*) from (select 1 from chat_lanes where state = 'delayed' and ready_at > v_at and {mine} limit p_counted) counted),
      'paused', (select count(*) from (select 1 from chat_lanes where state = 'paused' and paused_at is not null and {mine} limit p_counted) counted),
      -- What is delayed on purpose does not wait yet. A look-up for each, not a join: how many there are is not known to the planner, and
      -- it would read every job.
      'oldestMs', (select extract(epoch from v_at - min((select greatest(j.created_at, j.run_at) from build_jobs j where j.id = h.head_id))) * 1000 from (
          select head_id from ({tenants}) t (tenant)
            cross join lateral (select head_id from chat_lanes l where l.state = 'ready' and l.tenant = t.tenant order by l.turn_at limit p_line) ready
          union all select head_id from (select head_id from chat_lanes where state = 'delayed' and ready_at <= v_at and {mine} order by ready_at limit p_line) due) h),
      'deadLetters', (select count(*) from (select 1 from build_jobs where status = 'failed' and failure_code not in ('cancelled', 'superseded') and discarded_at is null and {mine} limit p_counted) counted),
      'queuePaused', (select paused_at is not null from queue_state),
      'clusterCap', (select cluster_cap from queue_state),
      'nodes', (select coalesce(json_agg(json_build_object('id', n.id, 'slots', n.slots, 'draining', n.draining, 'startedAt', n.started_at, 'alive', n.lease_until > v_at,
          'running', (select count(*) from chat_lanes l where l.owner = n.id)) order by n.started_at, n.id), '[]'::json) from build_nodes n)
    )
  );
end $$
    $text$, '{name}', v_form.name), '{mine}', v_form.mine), '{totals}', v_form.totals), '{tenants}', v_form.tenants);
  end loop;
end $make$;
