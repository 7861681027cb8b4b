-- Takes 0013 away: the guards of every table, and their functions.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
declare
    item record;
begin
    if pg_catalog.to_regnamespace('cloison') is null then
        return;
    end if;
    for item in
        select t.tgname, t.tgrelid::regclass as relation
        from pg_catalog.pg_trigger t
        where t.tgparentid = 0
          and t.tgfoid in (
              pg_catalog.to_regprocedure('cloison.guard_row()'),
              pg_catalog.to_regprocedure('cloison.guard_kit()'),
              pg_catalog.to_regprocedure('cloison.act_as_caller()'))
    loop
        execute pg_catalog.format('drop trigger %I on %s', item.tgname, item.relation);
    end loop;
    drop function if exists
        cloison.fence_trigger(regclass, name),
        cloison.act_as_caller(),
        cloison.action_statements(oid, text),
        cloison.guard_row(),
        cloison.apply_kit_guards(),
        cloison.kit_guards(),
        cloison.guard_kit(),
        cloison.is_across_tenants(oid),
        cloison.warn_of_actions(regclass),
        cloison.apply_guards(regclass),
        cloison.apply_guard(regclass),
        cloison.actual_guards(regclass),
        cloison.expected_guards(regclass),
        cloison.is_written_by_rules(oid),
        cloison.action_meets_code(oid, text),
        cloison.key_actions(),
        cloison.action_code(oid, text, text),
        cloison.in_tenant_session();
    -- As 0003 makes it.
    if pg_catalog.to_regprocedure('cloison.guard_findings()') is not null then
        create or replace function cloison.guard_findings()
            returns table (relation oid, level text, problem text, fix text, key text)
            stable
            security definer
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select null::oid, null, null, null, null where false';
    end if;
    if pg_catalog.to_regprocedure('cloison.kit_version()') is not null then
        create or replace function cloison.kit_version()
            returns integer
            immutable
            parallel safe
            set search_path = pg_catalog, pg_temp
            language sql
        as 'select 5';
    end if;
end
$$;

commit;
