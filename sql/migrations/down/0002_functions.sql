-- Takes 0002 away. Run the down file of 0003 first: policies and column defaults need these.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;

do $$
begin
    if pg_catalog.to_regclass('cloison.tenants') is not null then
        drop trigger if exists tenant_changed on cloison.tenants;
        drop trigger if exists touch_tenant on cloison.tenants;
    end if;
    if pg_catalog.to_regclass('cloison.signing_key') is not null then
        drop trigger if exists signing_key_changed on cloison.signing_key;
    end if;
    if pg_catalog.to_regnamespace('cloison') is not null then
        drop function if exists
            cloison.touch_tenant(),
            cloison.signing_key_changed(),
            cloison.tenant_changed(),
            cloison.signing_material(),
            cloison.current_actor(),
            cloison.renew_superadmin(text, text),
            cloison.sign_superadmin(text),
            cloison.enable_superadmin_mode(),
            cloison.demand_superadmin_write(),
            cloison.superadmin_may_write(),
            cloison.is_superadmin(),
            cloison.is_signed(text, text, text),
            cloison.mac(bytea),
            cloison.current_tenant_key(),
            cloison.current_tenant_id(),
            cloison.get_current_tenant(),
            cloison.bound_tenant(),
            cloison.context_tenant(),
            cloison.outer_pad(),
            cloison.inner_pad(),
            cloison.set_tenant(uuid),
            cloison.set_tenant(uuid, text),
            cloison.set_tenant(uuid, text, boolean),
            cloison.bind_tenant(uuid, bytea, bytea),
            cloison.is_good_until(text),
            cloison.this_process(),
            cloison.process_mark(),
            cloison.kit_version();
    end if;
end
$$;

commit;
