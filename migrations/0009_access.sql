-- Who may come in, and what operators did. Nothing here is read or locked by the verbs that run jobs.
--
-- An API key is kept as its SHA-256 only; its id is the public part of the key's own text, so a leaked one can be named
-- and revoked. A key of tenant '' is the house's own (the default tenant, and the service itself); '*' sees everybody's
-- jobs. A revoked key stays, so that a service that once had keys never opens again by itself.

create table api_keys (
  id         text collate "C" primary key,
  name       text not null,
  tenant     text collate "C" not null,
  scopes     text[] not null check (cardinality(scopes) > 0),
  hash       text collate "C" not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz
);

-- Made by the first node that asks, and shared by all: what chat tokens are signed with.
create table service_secrets (
  name       text collate "C" primary key,
  secret     text not null,
  created_at timestamptz not null
);

create table operator_actions (
  id     bigint generated always as identity primary key,
  at     timestamptz not null,
  actor  text not null,
  tenant text collate "C" not null,
  action text not null,
  target text,
  reason text,
  data   jsonb not null default '{}'
);
create index operator_actions_tenant on operator_actions (tenant, id);
