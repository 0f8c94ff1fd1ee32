-- What people ask of a whole chat: a policy for its order, an end to all its jobs, or to be forgotten. Each call holds the
-- lane's lock, like every verb that changes a lane (0002_verbs.sql).

create domain buildlane_while_retrying as text check (value in ('block', 'yield'));
create domain buildlane_after_failure as text check (value in ('skip', 'hold'));

alter table chat_lanes
  -- Whether later jobs pass one that backs off: then it stands where one accepted at its run_at would.
  add column while_retrying buildlane_while_retrying not null default 'block',
  -- Whether a job that failed for good pauses its chat.
  add column after_failure buildlane_after_failure not null default 'skip',
  -- The failed job for which the chat is paused; a person's own pause has none.
  add column held_by text collate "C",
  add constraint held_lanes_are_paused check (held_by is null or paused_at is not null);

-- Pauses the chats of jobs that have just failed, where their policy says so. The caller holds the lanes' locks.
create function buildlane_hold(p_jobs text[], p_at timestamptz) returns void language plpgsql as $$
declare
  v_chats text[];
begin
  with failed as (
    select distinct on (j.chat_id) j.chat_id, j.id, j.completed_at from build_jobs j
    where j.id = any (p_jobs) and (j.status = 'failed') is true and j.failure_code not in ('cancelled', 'superseded') order by j.chat_id, j.place
  ), held as (
    update chat_lanes l set paused_at = p_at, held_by = f.id, event_tail = l.event_tail + 1
    from failed f where l.chat_id = f.chat_id and l.after_failure = 'hold' and l.paused_at is null
    returning l.chat_id, l.event_tail, f.id, greatest(p_at, f.completed_at) as at
  ), events as (
    insert into job_events (chat_id, number, type, at, data)
    select chat_id, event_tail, 'chat.paused', at, jsonb_build_object('heldBy', id) from held
  )
  select array_agg(chat_id) into v_chats from held;
  if v_chats is not null then
    perform buildlane_line_up(v_chats, p_at);
  end if;
end $$;

-- Null leaves as it is. A chat without jobs may have a policy before its first.
create function buildlane_set_policy(p_chat text, p_while_retrying text, p_after_failure text, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz;
  v_lane chat_lanes%rowtype;
begin
  insert into chat_lanes (chat_id, tenant, accepted_at) values (p_chat, buildlane_tenant(p_chat), buildlane_now(p_now)) on conflict do nothing;
  select * into v_lane from chat_lanes where chat_id = p_chat for update;
  v_at := buildlane_now(p_now);
  if (v_lane.while_retrying, v_lane.after_failure) is distinct from (coalesce(p_while_retrying, v_lane.while_retrying), coalesce(p_after_failure, v_lane.after_failure)) then
    update chat_lanes set event_tail = event_tail + 1, while_retrying = coalesce(p_while_retrying, while_retrying), after_failure = coalesce(p_after_failure, after_failure)
    where chat_id = p_chat returning * into v_lane;
    insert into job_events (chat_id, number, type, at, data)
    values (p_chat, v_lane.event_tail, 'chat.policyChanged', v_at, jsonb_build_object('whileRetrying', v_lane.while_retrying, 'afterFailure', v_lane.after_failure));
  end if;
  return json_build_object('whileRetrying', v_lane.while_retrying, 'afterFailure', v_lane.after_failure);
end $$;

-- Ends all unfinished jobs of a chat: pending ones at once, the running one by request, like cancel.
create function buildlane_cancel_chat(p_node text, p_chat text, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz;
  v_ids text[];
  v_running text;
  v_answer json;
begin
  perform 1 from chat_lanes where chat_id = p_chat for update;
  if not found then
    return json_build_object('kind', 'unknown');
  end if;
  v_at := buildlane_now(p_now);
  select array_agg(id) into v_ids from build_jobs where chat_id = p_chat and status = 'pending';
  if v_ids is not null then
    perform buildlane_fail_pending(p_node, v_ids, array_fill(buildlane_failure('cancelled', 'Cancelled before it ran.', false), array[cardinality(v_ids)]), v_at);
  end if;
  select id into v_running from build_jobs where chat_id = p_chat and status = 'running';
  if v_running is not null then
    v_answer := buildlane_cancel(p_node, null, v_running, p_now);
  end if;
  return json_build_object('kind', 'done', 'cancelled', coalesce(cardinality(v_ids), 0), 'stopping',
    case when v_running is not null then json_build_object('chatId', p_chat, 'jobId', v_running, 'nodeId', v_answer ->> 'nodeId') end);
end $$;

-- Forgets a chat, once nothing of it runs; until then only cancels. The lane stays, so that no number is given twice.
create function buildlane_erase(p_node text, p_chat text, p_now double precision default null) returns json language plpgsql as $$
declare
  v_cancelled json := buildlane_cancel_chat(p_node, p_chat, p_now);
  v_count bigint;
begin
  if v_cancelled ->> 'kind' = 'unknown' then
    return v_cancelled;
  elsif v_cancelled ->> 'stopping' is not null then
    return json_build_object('kind', 'stopping', 'stopping', v_cancelled -> 'stopping');
  end if;
  delete from build_jobs where chat_id = p_chat;
  get diagnostics v_count = row_count;
  delete from job_events where chat_id = p_chat;
  update chat_lanes set event_floor = event_tail, event_tail = event_tail + 1, paused_at = null, held_by = null, while_retrying = 'block', after_failure = 'skip' where chat_id = p_chat;
  -- All that is left: that it was erased, for whoever watches it or keeps a copy.
  insert into job_events (chat_id, number, type, at) select chat_id, event_tail, 'chat.erased', buildlane_now(p_now) from chat_lanes where chat_id = p_chat;
  return json_build_object('kind', 'erased', 'jobs', v_count);
end $$;
