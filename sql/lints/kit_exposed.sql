-- Tenants reach a table or a function of the kit that is not for them
-- critical
--
-- The signing key makes contexts of any tenant; the registry says what is protected; set_tenant()
-- without a proof chooses the tenant.
select
    'kit_exposed' as name,
    'critical' as level,
    k.object,
    format('%s has %s on it', w.who, k.privilege_type) as detail,
    format('revoke %s on %s %s from %s;', lower(k.privilege_type), k.kind, k.object, w.who) as fix,
    format('kit_exposed:%s:%s:%s', k.object, w.who, lower(k.privilege_type)) as key
from
    (
        select 'table' as kind, format('cloison.%I', c.relname) as object, c.relowner as owner,
            a.grantee, a.privilege_type
        from pg_catalog.pg_class c,
            lateral (
                select x.grantee, x.privilege_type from aclexplode(c.relacl) x
                union
                select x.grantee, x.privilege_type
                from pg_catalog.pg_attribute t, aclexplode(t.attacl) x
                where t.attrelid = c.oid and not t.attisdropped
                  and not (c.relname = 'api_keys' and t.attname <> 'hash'
                           and x.privilege_type = 'SELECT')
            ) a
        where c.relnamespace = 'cloison'::regnamespace
          and c.relname in ('tenants', 'tenant_users', 'api_keys', 'usage_events', 'audit_log',
                            'protected_tables', 'signing_key', 'settings', 'accepted_findings',
                            'watched_schemas', 'audit_head', 'hardening_allowed',
                            'hardening_changes', 'adoptions', 'revocations', 'session_changes')
          and not (a.privilege_type = 'SELECT' and a.grantee = 'cloison_tenant'::regrole
                   and c.relname in ('tenants', 'tenant_users', 'usage_events', 'audit_log'))
        union all
        select case when p.prokind = 'p' then 'procedure' else 'function' end,
            p.oid::regprocedure::text, p.proowner, a.grantee, a.privilege_type
        from pg_catalog.pg_proc p,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace = 'cloison'::regnamespace
          and p.oid::regprocedure::text not in (
              'cloison.kit_version()',
              'cloison.set_tenant(uuid,text)',
              'cloison.set_tenant(uuid,text,boolean)',
              'cloison.this_process()',
              'cloison.get_current_tenant()',
              'cloison.current_tenant_id()',
              'cloison.current_tenant_key()',
              'cloison.is_superadmin()',
              'cloison.visible_tenants()',
              'cloison.advisory_xact_lock(bigint)',
              'cloison.advisory_xact_lock(text)',
              'cloison.try_advisory_xact_lock(bigint)',
              'cloison.try_advisory_xact_lock(text)',
              'cloison.claims()',
              'cloison.claim(text)',
              'cloison.current_user_id()',
              'cloison.in_tenant_session()',
              'cloison.action_statements(oid,text)',
              'cloison.stage_copy(oid,text[],boolean,boolean)',
              'cloison.make_copy_table(oid,name[],boolean)',
              'cloison.drop_copy_table()')
    ) k,
    lateral (
        select case when k.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(k.grantee)) end
    ) w (who)
where
    k.grantee <> k.owner
    and k.grantee in (select role from cloison.tenant_roles() role)
