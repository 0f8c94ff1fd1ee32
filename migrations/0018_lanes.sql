-- The lanes as a picture, in functions that are planned once, like the other reads (0017_reads.sql) and with the same settings: sent as
-- text, this one was planned for a millisecond at each call.

-- Lanes as a picture, by their keys: each with its latest finished jobs (newest first), its running one, and its first pending ones.
-- Arrays, not objects, and times as they are: the keys' names and the API's form of times were half of what the picture cost.
create function buildlane_lane_views(p_groups integer[], p_chats text[], p_finished integer, p_pending integer, p_at timestamptz) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  return (
    select coalesce(json_agg(json_build_array(a.grp, l.chat_id, case when l.state = 'delayed' and l.ready_at <= p_at then 'ready' else l.state end, l.paused_at is not null, l.event_tail, l.pending, l.owner, l.held_by,
      (select json_agg(json_build_array(j.id, j.chat_seq, j.message_id, j.status, j.attempt, j.max_attempts, j.priority, j.created_at, j.started_at, j.completed_at, null, j.failure_code) order by j.completed_at desc, j.chat_seq desc)
        from (select * from build_jobs where chat_id = l.chat_id and status in ('completed', 'failed') order by completed_at desc, chat_seq desc limit p_finished) j),
      (select json_agg(json_build_array(j.id, j.chat_seq, j.message_id, j.status, j.attempt, j.max_attempts, j.priority, j.created_at, j.started_at, j.completed_at, null, j.failure_code))
        from build_jobs j where j.chat_id = l.chat_id and j.status = 'running'),
      (select json_agg(json_build_array(j.id, j.chat_seq, j.message_id, j.status, j.attempt, j.max_attempts, j.priority, j.created_at, j.started_at, j.completed_at, case when j.run_at > p_at then j.run_at end, j.failure_code) order by j.rank, j.place)
        from (select * from build_jobs where chat_id = l.chat_id and status = 'pending' order by rank, place limit p_pending) j)
    ) order by a.ord), '[]')
    from unnest(p_groups, p_chats) with ordinality as a (grp, chat_id, ord)
    join chat_lanes l on l.chat_id = a.chat_id
  );
end $$;

-- A page of lanes in groups: 0 paused, 1 delayed, 2 at work or in line, 3 idle and used lately (among p_latest finished jobs); behind
-- p_chat of p_group. A group is looked at when those before did not fill the page. Each arm reads a partial index, or walks the
-- chats in their order where most are in the group: for that choice the planner must know that few are wanted, so they come by 201,
-- the largest page and one more.
do $make$
declare
  v_form record;
begin
  for v_form in select * from (values ('all', 'true'), ('tenant', $$tenant = p_tenant and tenant <> ''$$), ('default', $$tenant = ''$$)) as forms (name, mine) loop
    execute replace(replace($text$
create function buildlane_lanes_of_{name}(p_tenant text, p_group integer, p_chat text, p_limit integer, p_latest integer, p_finished integer, p_pending integer, p_now double precision) returns json language plpgsql stable
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_group integer := p_group;
  v_from text := p_chat;
  v_found text[];
  v_groups integer[] := '{}';
  v_chats text[] := '{}';
begin
  while v_group <= 3 and cardinality(v_chats) < p_limit loop
    v_found := case v_group
      when 0 then array(select chat_id from chat_lanes where state = 'paused' and paused_at is not null and chat_id > v_from and {mine} order by chat_id limit 201)
      when 1 then array(select chat_id from chat_lanes where state = 'delayed' and ready_at > v_at and chat_id > v_from and {mine} order by chat_id limit 201)
      when 2 then array(select chat_id from (
        (select chat_id from chat_lanes where state = 'delayed' and ready_at <= v_at and chat_id > v_from and {mine} order by chat_id limit 201)
        union all (select chat_id from chat_lanes where state = 'ready' and chat_id > v_from and {mine} order by chat_id limit 201)
        union all (select chat_id from chat_lanes where owner is not null and chat_id > v_from and {mine} order by chat_id limit 201)) g order by chat_id limit 201)
      else array(select chat_id from chat_lanes where state = 'idle' and chat_id > v_from and {mine}
        and chat_id in (select chat_id from (select chat_id from build_jobs where status in ('completed', 'failed') and {mine} order by completed_at desc limit p_latest) latest) order by chat_id limit 201)
    end;
    v_chats := v_chats || v_found;
    v_groups := v_groups || array_fill(v_group, array[cardinality(v_found)]);
    v_from := case when cardinality(v_found) = 201 then v_found[201] else '' end;
    v_group := case when v_from = '' then v_group + 1 else v_group end;
  end loop;
  return buildlane_lane_views(v_groups[:p_limit], v_chats[:p_limit], p_finished, p_pending, v_at);
end $$
    $text$, '{name}', v_form.name), '{mine}', v_form.mine);
  end loop;
end $make$;

-- Just these.
create function buildlane_lanes_named(p_chats text[], p_finished integer, p_pending integer, p_now double precision) returns json language sql stable as $$
  select buildlane_lane_views(array_fill(0, array[cardinality(found.chats)]), found.chats, p_finished, p_pending, buildlane_now(p_now))
  from (select array(select chat_id from chat_lanes where chat_id = any (p_chats) order by chat_id) as chats) found
$$;
