-- Takes 0010 away.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop function if exists
            cloison.current_user_id(),
            cloison.claim(text),
            cloison.claims();
    end if;
    if pg_catalog.to_regprocedure('cloison.kit_version()') is not null then
        create or replace function cloison.kit_version()
            returns integer
            immutable
            parallel safe
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select 4';
    end if;
end
$$;

commit;
