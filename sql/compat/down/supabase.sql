-- Takes auth.uid() and the others away again, and the schema if nothing else is in it. Policies that
-- call them have to go first. Run it before the down files of the migrations.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
declare
    name text;
begin
    foreach name in array array['uid', 'jwt', 'role', 'email'] loop
        if exists (
            select from pg_catalog.pg_proc p
            where p.oid = pg_catalog.to_regprocedure(pg_catalog.format('auth.%I()', name))
              and p.prosrc like '%cloison.claims()%'
        ) then
            execute pg_catalog.format('drop function auth.%I()', name);
        end if;
    end loop;
    if exists (
        select from pg_catalog.pg_namespace n
        where n.nspname = 'auth'
          and pg_catalog.pg_get_userbyid(n.nspowner) = current_user
          and not exists (
              select from pg_catalog.pg_depend d
              where d.refclassid = 'pg_catalog.pg_namespace'::regclass and d.refobjid = n.oid)
    ) then
        drop schema auth;
    end if;
end
$$;

commit;
