-- Takes 0003 away. Every protected table is unprotected: tenants lose their grants on it and see
-- nothing; columns, indexes and rows stay.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
declare
    protected regclass;
    name text;
begin
    if pg_catalog.to_regnamespace('cloison') is null then
        return;
    end if;
    if pg_catalog.to_regprocedure('cloison.unprotect(regclass)') is not null then
        for protected in
            select p.relation from cloison.protected_tables p where p.part_of is null
        loop
            perform cloison.unprotect(protected);
        end loop;
        foreach name in array
            array['tenants', 'tenant_users', 'api_keys', 'usage_events', 'audit_log']
        loop
            perform cloison.take_away(pg_catalog.format('cloison.%I', name)::regclass, null);
        end loop;
    end if;
    drop index if exists cloison.tenants_canonical_key_idx;
    drop function if exists
        cloison.canonical_key(text),
        cloison.role_findings(name, text),
        cloison.protection_findings(),
        cloison.guard_findings(),
        cloison.take_away(regclass, name),
        cloison.unprotect(regclass),
        cloison.protect(regclass, text, name, uuid),
        cloison.protect_one(regclass, text, name, uuid, regclass),
        cloison.apply_grants(regclass),
        cloison.apply_policies(regclass),
        cloison.expected_grants(regclass),
        cloison.actual_policies(regclass),
        cloison.expected_policies(regclass),
        cloison.tenant_value(regtype),
        cloison.tenant_roles();
    if pg_catalog.to_regclass('cloison.tenants') is not null then
        revoke all on cloison.tenants, cloison.tenant_users, cloison.api_keys,
            cloison.usage_events, cloison.audit_log, cloison.protected_tables
            from cloison_tenant, cloison_superadmin, cloison_control;
    end if;
end
$$;

commit;
