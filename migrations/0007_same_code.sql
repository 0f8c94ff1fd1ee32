-- Same code, same answer. A finished job whose outcome any build of its code would have carries a stamp: of engine,
-- packages, limits and tenant. No outcome is kept twice for this: what the retention or an erasure removes is forgotten.

-- The latest outcome of the same code with the same stamp; else a job of the same code and tenant that has been running
-- since before the asker started, so that of several that start together all wait for the first, and none in a circle.
create function buildlane_known(p_hash text, p_stamp text, p_age_ms double precision, p_job text, p_own_failures text[], p_now double precision default null) returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
declare
  v_answer json;
begin
  select json_build_object('kind', 'known', 'id', j.id, 'result', j.result, 'sourceMap', j.source_map, 'warnings', j.warnings, 'externals', j.externals,
    'failure', j.failure, 'error', j.error, 'from', j.copied_from) into v_answer
  from build_jobs j
  where j.code_hash = p_hash and j.stamp = p_stamp and j.completed_at > buildlane_now(p_now) - buildlane_ms(p_age_ms)
    and (j.status = 'completed' or j.status = 'failed' and j.failure_code = any (p_own_failures))
  order by j.completed_at desc, j.id desc limit 1;
  if v_answer is null then
    select json_build_object('kind', 'running', 'jobId', r.id) into v_answer
    from build_jobs a join build_jobs r on r.status = 'running' and r.code_hash = p_hash and r.id <> a.id
      and split_part(chr(31) || r.chat_id, chr(31), case when strpos(r.chat_id, chr(31)) > 0 then 2 else 1 end) = split_part(chr(31) || a.chat_id, chr(31), case when strpos(a.chat_id, chr(31)) > 0 then 2 else 1 end)
      and (r.started_at, r.id) < (a.started_at, a.id)
    where a.id = p_job and a.status = 'running'
    order by r.started_at, r.id limit 1;
  end if;
  return coalesce(v_answer, '{"kind": "unknown"}'::json);
end $$;
