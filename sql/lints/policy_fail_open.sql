-- A policy that lets everything through when no tenant is set
-- critical, warning
--
-- "setting IS NULL OR …" and COALESCE(setting, column) are true for every row exactly when
-- something went wrong. On a table that the kit does not look after nothing else stands in the way.
select
    'policy_fail_open' as name,
    case when exists (
            select from cloison.protected_tables t where t.relation = c.oid and t.class = 'tenant')
         or not p.polpermissive
         then 'warning' else 'critical' end as level,
    format('%I.%I', n.nspname, c.relname) as object,
    format('policy %I lets rows through when the setting that it reads is not there: %s',
        p.polname, x.text) as detail,
    format('drop policy %I on %I.%I;', p.polname, n.nspname, c.relname) as fix,
    format('policy_fail_open:%I.%I:%s', n.nspname, c.relname, p.polname) as key
from
    pg_catalog.pg_policy p
    join pg_catalog.pg_class c on c.oid = p.polrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace,
    lateral (
        select concat_ws(' ', pg_get_expr(p.polqual, p.polrelid),
            pg_get_expr(p.polwithcheck, p.polrelid))
    ) x (text)
where
    n.nspname <> 'cloison'
    and p.polroles && array(select role from cloison.tenant_roles() role)
    -- The kit's own are held to their text by policy_changed.
    and not (p.polname like 'cloison\_%'
             and exists (select from cloison.protected_tables t where t.relation = c.oid))
    and x.text ~* '(current_setting|current_tenant|get_current_tenant|is_superadmin)\('
    and x.text ~* '(\mCOALESCE\(|\mIS NULL\M|= ''''::text|\mIS NOT TRUE\M|\mIS DISTINCT\M)'
