-- Takes 0004 away. Whoever had taken pg_prepared_statement() from PUBLIC himself before has to do
-- that again.

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
    if (
        select pg_catalog.pg_has_role(p.proowner, 'usage')
        from pg_catalog.pg_proc p
        where p.oid = 'pg_catalog.pg_prepared_statement()'::regprocedure
    ) then
        grant execute on function pg_catalog.pg_prepared_statement() to public;
    end if;
end
$$;

commit;
