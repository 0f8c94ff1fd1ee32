-- The cluster-wide cap (P6): at most so many attempts run over all nodes. One row is one permit; a node owns as many
-- as it has running lanes, at every commit. Permits are claimed with `skip locked`, so nodes do not wait for each other,
-- and a turn that ends and claims the same number, as busy ones do, writes none. A dead node's permits stay taken until
-- its lanes are rescued. Counting running lanes instead would need one lock around every claim of the cluster; a counter
-- row would be that lock.
--
-- The cap in force is the lowest that a living node was given, so that nodes may be restarted one after another with
-- another one; it stands in queue_state, and the next pulse that finds another one changes it. Permits beyond a lower
-- cap stay for as long as something runs on them, and nothing starts meanwhile. Where the cap cannot bind, since living nodes have no more slots
-- and what dead ones still hold is within it too, there are no permits; a node that joins says so before it claims.

create table cluster_slots (
  permit integer primary key check (permit > 0),
  owner  text collate "C"
) with (fillfactor = 50);
create index cluster_slots_owner on cluster_slots (owner, permit);

alter table build_nodes
  add column cluster_cap integer check (cluster_cap > 0),
  add column lease_ms double precision not null;
-- Where the cap did not bind, nodes took lanes ahead of free slots: until hands_until what they began so may run, on no record, when it does. No more than
-- they had slots when it began to bind (hands, by node), and what they say of it since is refused.
alter table queue_state
  add column cluster_cap integer check (cluster_cap > 0),
  add column cap_binds boolean not null default false,
  add column hands_until timestamptz,
  add column hands jsonb not null default '{}';

create function buildlane_running(p_owner text) returns bigint language sql stable as $$
  select count(*) from chat_lanes where owner = p_owner and state = 'running'
$$;

-- What runs over all nodes, and what may run on no record: of other nodes as much as they had slots, of this one what it does not want slots for.
create function buildlane_running_at_most(p_node text, p_want integer, p_hands jsonb, p_at timestamptz) returns bigint language sql stable as $$
  select coalesce(sum(greatest(running, hands - case when node = p_node then p_want else 0 end)), 0) from (
    select node, sum(running) as running, sum(hands) as hands from (
      select owner as node, count(*) as running, 0 as hands from chat_lanes where owner is not null and state = 'running' group by owner
      union all
      select h.key, 0, h.value::integer from jsonb_each_text(p_hands) h join build_nodes n on n.id = h.key where n.lease_until > p_at
    ) parts group by node
  ) nodes
$$;

-- How many of p_want lanes a node may start now; called in its turn, after the endings.
create function buildlane_allow(p_node text, p_want integer, p_at timestamptz) returns integer language plpgsql as $$
declare
  v_cap integer;
  v_hands jsonb;
  v_want integer;
  v_spare integer;
  v_got integer;
begin
  select cluster_cap, case when hands_until > p_at then hands end into v_cap, v_hands from queue_state where cap_binds;
  if p_want <= 0 or v_cap is null then
    return p_want;
  end if;
  -- A node's own turns follow one another here, or both would count the same permits as spare. Nobody who has this lock
  -- waits for a lane.
  perform set_config('lock_timeout', '0', true);
  perform pg_advisory_xact_lock(727271003, hashtext(p_node));
  -- No more permits than there are lanes: they would only be given back.
  select count(*) into v_want from (
    (select 1 from chat_lanes where state = 'ready' limit p_want) union all (select 1 from chat_lanes where state = 'delayed' and ready_at <= p_at limit p_want) limit p_want
  ) waiting;
  if v_hands is not null then
    -- Permits say nothing of what is on no record. For as long as there may be some, the turns of all nodes follow one another.
    perform pg_advisory_xact_lock(727271005);
    v_want := least(v_want, v_cap - buildlane_running_at_most(p_node, p_want, v_hands, p_at));
  end if;
  if exists (select 1 from cluster_slots where permit > v_cap) then
    v_want := least(v_want, v_cap - (select count(*) from cluster_slots where owner <> p_node) - buildlane_running(p_node));
  end if;
  if v_want <= 0 then
    return 0;
  end if;
  v_spare := (select count(*) from cluster_slots where owner = p_node) - buildlane_running(p_node);
  if v_want > v_spare then
    with free as (
      select permit from cluster_slots where owner is null order by permit limit v_want - v_spare for update skip locked
    )
    update cluster_slots s set owner = p_node from free f where s.permit = f.permit;
    get diagnostics v_got = row_count;
    v_spare := v_spare + v_got;
  end if;
  return greatest(0, least(v_want, v_spare));
