-- An OR in a policy for tenants
-- warning
--
-- It takes the index away from the comparison with the tenant, and one lax arm is enough. Two
-- policies, for two roles, say the same without it.
select
    'policy_or' as name,
    'warning' as level,
    format('%I.%I', n.nspname, c.relname) as object,
    format('policy %I has an OR: %s', p.polname, x.text) as detail,
    format('drop policy %I on %I.%I;', p.polname, n.nspname, c.relname) as fix,
    format('policy_or:%I.%I:%s', n.nspname, c.relname, p.polname) as key
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
    -- As Postgres prints it, in capitals; what is quoted is taken out.
    and regexp_replace(regexp_replace(x.text, '''([^'']|'''')*''', '', 'g'), '"[^"]*"', '', 'g')
        ~ '\mOR\M'
