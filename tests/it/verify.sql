-- What the isolation suite is tried on, beside schema.sql: other kinds of tenant columns, other
-- classes, partitions, a sequence, names that need quotes, a table without rows.

grant create on database :database to it_owner;
set role it_owner;

create table public.visit (
    organisation_id integer not null,
    id integer not null,
    body text not null,
    primary key (organisation_id, id)
);
create table public.country (code text primary key, name text not null);
create table public.secret (id integer primary key, body text);
create table public.ticket (
    tenant_id uuid not null,
    id bigserial,
    number bigint generated always as identity,
    note_id bigint,
    twice bigint generated always as (note_id * 2) stored,
    primary key (tenant_id, id),
    foreign key (tenant_id, note_id) references public.note (tenant_id, id)
);
create table public.event (
    tenant_id uuid not null,
    at date not null,
    body text
) partition by range (at);
create table public.event_2025 partition of public.event
    for values from ('2025-01-01') to ('2026-01-01');
create schema "Odd names";
create table "Odd names"."we""ird; table" (
    "the 'tenant'" character varying(10) not null,
    "select" text
);
create table public.nothing (
    tenant_id uuid not null,
    id uuid not null,
    label varchar(5) not null,
    made_at timestamptz not null
);

reset role;
select cloison.protect('public.visit', 'tenant', 'organisation_id');
select cloison.protect('public.country', 'shared');
select cloison.protect('public.secret', 'global');
select cloison.protect('public.ticket');
select cloison.protect('public.event');
select cloison.protect('"Odd names"."we""ird; table"', 'tenant', 'the ''tenant''');

insert into public.visit values (1, 1, 'a'), (1, 2, 'a'), (2, 1, 'b');
insert into public.country values ('DZ', 'Algeria'), ('CH', 'Switzerland');
insert into public.secret values (1, 'nobody''s');
insert into public.ticket (tenant_id, note_id)
select n.tenant_id, n.id from public.note n where n.id < 3;
insert into public.event
select n.tenant_id, '2025-06-01', n.body from public.note n;
insert into "Odd names"."we""ird; table" values ('1', 'a'), ('1', 'a'), ('2', 'b');
