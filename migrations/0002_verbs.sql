-- Rules of the verbs that change lanes, and what they share; the verbs stand in the files from here on.
-- Each is one function and so one statement for its caller: a lock first, then work that sees what the lock protects (each
-- statement of a function has a fresh snapshot under READ COMMITTED; a single big statement would look for the next head
-- in a snapshot older than its own lock, and could strand a job).
-- The hot ones forbid scans and hash joins: a plan made while the tables were small would be kept for a session's life,
-- and a partial index that matches by status alone would be read whole (hence `(status = …) is true` beside an id).
-- A forbidden scan that cannot be avoided costs 1e10, which would have each call compiled just in time (250 ms where the
-- server has LLVM): so that is off. And they are planned once: for their arrays, whose lengths it does not know, PostgreSQL
-- finds a plan of their own better each time, and that planning was half of a small turn.
-- p_lock_ms bounds the wait for any one lock, for calls that carry several lanes: one stuck lane must not stall the rest.
-- Verbs on behalf of somebody take the tenant whose jobs they may see; null is everybody.
-- Times come from clock_timestamp(), or from p_now (milliseconds since 1970) in tests.

create function buildlane_now(p_now double precision) returns timestamptz language sql volatile as $$
  select coalesce(to_timestamp(p_now / 1000.0), clock_timestamp())
$$;

create function buildlane_ms(p_ms double precision) returns interval language sql immutable as $$
  select p_ms * interval '1 millisecond'
$$;

-- As the API writes times.
create function buildlane_iso(p_at timestamptz) returns text language sql immutable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- Whose chat a lane is: its key is the tenant, U+001F and the chat's own id.
create function buildlane_tenant(p_chat text) returns text language sql immutable as $$
  select case when position(chr(31) in p_chat) > 0 then split_part(p_chat, chr(31), 1) else '' end
$$;

create function buildlane_failure(p_code text, p_message text, p_quarantined boolean) returns jsonb language sql immutable as $$
  select jsonb_build_object('code', p_code, 'message', p_message, 'retryable', false, 'diagnostics', '[]'::jsonb)
      || case when p_quarantined then '{"quarantined": true}'::jsonb else '{}'::jsonb end
$$;

-- The answer of a verb that brings code with it. Locks are held until all of an answer has been sent: where a process or a network stands still that
-- should take in a large one, for ever, unless the system gives the connection up. Small ones always find room on the way.
create function buildlane_sent(p_answer json) returns json language plpgsql as $$
begin
  if octet_length(p_answer::text) > 65536 then
    perform set_config('tcp_user_timeout', '3000', true);
  end if;
  return p_answer;
end $$;

-- Whoever claims holds this until all see what it started; whoever changes the cluster's cap has it alone (0011_cluster_cap.sql).
create function buildlane_keep_cap() returns text language sql volatile as $$
  select pg_advisory_xact_lock_shared(727271004)::text
$$;

-- Adds to the running totals, last in each verb: the row is this node's and this verb's alone.
-- The row is nearly always there, and an update makes less ready than an upsert does.
create function buildlane_count(p_node text, p_verb text, p_pending bigint, p_completed bigint, p_failed bigint) returns void language plpgsql as $$
begin
  if p_pending = 0 and p_completed = 0 and p_failed = 0 then
    return;
  end if;
  update build_counters set pending = pending + p_pending, completed = completed + p_completed, failed = failed + p_failed
  where node_id = p_node and verb = p_verb;
  if not found then
    insert into build_counters as c (node_id, verb, pending, completed, failed) values (p_node, p_verb, p_pending, p_completed, p_failed)
    on conflict (node_id, verb) do update set
      pending = c.pending + excluded.pending, completed = c.completed + excluded.completed, failed = c.failed + excluded.failed;
  end if;
end $$;

-- Puts lanes that nobody runs where they belong by their pending jobs. The caller holds their locks. What was not in line (paused,
-- say) comes to its end, and in line none moves to before where it stood (its head may be cancelled, and an older job be the next one): so, but for
-- what commits late, nothing stands before the place where the latest pulse saw the line begin.
create function buildlane_line_up(p_chats text[], p_at timestamptz) returns void language sql as $$
  update chat_lanes l set
    head_id = h.id, head_rank = h.rank, ready_at = h.run_at,
    turn_at = case when h.id is not null then greatest(h.rank, h.run_at, l.settled_at, case when l.state = 'ready' or l.state = 'delayed' and l.ready_at <= p_at then least(l.turn_at, p_at) else p_at end) end,
    mixed = l.mixed and h.id is not null,
    state = case when h.id is null then 'idle' when l.paused_at is not null then 'paused' when h.run_at > p_at then 'delayed' else 'ready' end
  from unnest(p_chats) as c (chat_id)
  left join lateral (
    select j.id, j.rank, j.run_at from build_jobs j where j.chat_id = c.chat_id and j.status = 'pending' order by j.rank, j.place limit 1
  ) h on true
  where l.chat_id = c.chat_id and l.owner is null
$$;

-- Position of a pending job: itself, the pending ones before it, and a running one. In a lane without priorities they stand
-- by place, and where no place between the first and the lane's latest was given up there is nothing to count.
create function buildlane_position(p_chat text, p_rank timestamptz, p_place bigint) returns bigint language sql stable as $$
  select case when not l.mixed and l.place_tail - first.place + 1 = l.pending then p_place - first.place + 1
      else (select count(*) from build_jobs j where j.chat_id = p_chat and j.status = 'pending' and (j.rank, j.place) <= (p_rank, p_place)) end
    + case when l.owner is null then 0 else 1 end
  from chat_lanes l,
    lateral (select j.place from build_jobs j where j.chat_id = p_chat and j.status = 'pending' order by j.rank, j.place limit 1) first
  where l.chat_id = p_chat
$$;

-- Until when a chat's first job is delayed or backs off: nobody of it starts before. Null: it does not, or one of it runs.
create function buildlane_held_until(l chat_lanes, p_at timestamptz) returns text language sql immutable as $$
  select case when l.owner is null and l.ready_at > p_at then buildlane_iso(l.ready_at) end
$$;

-- A job as whoever submits it is told: how it stands, and what holds its chat.
create function buildlane_accepted(j build_jobs, p_at timestamptz) returns jsonb language sql stable as $$
  select jsonb_build_object('id', j.id, 'chatId', j.chat_id, 'messageId', j.message_id, 'chatSeq', j.chat_seq, 'status', j.status, 'createdAt', j.created_at,
    'queuePosition', case when j.status = 'pending' then buildlane_position(j.chat_id, j.rank, j.place) else 0 end,
    'nextAttemptAt', case when j.status = 'pending' and j.run_at > p_at then buildlane_iso(j.run_at) end,
    'chatPaused', l.paused_at is not null, 'chatReadyAt', buildlane_held_until(l, p_at))
  from chat_lanes l where l.chat_id = j.chat_id
$$;