end $$;

-- Gives back what a node owns beyond its running lanes; last in every step that ended attempts.
create function buildlane_yield_permits(p_owner text) returns void language plpgsql as $$
declare
  v_cap integer := (select cluster_cap from queue_state where cap_binds);
  v_left bigint;
begin
  if v_cap is null then
    return;
  end if;
  v_left := (select count(*) from cluster_slots where owner = p_owner) - buildlane_running(p_owner);
  if v_left > 0 then
    with surplus as (
      select permit from cluster_slots where owner = p_owner order by permit desc limit v_left for update skip locked
    ), gone as (
      delete from cluster_slots s using surplus u where s.permit = u.permit and s.permit > v_cap
    )
    update cluster_slots s set owner = null from surplus u where s.permit = u.permit and s.permit <= v_cap;
  end if;
end $$;

-- The lowest cap of living nodes, and whether more than that could run.
create function buildlane_cap(p_at timestamptz, out cap integer, out binds boolean) language plpgsql stable as $$
begin
  cap := (select min(cluster_cap) from build_nodes where lease_until > p_at);
  binds := cap is not null and cap < (select sum(slots) from build_nodes where lease_until > p_at)
    + (select count(*) from chat_lanes l where l.owner is not null and not exists (select 1 from build_nodes n where n.id = l.owner and n.lease_until > p_at));
end $$;

-- Whether that is what is in force; one statement, so that both are of one moment.
create function buildlane_cap_stands(p_at timestamptz) returns boolean language sql stable as $$
  select q.cluster_cap is not distinct from c.cap and q.cap_binds is not distinct from c.binds from queue_state q cross join buildlane_cap(p_at) c
$$;

-- Puts it in force; what runs already keeps or gets its permit. Who joins always comes to the lock: of nodes that join together none sees the others before.
-- p_is_new: it had no lease, and so no hand.
create function buildlane_set_cap(p_node text, p_joins boolean, p_is_new boolean, p_now double precision) returns void language plpgsql as $$
declare
  v_at timestamptz := buildlane_now(p_now);
  v_cap integer;
  v_binds boolean;
begin
  if not p_joins and buildlane_cap_stands(v_at) then
    return;
  end if;
  -- Again, now that nobody else is at it: of nodes that start together, the last to come here sees all of them. A lock of its own: turns
  -- between tenants lock queue_state after they have shared what is waited for below.
  perform pg_advisory_xact_lock(727271006);
  if buildlane_cap_stands(v_at) then
    return;
  end if;
  -- Whoever claims has read what is in force, and shares this (buildlane_keep_cap).
  perform pg_advisory_xact_lock(727271004);
  v_at := buildlane_now(p_now);
  select cap, binds into v_cap, v_binds from buildlane_cap(v_at);
  if v_binds and not (select cap_binds from queue_state) then
    update queue_state set hands_until = v_at + buildlane_ms(h.lease_ms), hands = coalesce(h.slots, '{}')
    from (select max(lease_ms) as lease_ms, jsonb_object_agg(id, slots) as slots from build_nodes where lease_until > v_at and not (p_is_new and id = p_node)) h;
  end if;
  update queue_state set cluster_cap = v_cap, cap_binds = v_binds;
  delete from cluster_slots where not v_binds or permit > v_cap and owner is null;
  if v_binds then
    with running as (
      select owner, row_number() over (partition by owner) as mine from chat_lanes where owner is not null and state = 'running'
    ), bare as (
      select owner, row_number() over (order by owner) as nth from running r where mine > (select count(*) from cluster_slots s where s.owner = r.owner)
    ), numbers as (
      select permit, row_number() over (order by permit) as nth
      from generate_series(1, v_cap + (select count(*)::integer from bare) + (select count(*)::integer from cluster_slots)) as g (permit)
      where not exists (select 1 from cluster_slots s where s.permit = g.permit)
    )
    insert into cluster_slots (permit, owner)
    select n.permit, b.owner from numbers n left join bare b on b.nth = n.nth where n.permit <= v_cap or b.owner is not null;
  end if;
end $$;
