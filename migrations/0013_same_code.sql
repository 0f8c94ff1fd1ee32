-- Same code, same answer. A finished job whose outcome any build of its code would have carries a stamp: of engine,
-- packages, limits and tenant. No outcome is kept twice for this: what the retention or an erasure removes is forgotten.

-- For each question, in their order: the latest outcome of the same code with the same stamp; else a job of the same code and
-- tenant that has been running since before the asker started, so that of several that start together all wait for the
-- first, and none in a circle.
create function buildlane_known(p_asked json, p_own_failures text[], p_now double precision default null) returns json language sql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
  select json_agg(coalesce(k.answer, r.answer, '{"kind": "unknown"}') order by a.ord)
  from rows from (json_to_recordset(p_asked) as (hash text, stamp text, job text, age_ms double precision)) with ordinality as a (hash, stamp, job, age_ms, ord)
  left join lateral (
    select json_build_object('kind', 'known', 'id', j.id, 'result', j.result, 'sourceMap', j.source_map, 'warnings', j.warnings, 'externals', j.externals,
      'failure', j.failure, 'error', j.error, 'from', j.copied_from) as answer
    from build_jobs j
    where j.code_hash = a.hash and j.stamp = a.stamp and j.completed_at > buildlane_now(p_now) - buildlane_ms(a.age_ms)
      and (j.status = 'completed' or j.status = 'failed' and j.failure_code = any (p_own_failures))
    order by j.completed_at desc, j.id desc limit 1
  ) k on true
  left join lateral (
    select json_build_object('kind', 'running', 'jobId', r.id) as answer
    from build_jobs asker join build_jobs r on r.status = 'running' and r.code_hash = a.hash and r.id <> asker.id and r.tenant = asker.tenant
      and (r.started_at, r.id) < (asker.started_at, asker.id)
    where k.answer is null and asker.id = a.job and asker.status = 'running'
    order by r.started_at, r.id limit 1
  ) r on true
$$;

-- Whether no other job of this code, whoever's, runs or has ended as any other would: then what `buildlane_known` would say is known.
create function buildlane_is_novel(p_hash text) returns boolean language sql stable as $$
  select not exists (select 1 from build_jobs j where j.code_hash = p_hash and j.stamp is not null)
    and not exists (select 1 from build_jobs j where j.status = 'running' and j.code_hash = p_hash)
$$;
