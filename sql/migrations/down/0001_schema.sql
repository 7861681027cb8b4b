-- Takes 0001 away, with everything in the kit's tables.
--
-- A group role stays where it still has members or rights in some database of this server.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

drop table if exists
    cloison.settings,
    cloison.signing_key,
    cloison.protected_tables,
    cloison.audit_log,
    cloison.usage_events,
    cloison.api_keys,
    cloison.tenant_users,
    cloison.tenants;
drop schema if exists cloison;

do $$
declare
    role text;
begin
    foreach role in array array['cloison_tenant', 'cloison_superadmin', 'cloison_control'] loop
        -- Since 16 whoever makes a role is a member with ADMIN: that one does not count.
        continue when exists (
            select from pg_catalog.pg_auth_members m
            where m.roleid = (select r.oid from pg_catalog.pg_roles r where r.rolname = role)
              and not m.admin_option
        );
        begin
            execute pg_catalog.format('drop role if exists %I', role);
        exception
            when dependent_objects_still_exist or insufficient_privilege then
                raise warning 'role % stays: %', role, sqlerrm;
        end;
    end loop;
end
$$;

commit;
