-- 0011: keys for software that cannot mint a token.
--
-- A key is cl_<id>_<secret>: the id, to recognise it by, and 256 random bits. Only its SHA-256 is
-- kept. A slow hash is for what people think of; nobody finds 256 random bits by trying, and a login
-- stays cheap. It belongs to one tenant and opens what a tenant's token opens, no more: a read-only
-- key would be a promise that settings cannot keep, so there are no scopes, and a key that has one
-- opens nothing.

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

-- Fails unless the caller may look at keys: a super-admin who has said so, or the kit's owner.
create or replace function cloison.demand_superadmin()
    returns void
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    if not cloison.is_superadmin()
       and not pg_catalog.pg_has_role(session_user, current_user, 'usage') then
        raise exception 'this is for super-admins'
            using errcode = 'insufficient_privilege',
                  hint = 'First: select cloison.enable_superadmin_mode();';
    end if;
end;
$$;

-- Makes a key for a tenant and returns it: this once, for nobody can read it again.
create or replace function cloison.create_api_key(
    tenant uuid, name text, expires_at timestamptz default null
)
    returns text
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    id uuid := pg_catalog.gen_random_uuid();
    prefix text := 'cl_' || pg_catalog.replace(id::text, '-', '');
    secret bytea := '';
    key text;
begin
    perform cloison.demand_superadmin_write();
    if not exists (select from cloison.tenants t where t.id = tenant and t.status <> 'archived')
    then
        raise exception 'there is no such tenant' using errcode = 'no_data_found';
    end if;
    -- Four random uuids hold 488 bits from the server's cryptographic generator.
    for i in 1..4 loop
        secret := secret || pg_catalog.uuid_send(pg_catalog.gen_random_uuid());
    end loop;
    key := prefix || '_' || pg_catalog.encode(pg_catalog.sha256(secret), 'hex');
    insert into cloison.api_keys (id, tenant_id, name, prefix, hash, expires_at)
    values (id, tenant, name, prefix, pg_catalog.sha256(pg_catalog.convert_to(key, 'UTF8')),
            expires_at);
    insert into cloison.audit_log (actor, action, tenant_id, session, detail)
    values (session_user, 'api_key.created', tenant, pg_catalog.pg_backend_pid()::text,
            pg_catalog.jsonb_build_object('key', id, 'name', name, 'expires_at', expires_at));
    return key;
end;
$$;

-- The keys of a tenant, or of all, newest first.
create or replace function cloison.list_api_keys(tenant uuid default null)
    returns table (
        id uuid,
        tenant_id uuid,
        name text,
        prefix text,
        created_at timestamptz,
        expires_at timestamptz,
        revoked_at timestamptz
    )
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
#variable_conflict use_column
begin
    perform cloison.demand_superadmin();
    return query
        select k.id, k.tenant_id, k.name, k.prefix, k.created_at, k.expires_at, k.revoked_at
        from cloison.api_keys k
        where tenant is null or k.tenant_id = tenant
        order by k.created_at desc, k.id;
end;
$$;

-- Revokes a key, and says whether it was good until now. No login succeeds with it from the commit
-- on; sessions that are there end.
create or replace function cloison.revoke_api_key(key uuid, reason text)
    returns boolean
    volatile
    parallel unsafe
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
declare
    tenant uuid;
begin
    perform cloison.demand_superadmin_write();
    if coalesce(reason, '') = '' then
        raise exception 'why? It is kept in the audit log' using errcode = 'null_value_not_allowed';
    end if;
    update cloison.api_keys k
        set revoked_at = pg_catalog.clock_timestamp()
        where k.id = key and k.revoked_at is null
        returning k.tenant_id into tenant;
    if tenant is null then
        return false;
    end if;
    insert into cloison.audit_log (actor, action, tenant_id, session, detail)
    values (session_user, 'api_key.revoked', tenant, pg_catalog.pg_backend_pid()::text,
            pg_catalog.jsonb_build_object('key', key, 'reason', reason));
    -- Ends the sessions that it has opened: to the proxy a key's id is its token's.
    perform cloison.revoke_token(key::text, reason, 'api key');
    return true;
end;
$$;

-- What a key with this hash opens, if it opens anything. For cloison_control, at every login.
create or replace function cloison.find_api_key(hash bytea)
    returns table (id uuid, tenant_id uuid, expires_at timestamptz)
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    set row_security = on
    language plpgsql
as $$
#variable_conflict use_column
begin
    return query
        select k.id, k.tenant_id, k.expires_at
        from cloison.api_keys k
        where k.hash = find_api_key.hash
          and k.revoked_at is null
          and (k.expires_at is null or k.expires_at > pg_catalog.now())
          and k.scopes = '{}';
end;
$$;

-- Who may call what. Nobody else may call anything.
revoke execute on all functions in schema cloison from public;
grant execute on function
    cloison.create_api_key(uuid, text, timestamptz),
    cloison.list_api_keys(uuid),
    cloison.revoke_api_key(uuid, text)
    to cloison_superadmin;
grant execute on function cloison.find_api_key(bytea) to cloison_control;

commit;
