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
-- No session holds the chain. A row is written without a place, with a seal: HMAC-SHA-256 of
-- 'cloison:audit:row:1:' and of the same fields without place and hashes, made with the key of 0002,
-- so that it cannot be changed until it has its place. Once it is committed, audit_chain() gives it
-- one: with the proxy's next record, or with its next look at the database, within a second. The
-- places are given out one at a time, by the one row of cloison.audit_head; who finds it locked
-- leaves the rows to the other. audit_written counts the rows of each server process as they are
-- committed, so that one that goes before it has a place is missed.
--
-- Rows that have to go go by audit_archive(): a checkpoint, signed with the same key, says where the
-- chain begins from then on.

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

do $$
begin
    -- Rows from before the chain, and of a chain from before there were seals.
    perform pg_catalog.set_config('cloison.audit_is_new', (not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = 'cloison.audit_log'::regclass and a.attname = 'seal'
          and not a.attisdropped))::text, true);
end
$$;
alter table cloison.audit_log
    add column if not exists position bigint,
    add column if not exists prev bytea,
    add column if not exists hash bytea,
    add column if not exists seal bytea;
create unique index if not exists audit_log_position_idx on cloison.audit_log (position);
-- Those that wait for their place.
create index if not exists audit_log_pending_idx on cloison.audit_log (id) where hash is null;

