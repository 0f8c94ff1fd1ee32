-- What is no longer kept. Small steps: at most p_batch jobs, and of no lane that is busy now, so that nothing that works
-- on a lane ever waits for it.

create index build_jobs_superseded on build_jobs (completed_at) where status = 'failed' and failure_code = 'superseded';
-- Few: events of a chat itself, oldest first, and each kind's in their chat. The first has the time alone, or PostgreSQL 18 would
-- skip through it, over all times, to find a chat's.
create index job_events_of_chats on job_events (at) where job_id is null;
create index job_events_of_chat on job_events (chat_id, (case type when 'chat.resumed' then 'chat.paused' else type end), number) where job_id is null;
create index code_crashes_once on code_crashes (crashed_at) where quarantined_at is null;

-- Old events of a chat itself go once a later one of their kind stands in for them: the latest pause or resume and the
-- latest policy are the chat's state. Both must stand before all events of jobs that are kept, or whoever checks the
-- history would not know the state that those jobs began in. Those that may not go must not hinder those behind them: a
-- step looks at the next p_batch from the cursor on, each by a few index entries, however many its chat has.
create function buildlane_prune_chats(p_aged timestamptz, p_batch integer, p_cursor text, out removed bigint, out next_cursor text) language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_from json := p_cursor::json;
  v_chats text[];
  v_numbers bigint[];
begin
  with seen as (
    select at, chat_id, number, type from job_events
    where job_id is null and at <= p_aged
      and (at, chat_id, number) > (coalesce((v_from ->> 0)::timestamptz, '-infinity'), coalesce(v_from ->> 1, ''), coalesce((v_from ->> 2)::bigint, 0))
    order by at, chat_id, number limit p_batch
  ), replaced as (
    select s.chat_id, s.number from seen s
    -- A chat's jobs were accepted in the order of their numbers, so the first event of its first job is the first of any.
    cross join lateral (
      select coalesce(min(e.number), 9223372036854775807) as number from job_events e
      where e.job_id = (select j.id from build_jobs j where j.chat_id = s.chat_id order by j.chat_seq limit 1)
    ) first
    where exists (
      select from job_events l where l.job_id is null and l.chat_id = s.chat_id and l.number > s.number and l.number < first.number
        and (case l.type when 'chat.resumed' then 'chat.paused' else l.type end) = (case s.type when 'chat.resumed' then 'chat.paused' else s.type end)
    )
  ), locked as (
    select l.chat_id from chat_lanes l where l.chat_id in (select chat_id from replaced) order by l.chat_id for update skip locked
  )
  select (select json_build_array(at, chat_id, number) from seen order by at, chat_id, number offset p_batch - 1), array_agg(r.chat_id), array_agg(r.number)
  into next_cursor, v_chats, v_numbers from replaced r join locked using (chat_id);
  with gone as (
    delete from job_events e using unnest(v_chats, v_numbers) g (chat_id, number) where e.chat_id = g.chat_id and e.number = g.number returning e.chat_id, e.number
  ), floors as (
    update chat_lanes l set event_floor = greatest(l.event_floor, f.number)
    from (select chat_id, max(number) as number from gone group by chat_id) f where l.chat_id = f.chat_id
  )
  select count(*) into removed from gone;
end $$;

-- prune: finished jobs beyond age go with their events. Of those beyond the count superseded ones go first, then the
-- oldest: what came after a superseded job says all that it could.
create function buildlane_prune(p_age_ms double precision, p_keep bigint, p_key_ms double precision, p_batch integer, p_cursor text default null, p_now double precision default null) returns json language plpgsql
set jit = off as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_aged timestamptz := v_at - buildlane_ms(p_age_ms);
  v_over timestamptz := (select completed_at from build_jobs where status in ('completed', 'failed') order by completed_at desc offset p_keep limit 1);
  v_count bigint := 0;
  v_ids text[];
  v_found bigint;
  v_of_chats record;
begin
  if v_over > v_aged then
    v_count := (select count(*) from (select 1 from build_jobs where status in ('completed', 'failed') and completed_at <= v_over order by completed_at limit p_batch) beyond);
  end if;
  with aged as (
    select id, chat_id from build_jobs where status in ('completed', 'failed') and completed_at <= v_aged order by completed_at limit p_batch
  ), superseded as (
    select id, chat_id from build_jobs where status = 'failed' and failure_code = 'superseded' and completed_at > v_aged
    order by completed_at limit greatest(0, v_count - (select count(*) from aged))
  ), oldest as (
    select id, chat_id from build_jobs where status in ('completed', 'failed') and completed_at > v_aged and failure_code is distinct from 'superseded'
    order by completed_at limit greatest(0, v_count - (select count(*) from aged) - (select count(*) from superseded))
  ), candidates as (
    select * from aged union all select * from superseded union all select * from oldest
  ), locked as (
    select l.chat_id from chat_lanes l where l.chat_id in (select chat_id from candidates) order by l.chat_id for update skip locked
  )
  select (select count(*) from candidates), array_agg(c.id) into v_found, v_ids from candidates c join locked l using (chat_id);
  if v_ids is not null then
    with gone as (
      -- As they were: one that was redriven meanwhile is not finished, or finished later.
      delete from build_jobs where id = any (v_ids) and status in ('completed', 'failed') and completed_at <= v_at returning id
    ), events as (
      delete from job_events e using gone g where e.job_id = g.id returning e.chat_id, e.number
    )
    update chat_lanes l set event_floor = greatest(l.event_floor, f.number)
    from (select chat_id, max(number) as number from events group by chat_id) f where l.chat_id = f.chat_id;
  end if;
  select * into v_of_chats from buildlane_prune_chats(v_aged, p_batch, p_cursor);
  delete from idempotency_keys where (scope, key) in (select scope, key from idempotency_keys where created_at < v_at - buildlane_ms(p_key_ms) order by created_at limit p_batch);
  -- The totals of dead nodes and of callers' own transactions live on in one row, so that rows do not grow with restarts.
  with dead as (
    delete from build_nodes n where n.lease_until < v_at - interval '1 minute' and not exists (select 1 from chat_lanes l where l.owner = n.id) returning n.id
  ), folded as (
    delete from build_counters c where c.node_id in (select id from dead) or c.verb like 'tx:%' returning c.pending, c.completed, c.failed
  )
  insert into build_counters as c (node_id, verb, pending, completed, failed)
  select '', 'folded', sum(pending), sum(completed), sum(failed) from folded having count(*) > 0
  on conflict (node_id, verb) do update set
    pending = c.pending + excluded.pending, completed = c.completed + excluded.completed, failed = c.failed + excluded.failed;
  -- An hour after its latest start a tenant begins anew, as one that was idle does anyway.
  delete from tenant_shares where served_at < v_at - interval '1 hour';
  -- What crashed once, long ago, begins anew. Last, since from here on somebody may wait: whoever records a crash of the same code.
  delete from code_crashes where code_hash in (
    select code_hash from code_crashes where quarantined_at is null and crashed_at <= v_aged order by crashed_at limit p_batch for update skip locked
  );
  -- A full look that found nothing to remove, or only lanes that are busy, is no reason to hurry.
  return json_strip_nulls(json_build_object('jobs', coalesce(cardinality(v_ids), 0), 'chatEvents', v_of_chats.removed,
    'more', v_found >= p_batch or v_of_chats.removed > 0 and v_of_chats.next_cursor is not null, 'cursor', v_of_chats.next_cursor));
end $$;
