-- What people ask of one job or one chat (the rules of 0002_verbs.sql).

create function buildlane_cancel(p_node text, p_tenant text, p_id text, p_now double precision default null) returns json language plpgsql set lock_timeout = '5s' as $$
declare
  v_chat text;
  v_job build_jobs%rowtype;
  v_at timestamptz;
begin
  select chat_id into v_chat from build_jobs where id = p_id and (p_tenant is null or tenant = p_tenant);
  perform 1 from chat_lanes where chat_id = v_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_job from build_jobs where id = p_id and chat_id = v_chat;
  if v_job.id is null then
    return json_build_object('kind', 'unknown');
  elsif v_job.status = 'pending' then
    perform buildlane_fail_pending(p_node, array[p_id], array[buildlane_failure('cancelled', 'Cancelled before it ran.', false)], v_at);
    return json_build_object('kind', 'cancelled', 'chatId', v_chat);
  elsif v_job.status = 'running' then
    if v_job.cancel_requested_at is null then
      update build_jobs set cancel_requested_at = v_at where id = p_id;
      update chat_lanes set event_tail = event_tail + 1 where chat_id = v_chat;
      insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at)
      select v_chat, event_tail, 'job.cancelRequested', v_job.id, v_job.chat_seq, 'running', v_job.attempt, greatest(v_at, v_job.started_at) from chat_lanes where chat_id = v_chat;
    end if;
    return json_build_object('kind', 'requested', 'chatId', v_chat, 'nodeId', v_job.owner);
  elsif v_job.failure_code = 'cancelled' then
    return json_build_object('kind', 'already');
  end if;
  return json_build_object('kind', 'final', 'status', v_job.status);
end $$;

create function buildlane_redrive(p_node text, p_tenant text, p_id text, p_aging_ms double precision, p_delay_ms double precision, p_now double precision default null) returns json language plpgsql set lock_timeout = '5s' as $$
declare
  v_chat text;
  v_at timestamptz;
  v_job build_jobs%rowtype;
  v_lane chat_lanes%rowtype;
begin
  select chat_id into v_chat from build_jobs where id = p_id and (p_tenant is null or tenant = p_tenant);
  perform 1 from chat_lanes where chat_id = v_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_job from build_jobs where id = p_id and chat_id = v_chat;
  if v_job.id is null then
    return json_build_object('kind', 'unknown');
  elsif v_job.status <> 'failed' then
    return json_build_object('kind', 'notFailed', 'status', v_job.status);
  end if;
  update chat_lanes l set place_tail = l.place_tail + 1, event_tail = l.event_tail + 1, pending = l.pending + 1, accepted_at = greatest(l.accepted_at, v_at),
    mixed = l.mixed or v_job.priority <> 0,
    -- An idle lane must not be idle with a job, not even for a statement.
    state = case when l.state = 'idle' then 'ready' else l.state end,
    head_id = case when l.state = 'idle' then p_id else l.head_id end, head_rank = case when l.state = 'idle' then v_at else l.head_rank end,
    ready_at = case when l.state = 'idle' then v_at else l.ready_at end, turn_at = case when l.state = 'idle' then v_at else l.turn_at end
  where l.chat_id = v_chat returning * into v_lane;
  update build_jobs set status = 'pending', place = v_lane.place_tail, rank = v_lane.accepted_at - priority * buildlane_ms(p_aging_ms), run_at = v_at + buildlane_ms(p_delay_ms),
    spent = 0, strikes = 0, node_losses = 0, completed_at = null, stamp = null, copied_from = null, error = null, failure = null, failure_code = null, cancel_requested_at = null, discarded_at = null, superseded_by = null
  where id = p_id returning * into v_job;
  insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at)
  values (v_chat, v_lane.event_tail, 'job.redriven', p_id, v_job.chat_seq, 'pending', v_job.attempt, v_lane.accepted_at);
  -- A chat that was held for this job goes on with it.
  if v_lane.held_by = p_id then
    update chat_lanes set paused_at = null, held_by = null, event_tail = event_tail + 1 where chat_id = v_chat;
    insert into job_events (chat_id, number, type, at) values (v_chat, v_lane.event_tail + 1, 'chat.resumed', v_lane.accepted_at);
  end if;
  perform buildlane_line_up(array[v_chat], v_at);
  perform buildlane_count(p_node, 'redrive', 1, 0, 0);
  return json_build_object('kind', 'redriven', 'job', (select buildlane_accepted(j, v_at) from build_jobs j where j.id = p_id));
end $$;

create function buildlane_pause_chat(p_chat text, p_paused boolean, p_now double precision default null) returns boolean language plpgsql set lock_timeout = '5s' as $$
declare
  v_at timestamptz;
  v_lane chat_lanes%rowtype;
begin
  perform 1 from chat_lanes where chat_id = p_chat for update;
  v_at := buildlane_now(p_now);
  select * into v_lane from chat_lanes where chat_id = p_chat;
  if v_lane.chat_id is null then
    return false;
  end if;
  -- From now on the pause is a person's own.
  update chat_lanes set held_by = null where chat_id = p_chat and held_by is not null;
  if (v_lane.paused_at is not null) <> p_paused then
    update chat_lanes set paused_at = case when p_paused then v_at end, event_tail = event_tail + 1 where chat_id = p_chat;
    insert into job_events (chat_id, number, type, at) values (p_chat, v_lane.event_tail + 1, case when p_paused then 'chat.paused' else 'chat.resumed' end, v_at);
    perform buildlane_line_up(array[p_chat], v_at);
  end if;
  return true;
end $$;
