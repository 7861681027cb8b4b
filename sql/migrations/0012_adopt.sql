-- 0012: what `cloison adopt` keeps of its plans.
--
-- A plan is made from the tables as they were, and cannot be made again once they are half changed.
-- So it is kept here before its first step. Which steps are done is not: that is asked of the
-- catalogue, step by step.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

create or replace function cloison.kit_version()
    returns integer
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select 5;
$$;

-- For the kit's owner alone: the SQL of a plan is run as whoever applies it.
create table if not exists cloison.adoptions (
    id integer generated always as identity primary key,
    -- The mapping that it was made from, to tell whether somebody asks for the same again.
    mapping jsonb not null,
    plan jsonb not null,
    state text not null default 'applying'
        check (state in ('applying', 'applied', 'undoing', 'undone')),
    begun_by name not null default session_user,
    begun_at timestamptz not null default pg_catalog.now(),
    changed_at timestamptz not null default pg_catalog.now()
);
revoke all on cloison.adoptions from public;

-- One at a time: what the next one finds would change below it.
create unique index if not exists adoptions_unfinished
    on cloison.adoptions ((true)) where state in ('applying', 'undoing');

commit;