-- Where the chain ends: one row, for its owner's functions only.
create table if not exists cloison.audit_head (
    one boolean primary key default true check (one),
    position bigint not null,
    hash bytea not null check (pg_catalog.octet_length(hash) = 32)
);
-- How many rows there were before audit_written counted them.
alter table cloison.audit_head add column if not exists base bigint not null default 0;
revoke all on cloison.audit_head from public;
-- Not forced: the owner's functions read and change it.
alter table cloison.audit_head enable row level security;
insert into cloison.audit_head (position, hash)
values (0, pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'))
on conflict do nothing;

-- How many rows a server process has written. Nobody waits for anybody: a process has a row of its
-- own.
create table if not exists cloison.audit_written (
    process integer primary key,
    rows bigint not null
) with (fillfactor = 50);
revoke all on cloison.audit_written from public;
alter table cloison.audit_written enable row level security;

-- Where the chain begins after rows have gone to an archive.
create table if not exists cloison.audit_checkpoints (
    -- The place and the hash of the last row that has gone.
    position bigint primary key,
    hash bytea not null check (pg_catalog.octet_length(hash) = 32),
    -- The first of them, and how many they were.
    first_position bigint not null,
    rows bigint not null check (rows > 0),
    -- SHA-256 of the file that they are in.
    file_hash bytea not null check (pg_catalog.octet_length(file_hash) = 32),
    made_at timestamptz not null default pg_catalog.clock_timestamp(),
    made_by text not null default session_user,
    -- HMAC-SHA-256 of 'cloison:audit:checkpoint:1:', position, first_position and rows (8 bytes each,
    -- big endian), hash and file_hash, with the key of 0002.
    mac bytea not null check (pg_catalog.octet_length(mac) = 32)
);
revoke all on cloison.audit_checkpoints from public;
alter table cloison.audit_checkpoints enable row level security;

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

-- What the seal of a row has to be.
create or replace function cloison.audit_seal(entry cloison.audit_log)
    returns bytea
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select pg_catalog.decode(cloison.mac(
        'cloison:audit:row:1:'::bytea || pg_catalog.int8send(entry.id)
        || pg_catalog.timestamptz_send(entry.at)
        || cloison.audit_field(pg_catalog.convert_to(entry.actor, 'UTF8'))
        || cloison.audit_field(pg_catalog.convert_to(entry.action, 'UTF8'))
        || cloison.audit_field(pg_catalog.uuid_send(entry.tenant_id))
        || cloison.audit_field(pg_catalog.convert_to(entry.session, 'UTF8'))
        || cloison.audit_field(pg_catalog.convert_to(entry.detail::text, 'UTF8'))), 'hex');
$$;

-- Seals a new row, and counts it.
create or replace function cloison.audit_new()
    returns trigger
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
begin
    -- What a subscription brings has its seal and its place where it comes from.
    if new.seal is not null
        and pg_catalog.current_setting('session_replication_role') = 'replica'
    then
        return new;
    end if;
    new.position := null;
    new.prev := null;
    new.hash := null;
    new.seal := cloison.audit_seal(new);
    insert into cloison.audit_written as w (process, rows)
    values (pg_catalog.pg_backend_pid(), 1)
    on conflict (process) do update set rows = w.rows + 1;
    return new;
end;
$$;

-- Gives the row of this id its place at the end. For the functions below, which hold the head.
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

-- Gives committed rows their places, and says how many. Waits for nobody: while somebody else does
-- the same, there is nothing to do. For cloison_control, which calls it in a transaction of its own.
create or replace function cloison.audit_chain()
    returns bigint
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    entry record;
    linked bigint := 0;
begin
    if not exists (select from cloison.audit_log l where l.hash is null) then
        return 0;
    end if;
    perform from cloison.audit_head h for update skip locked;
    if not found then
        return 0;
    end if;
    for entry in
        select l.id from cloison.audit_log l
        where l.hash is null and l.seal = cloison.audit_seal(l)
        order by l.id
        limit 1000
    loop
        perform cloison.audit_link(entry.id);
        linked := linked + 1;
    end loop;
    return linked;
end;
$$;

-- Nothing is changed but that a new row takes its place, and nothing goes but what is in an archive:
-- not for the owner either.
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
    elsif tg_op = 'DELETE' then
        if old.position <= (select pg_catalog.max(c.position) from cloison.audit_checkpoints c) then
            return old;
        end if;
    end if;
    raise exception 'the audit log is append-only'
        using errcode = 'insufficient_privilege',
              hint = 'cloison audit verify tells whether its rows are as they were written; '
                  'cloison audit archive moves old ones to a file.';
end;
$$;

do $$
declare
    entry record;
begin
    -- They took their places at the commit, and a session could keep the others waiting.
    drop trigger if exists audit_commit on cloison.audit_log;
    if pg_catalog.current_setting('cloison.audit_is_new') = 'true' then
        -- In the order in which they were written.
        for entry in select l.id from cloison.audit_log l where l.hash is null order by l.id loop
            perform cloison.audit_link(entry.id);
        end loop;
        update cloison.audit_head h
            set base = h.position
                - (select coalesce(pg_catalog.sum(w.rows), 0) from cloison.audit_written w);
    end if;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.audit_log'::regclass and t.tgname = 'audit_new'
    ) then
        create trigger audit_new
            before insert on cloison.audit_log
            for each row execute function cloison.audit_new();
    end if;
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = 'cloison.audit_log'::regclass and t.tgname = 'audit_keep_rows'
    ) then
        create trigger audit_keep_rows
            before update or delete on cloison.audit_log
            for each row execute function cloison.audit_keep();
        create trigger audit_keep_table
            before truncate on cloison.audit_log
            for each statement execute function cloison.audit_keep();
    end if;
end
$$;
drop function if exists cloison.audit_commit();

-- The only way by which the proxy writes. The row is committed, and so on record, whether it has its
-- place at once or somebody else is giving them out.
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
    perform cloison.audit_chain();
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

-- What the MAC of a checkpoint has to be.
create or replace function cloison.audit_checkpoint_mac(checkpoint cloison.audit_checkpoints)
    returns bytea
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select pg_catalog.decode(cloison.mac(
        'cloison:audit:checkpoint:1:'::bytea || pg_catalog.int8send(checkpoint.position)
        || pg_catalog.int8send(checkpoint.first_position) || pg_catalog.int8send(checkpoint.rows)
        || checkpoint.hash || checkpoint.file_hash), 'hex');
$$;

-- Takes away the rows up to this place, which has to have this hash, in favour of a checkpoint, and
-- says how many they were. They have to be in a file by then, of which this is the SHA-256:
-- `cloison audit archive` sees to it. For the kit's owner, and itself on record.
create or replace function cloison.audit_archive(upto bigint, upto_hash bytea, file_hash bytea)
    returns bigint
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '5s'
    language plpgsql
as $$
declare
    checkpoint cloison.audit_checkpoints;
    removed bigint;
