-- A node's turn at the line, for itself and together with what is accepted (the rules of 0002_verbs.sql).

-- turn: ends attempts, then claims up to p_want lanes from the head of the line and starts their heads, and takes up to p_ahead
-- more of them ahead of free slots, for p_hand_ms. p_begun: runs of such lanes that began since. p_asks_code: for each claim
-- it is told whether its code is no other job's, so that nobody need ask what is known of it.
create function buildlane_turn(p_node text, p_claim_id text, p_endings json, p_want integer, p_losses_max integer, p_lock_ms integer default null,
  p_now double precision default null, p_line_from double precision default null, p_begun json default null, p_ahead integer default 0, p_hand_ms double precision default 0, p_asks_code boolean default false)
returns json language plpgsql
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_endings buildlane_ending[];
  v_built integer[];
  v_settled json := '[]';
  v_pending bigint := 0;
  v_completed bigint := 0;
  v_failed bigint := 0;
  v_claims json := '[]';
  v_more json;
  v_taken json;
  v_at timestamptz;
  v_allowed integer := p_want;
  v_left integer;
  v_chats text[];
  v_bad_ids text[];
  v_bad_failures jsonb[];
  v_started integer;
  -- Turns of a node may be under way beside one another, each on a connection of its own: they must not wait for one row.
  v_counter text := 'turn' || pg_backend_pid() % 4;
  v_slots integer;
  v_is_paused boolean;
  v_is_capped boolean;
  v_is_quarantining boolean;
  v_setting text;
  v_begun buildlane_begun[];
  v_ahead record;
  v_on_record text[];
  v_refused text[];
  v_left_line bigint := 0;
