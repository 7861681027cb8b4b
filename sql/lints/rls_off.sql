-- Row security is off on a protected table
-- critical
--
-- Its policies are there and nobody asks them: whoever may read it reads every tenant's rows.
select
    'rls_off' as name,
    'critical' as level,
    format('%I.%I', n.nspname, c.relname) as object,
    'row security is off, so that its policies hold for nobody' as detail,
    format('alter table %I.%I enable row level security;', n.nspname, c.relname) as fix,
    format('rls_off:%I.%I', n.nspname, c.relname) as key
from
    pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where
    not c.relrowsecurity
    and (c.oid in (select p.relation::oid from cloison.protected_tables p)
         or n.nspname = 'cloison'
            and c.relname in ('tenants', 'tenant_users', 'api_keys', 'usage_events', 'audit_log'))
