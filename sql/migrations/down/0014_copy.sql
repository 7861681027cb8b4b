-- Takes 0014 away.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regnamespace('cloison') is null then
        return;
    end if;
    drop function if exists
        cloison.stage_copy(oid, text[], boolean, boolean),
        cloison.drop_copy_table(),
        cloison.make_copy_table(oid, name[], boolean);
    if pg_catalog.to_regprocedure('cloison.kit_version()') is not null then
        create or replace function cloison.kit_version()
            returns integer
            immutable
            parallel safe
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select 7';
    end if;
end
$$;

commit;
