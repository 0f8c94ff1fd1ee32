-- What is no longer kept. Small steps: at most p_batch jobs, and of no lane that is busy now, so that nothing that works
-- on a lane ever waits for it.

create index build_jobs_superseded on build_jobs (completed_at) where status = 'failed' and failure_code = 'superseded';

-- prune: finished jobs beyond age go with their events. Of those beyond the count superseded ones go first, then the
-- oldest: what came after a superseded job says all that it could.
create function buildlane_prune(p_age_ms double precision, p_keep bigint, p_key_ms double precision, p_batch integer, p_now double precision default null) returns json language plpgsql
set jit = off as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_aged timestamptz := v_at - buildlane_ms(p_age_ms);
  v_over timestamptz := (select completed_at from build_jobs where status in ('completed', 'failed') order by completed_at desc offset p_keep limit 1);
  v_count bigint := 0;
  v_ids text[];
  v_found bigint;
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
  return json_build_object('jobs', coalesce(cardinality(v_ids), 0), 'more', v_found >= p_batch);
end $$;
