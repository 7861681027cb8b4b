-- Takes 0005 away, and with it what was accepted and watched. An event trigger goes too.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regprocedure('cloison.tenant_relations()') is null then
        return;
    end if;
    if exists (
        select from pg_catalog.pg_event_trigger t
        where t.evtname = 'cloison_new_table'
          and pg_catalog.pg_has_role(t.evtowner, 'usage')
    ) then
        drop event trigger cloison_new_table;
    end if;
    drop function
        cloison.unwatch_schema(regnamespace),
        cloison.watch_schema(regnamespace, text),
        cloison.on_new_table(),
        cloison.registered_tables(),
        cloison.tenant_parameters(),
        cloison.tenant_functions(),
        cloison.tenant_relations();
    drop table cloison.watched_schemas, cloison.accepted_findings;
    revoke execute on function
        cloison.tenant_roles(),
        cloison.actual_policies(regclass),
        cloison.expected_grants(regclass),
        cloison.tenant_value(regtype)
        from cloison_control;
    create or replace function cloison.kit_version()
        returns integer
        immutable
        parallel safe
        set search_path = pg_catalog, pg_temp
        language sql
    as 'select 2';
end
$$;

commit;
