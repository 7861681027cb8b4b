-- 0010: who is asking: the claims of the client's token, for SQL.
--
-- The proxy leaves them in the setting cloison.claims, beside the context and in the same
-- statement, where the issuer's rule lists any (claims_in_sql). Any SQL may change a setting, so
-- they carry a MAC of their own, made with the key of 0002:
--
--   'p' || second (ten digits) || JSON || MAC in hex (64 digits)
--
-- The MAC is HMAC-SHA-256 of 'cloison:claims:1:' || tenant (16 bytes) || everything ahead of the
-- MAC || process mark. So they are good for the tenant that is bound, on
-- this server process, in transactions that begin before that second of the Unix epoch.

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

-- The claims of the client's token, or null: no tenant is bound, the rule that accepted the token
-- lists none, or their time is over. Raises where the setting was not made for this session.
create or replace function cloison.claims()
    returns jsonb
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    -- A setting made locally reads as '' once its transaction is over.
    signed text := nullif(pg_catalog.current_setting('cloison.claims', true), '');
    body text := pg_catalog.left(signed, -64);
    mac text := pg_catalog.right(signed, 64);
    mark text := cloison.process_mark();
    tenant uuid;
    inner_pad bytea;
    outer_pad bytea;
    expected text;
begin
    if signed is null then
        return null;
    end if;
    tenant := cloison.context_tenant();
    if tenant is null then
        return null;
    end if;
    -- Where processes are not what the proxy sees, it signs for none.
    if (select not s.bind_process_id from cloison.settings s) then
        mark := '';
    end if;
    select k.inner_pad, k.outer_pad into inner_pad, outer_pad from cloison.signing_key k;
    expected := pg_catalog.encode(
        pg_catalog.sha256(outer_pad || pg_catalog.sha256(
            inner_pad || 'cloison:claims:1:'::bytea || pg_catalog.uuid_send(tenant)
            || pg_catalog.convert_to(body || mark, 'UTF8'))),
        'hex');
    if (pg_catalog.hashtextextended(mac, 0) = pg_catalog.hashtextextended(expected, 0)
        and mac = expected) is not true
    then
        raise exception 'the claims were not made for this session'
            using errcode = 'insufficient_privilege',
                  detail = 'The setting cloison.claims is not what the proxy has set.',
                  hint = 'RESET cloison.claims, or connect again.';
    end if;
    if cloison.is_good_until(pg_catalog.substr(body, 2, 10)) is not true then
        return null;
    end if;
    return pg_catalog.substr(body, 12)::jsonb;
end;
$$;

-- One claim as text: by its name, or by a path with dots, such as 'app_metadata.plan'.
create or replace function cloison.claim(path text)
    returns text
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
declare
    claims jsonb := cloison.claims();
begin
    if claims ? path then
        return claims ->> path;
    end if;
    -- No path is no claim, and not all of them.
    return claims #>> nullif(pg_catalog.string_to_array(path, '.'), '{}');
end;
$$;

-- Who is asking: the token's `sub`.
create or replace function cloison.current_user_id()
    returns text
    stable
    parallel restricted
    security definer
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.claims() ->> 'sub';
end;
$$;

revoke execute on function
    cloison.claims(),
    cloison.claim(text),
    cloison.current_user_id()
    from public;
-- The super-admin, for whom they are null, meets them in policies and defaults.
grant execute on function
    cloison.claims(),
    cloison.claim(text),
    cloison.current_user_id()
    to cloison_tenant, cloison_superadmin;

commit;
