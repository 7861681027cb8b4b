-- Takes the names in public away again. Run it before the down files of the migrations.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if exists (
        select from pg_catalog.pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relname = 'tenants'
          and c.relkind = 'v' and pg_catalog.pg_get_viewdef(c.oid) like '%cloison.%tenants%'
    ) then
        drop view public.tenants;
    end if;
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop function if exists cloison.visible_tenants();
    end if;
    if pg_catalog.to_regprocedure('public.set_tenant(uuid,text)') is not null then
        drop function public.set_tenant(uuid, text);
        drop function public.set_tenant(uuid);
        drop function public.get_current_tenant();
        drop function public.is_superadmin();
        drop function public.enable_superadmin_mode();
    end if;
end
$$;

commit;
