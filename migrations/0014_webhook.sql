-- How far the webhook has told each chat's history: one row a chat, made when the chat first has news. Nothing here is
-- touched by accepting or by turns; lanes with news are found by comparing their event_tail with `delivered`.
--
-- Rows with a next_at are in the webhook's own line. A node takes some of them: owner, claim id, and the time until which
-- it alone tells their chats, which is also their next_at, so a dead node's chats are taken over by the same index.
-- What was told is recorded under the claim id; a node that is too late changes nothing. No row refers to chat_lanes by a
-- foreign key: its check would take the lock that accepting waits for.

create table webhook_state (
  id         boolean primary key default true check (id),
  -- When the webhook was first set: what is older is not told.
  started_at timestamptz not null
);

create table webhook_lanes (
  chat_id     text collate "C" primary key,
  -- Number of the latest event that was told, or passed over.
  delivered   bigint not null check (delivered >= 0),
  failures    integer not null default 0 check (failures >= 0),
  -- When to look again; null: nothing is known to be left.
  next_at     timestamptz,
  owner       text collate "C",
  claim_id    text collate "C",
  claim_until timestamptz,
  constraint claims_are_whole check ((owner is null) = (claim_id is null) and (owner is null) = (claim_until is null)),
  constraint claimed_chats_are_due_at_the_end check (owner is null or (next_at = claim_until) is true)
) with (fillfactor = 70);
create index webhook_lanes_due on webhook_lanes (next_at) where next_at is not null;

create function buildlane_webhook_begin(p_now double precision default null) returns json language plpgsql as $$
begin
  insert into webhook_state (started_at) values (buildlane_now(p_now)) on conflict do nothing;
  return 'null'::json;
end $$;

-- Puts those of the chats that have news into the line.
create function buildlane_webhook_line_up(p_chats text[], p_at timestamptz) returns void language plpgsql as $$
declare
  v_started timestamptz := (select started_at from webhook_state);
begin
  insert into webhook_lanes (chat_id, delivered)
  select l.chat_id, coalesce((select min(e.number) - 1 from job_events e where e.chat_id = l.chat_id and e.at >= v_started), l.event_tail)
  from chat_lanes l
  where l.chat_id = any (p_chats) and not exists (select 1 from webhook_lanes w where w.chat_id = l.chat_id)
  order by l.chat_id on conflict do nothing;
  with news as (
    select w.chat_id from webhook_lanes w join chat_lanes l on l.chat_id = w.chat_id
    where w.chat_id = any (p_chats) and w.next_at is null and l.event_tail > w.delivered order by w.chat_id for update of w skip locked
  )
  update webhook_lanes w set next_at = p_at from news n where w.chat_id = n.chat_id;
end $$;

-- Milliseconds until the first of the line is due; null when nobody is in it.
create function buildlane_webhook_due_in(p_at timestamptz) returns double precision language sql stable as $$
  select extract(epoch from next_at - p_at) * 1000 from webhook_lanes where next_at is not null order by next_at limit 1
$$;

-- Takes chats that are due, the longest due first.
create function buildlane_webhook_claim(p_node text, p_claim text, p_chats text[], p_limit integer, p_lease_ms double precision, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_claims json;
begin
  perform buildlane_webhook_line_up(p_chats, v_at);
  with due as (
    select chat_id from webhook_lanes where next_at <= v_at order by next_at, chat_id limit p_limit for update skip locked
  ), claimed as (
    update webhook_lanes w set owner = p_node, claim_id = p_claim, claim_until = v_at + buildlane_ms(p_lease_ms), next_at = v_at + buildlane_ms(p_lease_ms)
    from due d where w.chat_id = d.chat_id returning w.chat_id, w.delivered, w.failures
  )
  select coalesce(json_agg(json_build_object('chatId', chat_id, 'delivered', delivered, 'failures', failures) order by chat_id), '[]'::json) into v_claims from claimed;
  return json_build_object('claims', v_claims, 'dueInMs', buildlane_webhook_due_in(v_at));
end $$;

-- Records what was told and gives the chat back: with news to the end of the line, after a failure for p_retry_ms.
create function buildlane_webhook_record(p_claim text, p_chat text, p_delivered bigint, p_failures integer, p_retry_ms double precision, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz := buildlane_now(p_now);
begin
  update webhook_lanes w set
    delivered = greatest(w.delivered, p_delivered), failures = p_failures, owner = null, claim_id = null, claim_until = null,
    next_at = case when l.event_tail > greatest(w.delivered, p_delivered) then v_at + buildlane_ms(coalesce(p_retry_ms, 0)) end
  from chat_lanes l where w.chat_id = p_chat and w.claim_id = p_claim and l.chat_id = w.chat_id;
  return to_json(found);
end $$;

-- Looks for news that no hint told of: among the latest events, and in one page of all lanes. `next` is where the page ended, '' at the last one.
create function buildlane_webhook_sweep(p_after text, p_limit integer, p_now double precision default null) returns json language plpgsql as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_page text[];
  v_news text[];
begin
  select array_agg(chat_id order by chat_id) into v_page from (select chat_id from chat_lanes where chat_id > p_after order by chat_id limit p_limit) p;
  select array_agg(l.chat_id) into v_news
  from (
    select unnest(v_page) as chat_id
    union
    select chat_id from (select chat_id from job_events where at > v_at - interval '1 minute' order by at desc limit p_limit) latest
  ) suspects join chat_lanes l on l.chat_id = suspects.chat_id left join webhook_lanes w on w.chat_id = l.chat_id
  where w.next_at is null and l.event_tail > coalesce(w.delivered, -1);
  if v_news is not null then
    perform buildlane_webhook_line_up(v_news, v_at);
  end if;
  return json_build_object('next', case when cardinality(v_page) = p_limit then v_page[p_limit] else '' end, 'dueInMs', buildlane_webhook_due_in(v_at));
end $$;
