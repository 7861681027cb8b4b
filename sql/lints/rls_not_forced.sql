-- Row security is not forced on a protected table
-- critical, warning
--
-- Its owner bypasses the policies. It is critical where tenants run as the owner.
select
    'rls_not_forced' as name,
    case when c.relowner in (select role from cloison.tenant_roles() role)
         then 'critical' else 'warning' end as level,
    format('%I.%I', n.nspname, c.relname) as object,
    format('row security does not hold for the owner, %I, nor for what runs as the owner',
        pg_get_userbyid(c.relowner)) as detail,
    format('alter table %I.%I force row level security;', n.nspname, c.relname) as fix,
    format('rls_not_forced:%I.%I', n.nspname, c.relname) as key
from
    pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where
    not c.relforcerowsecurity
    and (c.oid in (select p.relation::oid from cloison.protected_tables p)
         or n.nspname = 'cloison'
            and c.relname in ('tenants', 'tenant_users', 'api_keys', 'usage_events', 'audit_log'))
