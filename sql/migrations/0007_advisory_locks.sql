-- 0007: advisory locks for tenants: what 0006 takes away, within one tenant.
--
-- Postgres' own have one key space for all tenants, and every one held takes a place in a table that
-- the whole server shares: when that is full, nobody can log in. Here the key is mixed with the
-- tenant's id, and a transaction may hold 32 of them. A lock is given back when its transaction
-- ends; there is none for a session, which tenants in a pool do not have to themselves.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

-- Takes the current tenant's lock of this key, and says whether it has it. Not for calling.
--
-- A hash that cannot be steered, so that no tenant finds a key of its own that meets another's.
create or replace function cloison.take_lock(key text, waits boolean)
    returns boolean
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    tenant uuid := cloison.current_tenant_id();
    lock_key bigint;
begin
    if tenant is null then
        raise exception 'no tenant is bound to this session'
            using errcode = 'insufficient_privilege';
    end if;
    if key is null then
        return null;
    end if;
    lock_key := ('x' || pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(
        'cloison:lock:1:'::bytea || pg_catalog.uuid_send(tenant)
        || pg_catalog.convert_to(key, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint;
    if (
        select pg_catalog.count(*) >= 32
        from pg_catalog.pg_locks l
        where l.locktype = 'advisory' and l.pid = pg_catalog.pg_backend_pid()
          and not (l.objsubid = 1
              and (l.classid::bigint << 32) + l.objid::bigint = lock_key)
    ) then
        raise exception 'a transaction may hold 32 advisory locks'
            using errcode = 'program_limit_exceeded',
                  hint = 'One lock for all of it is enough, or a row of a table that is locked '
                      'with SELECT … FOR UPDATE.';
    end if;
    if waits then
        perform pg_catalog.pg_advisory_xact_lock(lock_key);
        return true;
    end if;
    return pg_catalog.pg_try_advisory_xact_lock(lock_key);
end;
$$;

-- Waits until no other transaction of this tenant has the lock, and takes it until this one ends.
create or replace function cloison.advisory_xact_lock(key bigint)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.take_lock('n' || key, true);
end;
$$;

-- The same for a text. The text '1' and the number 1 are two locks.
create or replace function cloison.advisory_xact_lock(key text)
    returns void
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.take_lock('t' || key, true);
end;
$$;

-- Takes the lock if no other transaction of this tenant has it, and says whether it did.
create or replace function cloison.try_advisory_xact_lock(key bigint)
    returns boolean
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.take_lock('n' || key, false);
end;
$$;

create or replace function cloison.try_advisory_xact_lock(key text)
    returns boolean
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.take_lock('t' || key, false);
end;
$$;

revoke execute on function
    cloison.take_lock(text, boolean),
    cloison.advisory_xact_lock(bigint),
    cloison.advisory_xact_lock(text),
    cloison.try_advisory_xact_lock(bigint),
    cloison.try_advisory_xact_lock(text)
    from public;
grant execute on function
    cloison.advisory_xact_lock(bigint),
    cloison.advisory_xact_lock(text),
    cloison.try_advisory_xact_lock(bigint),
    cloison.try_advisory_xact_lock(text)
    to cloison_tenant;

commit;
