-- Buildlane's data, told once.
--
-- A chat is a lane: one row in chat_lanes, made when its first job is accepted and kept for good, so that numbers never
-- restart. The lane counts its jobs (tail), their places in the running order (place_tail) and its events (event_tail).
-- Whoever changes a lane or any of its jobs holds the lane's row lock meanwhile; several lanes are locked in order of
-- chat_id, so there are no deadlocks. That one rule gives order, gapless numbers and exact positions.
--
-- Chats of a tenant are lanes whose chat_id is the tenant, U+001F and the chat's own id; whoever writes a chat_id writes
-- buildlane_tenant(chat_id) beside it. Whoever asks for a job or a list on behalf of a tenant asks `where tenant = …` as well.
--
-- A job is a row in build_jobs from acceptance to its final status. Lanes are never deleted, and accept writes the lane
-- before its jobs: a foreign key, and a generated tenant, would only make each job 13 µs dearer (of 80). Inside a chat jobs run by (rank, place):
-- rank = time of acceptance − priority × aging, fixed at acceptance; place counts up. The first pending job is the
-- lane's head. A head that is delayed or backing off (run_at) keeps its place, so its lane waits.
--
-- A lane's state says where it stands: idle (nothing pending), ready (in the line of its tenant's lanes, by turn_at),
-- delayed (until ready_at), paused, or running (a node owns it and runs its head). turn_at is the latest of the head's
-- rank, its run_at, the end of the lane's latest attempt and when it came into line: a lane that was served goes behind all that wait.
--
-- A node claims lanes from the head of the line, of several tenants' lines by weight: owner, fence + 1 and a claim id of
-- the node's making go into lane and job, and the head is running. Ending an attempt names job, attempt, owner, fence and
-- claim id; if any differs, somebody else has the lane by now and nothing is written. A node renews one lease for all its
-- lanes (build_nodes); when it is over, any node puts its lanes back in line.
--
-- Where runs are shorter than a turn, a node takes lanes ahead of free slots: fence + 1 and taken_until, and nothing else, so
-- the lane stands in line as before and only is not given to anybody else. What it begins it records with its next turn, a
-- run that is over by then as started and ended at once; what it does not begin it gives back, or the time does.
--
-- Every transition writes one row into job_events, numbered per chat without gaps, in the same transaction. Attempts,
-- streams and proofs are read from there. build_counters holds running totals, one row for each node and verb so that
-- no two statements wait for each other's row.

-- What one column alone must be is a domain: a table's own checks are parsed anew by each statement that changes a row,
-- and so they are few, and short (num_nulls and num_nonnulls name a column once).
create domain buildlane_ordinal as bigint check (value > 0);
create domain buildlane_tally as bigint check (value >= 0);
create domain buildlane_depth as integer check (value >= 0);
create domain buildlane_amount as integer check (value > 0);
create domain buildlane_priority as smallint check (value between -10 and 10);
create domain buildlane_status as text check (value in ('pending', 'running', 'completed', 'failed'));
create domain buildlane_lane_state as text check (value in ('idle', 'ready', 'delayed', 'paused', 'running'));

create table build_nodes (
  id          text collate "C" primary key,
  slots       integer not null check (slots > 0),
  draining    boolean not null default false,
  started_at  timestamptz not null,
  lease_until timestamptz not null,
  -- Its clean stop: what it is still found to hold was never begun, and no node was lost.
  left_at     timestamptz
);

create table chat_lanes (
  chat_id     text collate "C" primary key,
  tenant      text collate "C" not null,
  tail        buildlane_tally not null default 0,
  place_tail  bigint not null default 0 check (place_tail >= tail),
  event_tail  buildlane_tally not null default 0,
  event_floor bigint not null default 0 check (event_floor <= event_tail),
  pending     buildlane_depth not null default 0,
  -- Jobs that ever became so: a tenant's totals are its lanes'.
  completed   bigint not null default 0,
  failed      bigint not null default 0,
  -- Whether a pending job may stand before one with a smaller place: some priority was given since the lane was idle.
  mixed       boolean not null default false,
  accepted_at timestamptz not null,
  settled_at  timestamptz,
  -- Theoretical arrival time of the rate limiter (GCRA).
  rate_at     timestamptz,
  paused_at   timestamptz,
  state       buildlane_lane_state not null default 'idle',
  head_id     text collate "C",
  head_rank   timestamptz,
  ready_at    timestamptz,
  turn_at     timestamptz,
  owner       text collate "C",
  fence       bigint not null default 0,
  claim_id    text collate "C",
  -- Until then nobody else claims it: a node has it in hand, by this claim, ahead of a free slot. It stands in line all the same.
  taken_until timestamptz,
  taken_claim text collate "C",
  constraint running_lanes_are_owned check (num_nonnulls(owner, claim_id) = case state when 'running' then 2 else 0 end),
  constraint waiting_lanes_have_a_head check (num_nonnulls(head_id, head_rank, ready_at, turn_at) = case state when 'idle' then 0 when 'running' then 0 else 4 end),
  constraint idle_lanes_are_empty check (state <> 'idle' or pending = 0)
) with (fillfactor = 70);

