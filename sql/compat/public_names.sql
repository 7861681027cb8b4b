-- Optional: the kit's names without its schema, in public, for applications that call
-- set_tenant(), get_current_tenant(), is_superadmin(), enable_superadmin_mode() or read `tenants`.
--
-- The functions run as whoever calls them, so they allow nothing that the kit's own do not.
-- Needs the right to create in the schema public. A second run changes nothing.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
do $$ begin perform pg_catalog.pg_advisory_xact_lock(5494051832711403); end $$;

create or replace function public.set_tenant(tenant uuid)
    returns void
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.set_tenant(tenant);
end;
$$;

create or replace function public.set_tenant(tenant uuid, proof text)
    returns void
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.set_tenant(tenant, proof);
end;
$$;

create or replace function public.get_current_tenant()
    returns uuid
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.get_current_tenant();
end;
$$;

create or replace function public.is_superadmin()
    returns boolean
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    return cloison.is_superadmin();
end;
$$;

create or replace function public.enable_superadmin_mode()
    returns void
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
    language plpgsql
as $$
begin
    perform cloison.enable_superadmin_mode();
end;
$$;

revoke execute on function
    public.set_tenant(uuid),
    public.set_tenant(uuid, text),
    public.get_current_tenant(),
    public.is_superadmin(),
    public.enable_superadmin_mode()
    from public;
grant execute on function
    public.set_tenant(uuid),
    public.set_tenant(uuid, text),
    public.get_current_tenant(),
    public.is_superadmin(),
    public.enable_superadmin_mode()
    to cloison_tenant, cloison_superadmin;

-- What the caller's own policies on cloison.tenants show. A function, since before 15 a view reads
-- its tables as its owner.
create or replace function cloison.visible_tenants()
    returns setof cloison.tenants
    stable
    set search_path = pg_catalog, pg_temp
    language sql
as $$
    select t.* from cloison.tenants t;
$$;
revoke execute on function cloison.visible_tenants() from public;

do $$
declare
    kind "char" := (
        select c.relkind from pg_catalog.pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relname = 'tenants');
begin
    if kind is distinct from 'v' and kind is not null then
        raise warning 'public.tenants is a table of the application''s own: left as it is'
            using hint = 'The kit''s tenants are in cloison.tenants.';
        return;
    end if;
    if kind is null and pg_catalog.current_setting('server_version_num')::integer >= 150000 then
        create view public.tenants with (security_invoker = on) as
            select * from cloison.tenants;
    elsif kind is null then
        -- Read-only: write to cloison.tenants itself.
        create view public.tenants as
            select * from cloison.visible_tenants();
    elsif pg_catalog.pg_get_viewdef('public.tenants'::regclass) not like '%cloison.%tenants%' then
        raise warning 'public.tenants is a view of the application''s own: left as it is'
            using hint = 'The kit''s tenants are in cloison.tenants.';
        return;
    end if;

    if pg_catalog.current_setting('server_version_num')::integer >= 150000 then
        grant select on public.tenants to cloison_tenant;
        grant select, insert, update, delete on public.tenants to cloison_superadmin;
    else
        grant execute on function cloison.visible_tenants() to cloison_superadmin, cloison_tenant;
        grant select on public.tenants to cloison_tenant, cloison_superadmin;
    end if;
end
$$;

commit;