begin
  if p_lock_ms is not null then
    v_setting := set_config('lock_timeout', p_lock_ms::text, true);
  end if;
  if p_endings is not null then
    select array_agg(e) into v_endings from json_populate_recordset(null::buildlane_ending, p_endings) e;
    perform 1 from chat_lanes l where l.chat_id in (select e.chat_id from unnest(v_endings) e) order by l.chat_id for update;
  end if;
  if p_begun is not null then
    -- Not worth a wait: who holds a lane here holds up the record of its start, and nothing else.
    select array_agg(b) into v_begun from json_populate_recordset(null::buildlane_begun, p_begun) b
    where exists (select 1 from chat_lanes l where l.chat_id = b.chat_id for update skip locked);
  end if;
  v_setting := buildlane_keep_cap();
  v_at := buildlane_now(p_now);
  if v_begun is not null or exists (select 1 from unnest(v_endings) e where e.started_ms is not null or e.kind = 'returned') then
    select * into v_ahead from buildlane_record_ahead(p_node, v_begun, v_endings, v_at, buildlane_ms(p_hand_ms));
    v_built := v_ahead.through;
    v_on_record := v_ahead.on_record;
    v_refused := v_ahead.refused;
    v_left_line := v_ahead.left_line;
  end if;
  if cardinality(v_endings) > coalesce(cardinality(v_built), 0) then
    v_built := v_built || buildlane_complete(v_endings, v_at);
    if coalesce(cardinality(v_built), 0) < cardinality(v_endings) then
      select e.answer, e.pending, e.failed into v_settled, v_pending, v_failed from buildlane_end(p_node, v_endings, p_losses_max, v_at) e;
    end if;
  end if;
  v_completed := coalesce(cardinality(v_built), 0);
  v_pending := v_pending - v_left_line;
  -- After the settling took its time, so that a slot's attempts never overlap (P6).
  v_at := buildlane_now(p_now);
  -- In one statement: each costs as much as a row.
  select (select slots from build_nodes where id = p_node and lease_until > v_at), paused_at is not null, cap_binds,
    exists (select 1 from code_crashes where quarantined_at is not null)
  into v_slots, v_is_paused, v_is_capped, v_is_quarantining from queue_state;
  if v_is_paused or v_slots is null then
    v_allowed := 0;
  elsif v_is_capped then
    v_allowed := buildlane_allow(p_node, v_allowed, v_at);
  end if;
  v_left := v_allowed;
  while v_left > 0 loop
    v_chats := buildlane_next_lanes(v_left, v_at, p_line_from);
    exit when v_chats is null;

    if v_is_quarantining then
      select array_agg(j.id), array_agg(buildlane_failure(q.cause,
          case when q.cause = 'node_lost' then 'This code was quarantined: the nodes that ran it were lost.' else 'This code was quarantined: it crashed its worker twice.' end, true))
      into v_bad_ids, v_bad_failures
      from chat_lanes l join build_jobs j on j.id = l.head_id join code_crashes q on q.code_hash = j.code_hash and q.quarantined_at is not null
      where l.chat_id = any (v_chats);
      if v_bad_ids is not null then
        v_chats := array(select l.chat_id from chat_lanes l where l.chat_id = any (v_chats) and l.head_id <> all (v_bad_ids) order by l.turn_at, l.chat_id);
        perform buildlane_fail_pending(p_node, v_bad_ids, v_bad_failures, v_at);
      end if;
    end if;

    with l as (
      select * from chat_lanes where chat_id = any (v_chats)
    ), started as (
      update build_jobs j set status = 'running', attempt = j.attempt + 1, started_at = greatest(v_at, l.settled_at, j.run_at),
        owner = p_node, fence = l.fence + 1, claim_id = p_claim_id
      from l where j.id = l.head_id and (j.status = 'pending') is true
      returning j.id, j.chat_id, j.chat_seq, j.attempt, j.fence, j.started_at, l.turn_at as waited_since, l.taken_until,
        json_build_object('id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'attempt', j.attempt,
          'code', j.code, 'files', j.files, 'entry', j.entry, 'options', j.options, 'priority', j.priority, 'maxAttempts', j.max_attempts, 'timeoutMs', j.timeout_ms,
          'traceparent', j.traceparent, 'spent', j.spent, 'strikes', j.strikes, 'fence', j.fence, 'startedAt', j.started_at, 'isNovel', case when p_asks_code then buildlane_is_novel(j.code_hash) end) as claim
    ), lane as (
      update chat_lanes l set state = 'running', owner = p_node, fence = l.fence + 1, claim_id = p_claim_id, taken_until = null, taken_claim = null, pending = l.pending - 1,
        head_id = null, head_rank = null, ready_at = null, turn_at = null, event_tail = l.event_tail + 1
      from started s where l.chat_id = s.chat_id
      returning s.*, l.event_tail
    ), events as (
      insert into job_events (chat_id, number, type, job_id, chat_seq, status, attempt, at, data)
      select s.chat_id, s.event_tail, 'job.started', s.id, s.chat_seq, 'running', s.attempt, s.started_at,
        jsonb_build_object('nodeId', p_node, 'slots', v_slots, 'fence', s.fence) || case when s.taken_until is null then '{}'::jsonb else jsonb_build_object('inHandUntil', buildlane_iso(s.taken_until)) end
      from lane s
    )
    select json_agg(claim order by waited_since, chat_id), count(*)
    into v_more, v_started from lane;

    if v_started > 0 then
      v_claims := case when v_left = v_allowed then v_more else (select json_agg(x) from (select json_array_elements(v_claims) as x union all select json_array_elements(v_more)) both_claims) end;
      v_left := v_left - v_started;
    end if;
    -- Another round only when quarantined heads took places that the next in line may have.
    exit when v_bad_ids is null;
    v_bad_ids := null;
  end loop;

  -- Where a start needs more than its turn in line, a permit of the cluster's or a tenant's share, nothing is taken ahead of it.
  if p_ahead > 0 and v_left <= 0 and v_slots is not null and not (v_is_paused or v_is_capped) and not exists (select 1 from tenant_shares) then
    v_taken := buildlane_take_ahead(p_claim_id, p_ahead, v_slots, v_at, v_at + buildlane_ms(p_hand_ms), p_line_from, v_is_quarantining, p_asks_code);
  end if;
  if v_is_capped and (p_endings is not null or v_allowed > 0) then
    perform buildlane_yield_permits(p_node);
  end if;
  perform buildlane_count(p_node, v_counter, v_pending + v_left - v_allowed, v_completed, v_failed);
  return buildlane_sent(json_build_object('built', v_built, 'settled', v_settled, 'claims', v_claims, 'taken', v_taken, 'onRecord', v_on_record, 'refused', v_refused, 'atMs', extract(epoch from v_at) * 1000));
end $$;

-- accept, and what a turn would start then for free slots, in one step: a job that need not wait starts with its acceptance.
-- Starts nothing beside replays. p_is_plain: it is one job, without priority or delay; the caller knows, and to look costs a parse.
create function buildlane_accept_and_start(
  p_node text, p_verb text, p_jobs json, p_keys json, p_aging_ms double precision,
  p_pending_max integer, p_queue_max bigint, p_rate_burst integer, p_rate_interval_ms double precision, p_claim_id text, p_want integer, p_is_plain boolean,
  p_lock_ms integer default null, p_now double precision default null, p_line_from double precision default null
) returns json language plpgsql as $$
declare
  v_accepted json := buildlane_accept(p_node, p_verb, p_jobs, p_keys, p_aging_ms, p_pending_max, p_queue_max, p_rate_burst, p_rate_interval_ms, p_lock_ms, p_now,
    case when p_is_plain then p_claim_id end, p_line_from);
  v_claims json := '[]';
begin
  -- What was written as running has its claim with it.
  if p_is_plain and v_accepted -> 'claims' is not null then
    return v_accepted;
  end if;
  if p_keys is null or (v_accepted -> 'told' -> 0 ->> 'replayed')::boolean is not true then
    v_claims := buildlane_turn(p_node, p_claim_id, null, p_want, 0, p_lock_ms, p_now, p_line_from) -> 'claims';
  end if;
  return json_build_object('fresh', v_accepted -> 'fresh', 'told', v_accepted -> 'told', 'claims', v_claims);
end $$;