-- One line for each tenant (0015_tenant_shares.sql); without tenants there is one.
create index chat_lanes_line on chat_lanes (tenant, turn_at, chat_id) where state = 'ready';
create index chat_lanes_delayed on chat_lanes (ready_at) where state = 'delayed';
create index chat_lanes_paused on chat_lanes (chat_id) where paused_at is not null;
create index chat_lanes_owned on chat_lanes (owner) where owner is not null;
create index chat_lanes_tenant on chat_lanes (tenant) where tenant <> '';

create table build_jobs (
  id                  text collate "C" primary key,
  chat_id             text collate "C" not null,
  tenant              text collate "C" not null,
  chat_seq            buildlane_ordinal not null,
  place               buildlane_ordinal not null,
  rank                timestamptz not null,
  message_id          text not null,
  code                text,
  files               jsonb,
  entry               text,
  options             jsonb not null,
  code_hash           text collate "C" not null,
  priority            buildlane_priority not null,
  status              buildlane_status not null default 'pending',
  attempt             integer not null default 0,
  spent               integer not null default 0,
  strikes             integer not null default 0,
  node_losses         integer not null default 0,
  max_attempts        buildlane_amount not null,
  timeout_ms          buildlane_amount not null,
  -- The submitter's trace (W3C Trace Context), carried to every attempt.
  traceparent         text,
  run_at              timestamptz not null,
  created_at          timestamptz not null,
  started_at          timestamptz,
  completed_at        timestamptz,
  cancel_requested_at timestamptz,
  discarded_at        timestamptz,
  owner               text collate "C",
  fence               bigint,
  claim_id            text collate "C",
  result              text,
  source_map          text,
  warnings            jsonb,
  externals           jsonb,
  error               text,
  failure             jsonb,
  failure_code        text,
  superseded_by       text collate "C",
  -- Set with an outcome that every build of this code would have: what it depends on beside the code, and the job it was taken over from.
  stamp               text collate "C",
  copied_from         text collate "C",
  constraint one_source check (num_nonnulls(code, files) = 1 and (files is null) = (entry is null)),
  constraint attempts_are_bounded check (spent <= attempt and spent <= max_attempts),
  constraint running_jobs_are_owned check (num_nonnulls(owner, fence, claim_id) = case status when 'running' then 3 else 0 end),
  constraint running_jobs_started check (status <> 'running' or (started_at is not null and attempt > 0)),
  constraint final_jobs_completed check ((status in ('completed', 'failed')) = (completed_at is not null)),
  constraint times_in_order check (completed_at is null or started_at is null or completed_at >= started_at),
  constraint completed_jobs_have_a_result check ((status = 'completed') = (result is not null)),
  constraint failed_jobs_say_why check (num_nonnulls(failure_code, failure, error) = case status when 'failed' then 3 else 0 end),
  constraint superseded_jobs_point_on check ((failure_code = 'superseded') is not true or superseded_by is not null),
  constraint acceptance_order unique (chat_id, chat_seq)
) with (fillfactor = 80);

-- P2, kept by the table itself: a second running job of a chat cannot be written.
create unique index build_jobs_one_running on build_jobs (chat_id) where status = 'running';
create index build_jobs_pending on build_jobs (chat_id, rank, place) where status = 'pending';
create index build_jobs_finished on build_jobs (completed_at) where status in ('completed', 'failed');
create index build_jobs_chat_finished on build_jobs (chat_id, completed_at desc) where status in ('completed', 'failed');
create index build_jobs_same_code on build_jobs (code_hash, stamp, completed_at) where stamp is not null;
create index build_jobs_created on build_jobs (created_at, id);
-- For lists of what failed, newest first, however much was accepted since.
create index build_jobs_failed on build_jobs (created_at, id) where status = 'failed';
-- Where there are no tenants these two stay empty.
create index build_jobs_tenant on build_jobs (tenant, created_at, id) where tenant <> '';
create index build_jobs_tenant_finished on build_jobs (tenant, completed_at) where tenant <> '' and status in ('completed', 'failed');
create index build_jobs_dead on build_jobs (completed_at) where status = 'failed' and failure_code not in ('cancelled', 'superseded') and discarded_at is null;

create table job_events (
  chat_id  text collate "C" not null,
  number   bigint not null,
  type     text not null,
  job_id   text collate "C",
  chat_seq bigint,
  status   text,
  attempt  integer,
  at       timestamptz not null,
  data     jsonb not null default '{}',
  primary key (chat_id, number)
);
create index job_events_of_job on job_events (job_id, number);
-- For readers of all chats at once; grows at its right end only.
create index job_events_at on job_events (at);

create table idempotency_keys (
  scope        text not null,
  key          text not null,
  request_hash text not null,
  job_ids      text[] not null,
  created_at   timestamptz not null,
  primary key (scope, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);

-- Code that killed its worker or its node, by hash; quarantined code is not run anywhere.
create table code_crashes (
  code_hash      text collate "C" primary key,
  crashes        integer not null,
  cause          text not null,
  crashed_at     timestamptz not null,
  quarantined_at timestamptz
);
create index code_crashes_quarantined on code_crashes (code_hash) where quarantined_at is not null;

create table build_counters (
  node_id   text collate "C" not null,
  verb      text not null,
  pending   bigint not null default 0,
  completed bigint not null default 0,
  failed    bigint not null default 0,
  primary key (node_id, verb)
) with (fillfactor = 50);

create table queue_state (
  id        boolean primary key default true check (id),
  paused_at timestamptz
);
insert into queue_state default values;