begin
    perform from cloison.audit_head h for update;
    checkpoint.position := upto;
    checkpoint.hash := upto_hash;
    checkpoint.file_hash := file_hash;
    checkpoint.first_position := coalesce(
        (select pg_catalog.max(c.position) from cloison.audit_checkpoints c), 0) + 1;
    select pg_catalog.count(*) into checkpoint.rows
        from cloison.audit_log l
        where l.position between checkpoint.first_position and upto;
    if checkpoint.rows <> upto - checkpoint.first_position + 1 or not exists (
        select from cloison.audit_log l where l.position = upto and l.hash = upto_hash
    ) then
        raise exception 'the audit log does not hold these rows'
            using errcode = 'data_exception',
                  hint = 'cloison audit verify tells what is wrong with it.';
    end if;
    insert into cloison.audit_checkpoints
        (position, hash, first_position, rows, file_hash, mac)
    values (checkpoint.position, checkpoint.hash, checkpoint.first_position, checkpoint.rows,
        checkpoint.file_hash, cloison.audit_checkpoint_mac(checkpoint));
    delete from cloison.audit_log l where l.position <= upto;
    get diagnostics removed = row_count;
    insert into cloison.audit_log (actor, action, session, detail)
    values (
        session_user, 'audit.archived', pg_catalog.pg_backend_pid()::text,
        pg_catalog.jsonb_build_object(
            'first', checkpoint.first_position, 'last', upto, 'rows', removed,
            'hash', pg_catalog.encode(upto_hash, 'hex'),
            'file_sha256', pg_catalog.encode(file_hash, 'hex')));
    perform cloison.audit_chain();
    return removed;
end;
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
    with start as (
        select coalesce(pg_catalog.max(s.position), 0) as position
        from cloison.audit_checkpoints s
    ), chain as (
        select l.position, l.id, l.prev, l.hash, cloison.audit_hash(l) as expected,
            pg_catalog.lag(l.hash) over by_position as before,
            pg_catalog.lag(l.position) over by_position as place_before
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
        from chain c, start s
        where c.prev is distinct from coalesce(
                c.before,
                (select p.hash from cloison.audit_checkpoints p where p.position = s.position),
                pg_catalog.decode(pg_catalog.repeat('00', 32), 'hex'))
           or c.position <> coalesce(c.place_before, s.position) + 1
        union all
        select l.position, l.id, 'it was written past the chain'
        from cloison.audit_log l
        where l.hash is null and l.seal is null
        union all
        select l.position, l.id, 'its content is not what was written'
        from cloison.audit_log l
        where l.hash is null and l.seal <> cloison.audit_seal(l)
        union all
        select h.position, null, 'the chain does not end where the last row was written'
        from cloison.audit_head h, start s
        where h.position <> coalesce((select pg_catalog.max(c.position) from chain c), s.position)
           or h.position > s.position and not exists (
               select from chain c where c.position = h.position and c.hash = h.hash)
        union all
        select h.position, null, 'rows that had no place yet are gone'
        from cloison.audit_head h
        where h.position + (
                select pg_catalog.count(*) from cloison.audit_log l
                where l.hash is null and l.seal is not null)
            <> h.base + (select coalesce(pg_catalog.sum(w.rows), 0) from cloison.audit_written w)
        union all
        select p.position, null, 'this checkpoint was not made with the key of the kit'
        from cloison.audit_checkpoints p
        where p.mac <> cloison.audit_checkpoint_mac(p)
    ) f (place, id, problem)
    order by 1, 2;
$$;

revoke execute on function
    cloison.audit_field(bytea),
    cloison.audit_hash(cloison.audit_log),
    cloison.audit_link(bigint),
    cloison.audit_seal(cloison.audit_log),
    cloison.audit_new(),
    cloison.audit_chain(),
    cloison.audit_checkpoint_mac(cloison.audit_checkpoints),
    cloison.audit_archive(bigint, bytea, bytea),
    cloison.audit_keep(),
    cloison.audit_append(text, text, uuid, text, jsonb),
    cloison.audit_findings()
    from public;
grant execute on function
    cloison.audit_append(text, text, uuid, text, jsonb),
    cloison.audit_chain()
    to cloison_control;

commit;
