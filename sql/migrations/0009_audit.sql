-- 0009: the audit log as a chain: whoever changes, removes or inserts a row of it breaks what follows.
--
-- Each row has a position, the hash of the row before it, and a hash over itself and that:
--
--   SHA-256('cloison:audit:1:' || previous hash (32 bytes) || position || id (8 bytes each, big
--   endian) || at (Postgres' binary form) || actor || action || tenant_id || session || detail)
--
-- where each of the last five is its length (4 bytes) and its bytes: texts in UTF-8, the tenant's 16
-- bytes, the detail as jsonb prints it; or 255 four times where it is null. The first row's
-- previous hash is 32 zero bytes. `cloison audit verify` computes the same outside of the database.
--
-- A row takes its place when its transaction commits (a deferred trigger), so that nobody who writes
-- one and stays in his transaction keeps others waiting: the places are given out one at a time, by
-- the one row of cloison.audit_head.

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

alter table cloison.audit_log
    add column if not exists position bigint,
    add column if not exists prev bytea,
    add column if not exists hash bytea;
create unique index if not exists audit_log_position_idx on cloison.audit_log (position);

-- Where the chain ends: one row, for its owner's functions only.
create table if not exists cloison.audit_head (
    one boolean primary key default true check (one),
    position bigint not null,
    hash bytea not null check (pg_catalog.octet_length(hash) = 32)
);
revoke all on cloison.audit_head from public;
-- Not forced: the owner's functions read and change it.
alter table cloison.audit_head enable row level security;
insert into cloison.audit_head (position, hash)
values (0, pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'))
on conflict do nothing;

-- A field as it is hashed: its length ahead of it, so that no two rows read alike.
create or replace function cloison.audit_field(field bytea)
    returns bytea
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select case when field is null then '\xffffffff'::bytea
        else pg_catalog.int4send(pg_catalog.octet_length(field)) || field end;
$$;

-- What the hash of a row has to be, given its place.
create or replace function cloison.audit_hash(entry cloison.audit_log)
    returns bytea
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select pg_catalog.sha256(
        'cloison:audit:1:'::bytea || entry.prev
        || pg_catalog.int8send(entry.position) || pg_catalog.int8send(entry.id)
        || pg_catalog.timestamptz_send(entry.at)
        || cloison.audit_field(pg_catalog.convert_to(entry.actor, 'UTF8'))
        || cloison.audit_field(pg_catalog.convert_to(entry.action, 'UTF8'))
        || cloison.audit_field(pg_catalog.uuid_send(entry.tenant_id))
        || cloison.audit_field(pg_catalog.convert_to(entry.session, 'UTF8'))
        || cloison.audit_field(pg_catalog.convert_to(entry.detail::text, 'UTF8')));
$$;

-- Gives the row of this id its place at the end. For the functions below.
create or replace function cloison.audit_link(entry_id bigint)
    returns void
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    head cloison.audit_head;
    entry cloison.audit_log;
begin
    select h.* into strict head from cloison.audit_head h for update;
    select l.* into strict entry from cloison.audit_log l where l.id = entry_id;
    if entry.hash is not null then
        return;
    end if;
    entry.position := head.position + 1;
    entry.prev := head.hash;
    entry.hash := cloison.audit_hash(entry);
    update cloison.audit_log l
        set position = entry.position, prev = entry.prev, hash = entry.hash
        where l.id = entry_id;
    update cloison.audit_head h set position = entry.position, hash = entry.hash;
end;
$$;

-- At the commit. Who waits longer than this for the end of the chain does not commit.
create or replace function cloison.audit_commit()
    returns trigger
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    set lock_timeout = '5s'
    language plpgsql
as $$
begin
    perform cloison.audit_link(new.id);
    return null;
end;
$$;

-- Nothing is changed but that a new row takes its place, and nothing goes: not for the owner either.
create or replace function cloison.audit_keep()
    returns trigger
    volatile
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    if tg_op = 'UPDATE' then
        if old.hash is null and new.hash is not null
            and pg_catalog.to_jsonb(old) - array['position', 'prev', 'hash']
                = pg_catalog.to_jsonb(new) - array['position', 'prev', 'hash']
        then
            return new;
        end if;
    end if;
    raise exception 'the audit log is append-only'
        using errcode = 'insufficient_privilege',
              hint = 'cloison audit verify tells whether its rows are as they were written.';
end;
$$;

-- Rows from before, in the order in which they were written.
do $$
declare
    entry record;
begin
    for entry in select l.id from cloison.audit_log l where l.hash is null order by l.id loop
        perform cloison.audit_link(entry.id);
    end loop;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.audit_log'::regclass and t.tgname = 'audit_commit'
    ) then
        -- What the rows from before have left to be checked would be in the way.
        set constraints all immediate;
        create constraint trigger audit_commit
            after insert on cloison.audit_log
            deferrable initially deferred
            for each row execute function cloison.audit_commit();
        create trigger audit_keep_rows
            before update or delete on cloison.audit_log
            for each row execute function cloison.audit_keep();
        create trigger audit_keep_table
            before truncate on cloison.audit_log
            for each statement execute function cloison.audit_keep();
    end if;
end
$$;

-- The only way by which the proxy writes.
create or replace function cloison.audit_append(
    actor text, action text, tenant_id uuid, session text, detail jsonb
)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
begin
    insert into cloison.audit_log (actor, action, tenant_id, session, detail)
    values (audit_append.actor, audit_append.action, audit_append.tenant_id,
        audit_append.session, coalesce(audit_append.detail, '{}'));
end;
$$;

-- The super-admin's policies of tables that were protected before: reading and writing are apart now.
-- Whose owner somebody else is, protection_findings() tells.
do $$
declare
    target regclass;
begin
    for target in
        select p.relation from cloison.protected_tables p
            join pg_catalog.pg_class c on c.oid = p.relation
        where pg_catalog.pg_has_role(c.relowner, 'usage')
    loop
        perform cloison.apply_policies(target);
    end loop;
end
$$;

-- Where the chain is broken. No rows: it is whole, as far as those who could have written it anew
-- did not. For the kit's owner.
create or replace function cloison.audit_findings()
    returns table (place bigint, id bigint, problem text)
    stable
    set search_path = pg_catalog, pg_temp
    set jit = off
    language sql
as $$
    with chain as (
        select l.position, l.id, l.prev, l.hash, cloison.audit_hash(l) as expected,
            pg_catalog.lag(l.hash) over by_position as before,
            pg_catalog.lag(l.position, 1, 0::bigint) over by_position as place_before
        from cloison.audit_log l
        where l.hash is not null
        window by_position as (order by l.position)
    )
    select f.place, f.id, f.problem
    from (
        select c.position, c.id, 'its content is not what was written'
        from chain c
        where c.hash is distinct from c.expected
        union all
        select c.position, c.id, 'the row before it is not the one that it was written behind'
        from chain c
        where c.prev is distinct from coalesce(
                c.before, pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'))
           or c.position <> c.place_before + 1
        union all
        select l.position, l.id, 'it was written past the chain'
        from cloison.audit_log l
        where l.hash is null
        union all
        select h.position, null, 'the chain does not end where the last row was written'
        from cloison.audit_head h
        where h.position <> coalesce((select pg_catalog.max(c.position) from chain c), 0)
           or h.position > 0 and not exists (
               select from chain c where c.position = h.position and c.hash = h.hash)
    ) f (place, id, problem)
    order by 1, 2;
$$;

revoke execute on function
    cloison.audit_field(bytea),
    cloison.audit_hash(cloison.audit_log),
    cloison.audit_link(bigint),
    cloison.audit_commit(),
    cloison.audit_keep(),
    cloison.audit_append(text, text, uuid, text, jsonb),
    cloison.audit_findings()
    from public;
grant execute on function cloison.audit_append(text, text, uuid, text, jsonb) to cloison_control;

commit;
