-- Whose turn it is, between the lanes of all chats. Each tenant's ready lanes stand in a line of their own, by turn_at;
-- where there is one tenant only (or none: '' is a tenant too), that is the one line.
--
-- Between several tenants starts are shared by weight: start-time fair queueing. A tenant's next start has a tag, and of
-- all that wait the lowest tag is next (of equal ones the longer wait); each start moves its tenant's tag on by a stride
-- of 1000000 / weight. Shared time (share_at) is the highest tag that was started. A tenant that comes back to the line
-- starts there at the earliest, so nothing is saved up by being idle. So while a tenant waits between two starts of its
-- own, another one starts 1 + its weight / the waiting one's at most, over all nodes: claims between tenants are made one
-- after another, under the lock of queue_state's row.

create table tenant_shares (
  tenant    text collate "C" primary key,
  -- The tag of its next start.
  next_tag  bigint not null,
  served_at timestamptz not null
);

alter table queue_state
  add column share_at bigint not null default 0,
  -- By tenant, where it is not 1; the settings of the node that started last.
  add column tenant_weights jsonb not null default '{}';

-- Tenants with ready lanes; one look into the index for each.
-- Rows: the thousand that would be assumed made the figures look dear enough to be compiled just in time, each time.
create function buildlane_waiting_tenants() returns setof text language sql stable rows 10 as $$
  with recursive line (tenant) as (
    (select tenant from chat_lanes where state = 'ready' order by tenant limit 1)
    union all
    select (select l.tenant from chat_lanes l where l.state = 'ready' and l.tenant > line.tenant order by l.tenant limit 1) from line where line.tenant is not null
  )
  select tenant from line where tenant is not null
$$;

-- Where the lines begin: no ready lane's turn is earlier, nor will one be that comes into line later. While a transaction stays open,
-- what left the line before cannot be removed from its index, and whoever looks from the very start walks past all of it, more
-- with each start. So a node's turns look from where its latest pulse, which does that walk, saw the lines begin. Acceptances
-- that commit longer after their time than the slack are found with the next pulse. Of very many tenants it does not tell.
create function buildlane_line_from(p_at timestamptz) returns timestamptz language sql stable as $$
  select case when count(*) <= 100 then least(min(first.turn_at), p_at - interval '2 seconds',
    (select min(turn_at) from chat_lanes where state = 'delayed' and ready_at <= p_at)) else '-infinity' end
  from (select tenant from buildlane_waiting_tenants() tenant limit 101) waiting
  cross join lateral (select turn_at from chat_lanes l where l.state = 'ready' and l.tenant = waiting.tenant order by l.turn_at, l.chat_id limit 1) first
$$;

-- The next lanes that may start, locked with their heads, at most p_limit; null: none. A head that somebody else holds (a person at
-- the database, say) is passed over: waiting for one would hold up the turns of all. Called by a turn, after all that waits for lanes.
create function buildlane_next_lanes(p_limit integer, p_at timestamptz, p_line_from double precision) returns text[] language plpgsql as $$
declare
  v_from timestamptz := coalesce(to_timestamp(p_line_from / 1000.0), '-infinity');
  v_waiting text[];
begin
  -- Lanes whose head's time has come stand in line like any other.
  if exists (select 1 from chat_lanes where state = 'delayed' and ready_at <= p_at) then
    update chat_lanes l set state = 'ready'
    from (select chat_id from chat_lanes where state = 'delayed' and ready_at <= p_at order by ready_at limit 1000 for update skip locked) due
    where l.chat_id = due.chat_id;
  end if;
  if not exists (select 1 from chat_lanes where state = 'ready' and tenant > '') and not exists (select 1 from tenant_shares) then
    return (select array_agg(w.chat_id order by w.turn_at, w.chat_id) from (
      select l.chat_id, l.turn_at from chat_lanes l join build_jobs j on j.id = l.head_id
      where l.state = 'ready' and l.tenant = '' and l.turn_at >= v_from and (l.taken_until <= p_at) is not false order by l.turn_at, l.chat_id limit p_limit for update of l, j skip locked
    ) w);
  end if;

  v_waiting := array(select buildlane_waiting_tenants());
  if v_waiting = '{}' then
    return null;
  end if;
  if cardinality(v_waiting) = 1 and not exists (select 1 from tenant_shares where tenant <> v_waiting[1]) then
    return (select array_agg(w.chat_id order by w.turn_at, w.chat_id) from (
      select l.chat_id, l.turn_at from chat_lanes l join build_jobs j on j.id = l.head_id
      where l.state = 'ready' and l.tenant = v_waiting[1] and l.turn_at >= v_from and (l.taken_until <= p_at) is not false order by l.turn_at, l.chat_id limit p_limit for update of l, j skip locked
    ) w);
  end if;
  return buildlane_share(v_waiting, p_limit, p_at, v_from);
end $$;

-- Between tenants.
create function buildlane_share(p_waiting text[], p_limit integer, p_at timestamptz, p_from timestamptz) returns text[] language plpgsql as $$
declare
  v_tried text[] := '{}';
  v_got text[] := '{}';
  v_picked text[];
  v_locked text[];
  v_queue queue_state%rowtype;
begin
  -- Nobody who has this lock waits for a lane.
  perform set_config('lock_timeout', '0', true);
  select * into v_queue from queue_state for update;
  insert into tenant_shares (tenant, next_tag, served_at) select t, v_queue.share_at, p_at from unnest(p_waiting) as t order by t on conflict do nothing;
  -- Once more only when lanes were locked by somebody else.
  while cardinality(v_got) < p_limit loop
    with share as (
      select s.tenant, greatest(s.next_tag, v_queue.share_at) as tag, 1000000 / coalesce((v_queue.tenant_weights ->> s.tenant)::integer, 1) as stride
      from tenant_shares s where s.tenant = any (p_waiting)
    ), picked as (
      select l.chat_id, s.tenant, s.tag as base, s.tag + (l.nth - 1) * s.stride as tag, s.stride, l.turn_at
      from share s cross join lateral (
        select chat_id, turn_at, row_number() over (order by turn_at, chat_id) as nth from (
          select chat_id, turn_at from chat_lanes where state = 'ready' and tenant = s.tenant and turn_at >= p_from and chat_id <> all (v_tried) and (taken_until <= p_at) is not false
          order by turn_at, chat_id limit p_limit - cardinality(v_got)
        ) first
      ) l
      order by tag, l.turn_at, l.chat_id limit p_limit - cardinality(v_got)
    ), locked as (
      select l.chat_id from chat_lanes l join build_jobs j on j.id = l.head_id
      where l.chat_id in (select chat_id from picked) and (l.state = 'ready') is true for update of l, j skip locked
    ), served as (
      select p.tenant, p.base, p.stride, count(*) as starts from picked p join locked using (chat_id) group by p.tenant, p.base, p.stride
    ), charged as (
      update tenant_shares s set next_tag = v.base + v.starts * v.stride, served_at = p_at from served v where s.tenant = v.tenant
    ), moved as (
      update queue_state set share_at = greatest(share_at, (select max(base + (starts - 1) * stride) from served)) returning share_at
    )
    select (select array_agg(chat_id order by tag, turn_at, chat_id) from picked),
      (select array_agg(p.chat_id order by p.tag, p.turn_at, p.chat_id) from picked p join locked using (chat_id)), (select share_at from moved)
    into v_picked, v_locked, v_queue.share_at;
    exit when v_picked is null;
    v_tried := v_tried || v_picked;
    v_got := v_got || coalesce(v_locked, '{}');
  end loop;
  return nullif(v_got, '{}');
end $$;
