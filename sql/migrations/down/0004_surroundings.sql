-- Takes 0004 away.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regprocedure('cloison.surroundings(name, text[])') is null then
        return;
    end if;
    drop function cloison.surroundings(name, text[]);
    create or replace function cloison.kit_version()
        returns integer
        immutable
        parallel safe
        set search_path = pg_catalog, pg_temp
        language sql
    as 'select 1';
end
$$;

commit;
