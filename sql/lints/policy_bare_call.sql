-- A policy calls a function outside of a sub-select
-- warning
--
-- A bare call runs once a row; (select f()) runs once a scan and leaves the index usable.
select
    'policy_bare_call' as name,
    'warning' as level,
    format('%I.%I', n.nspname, c.relname) as object,
    format('policy %I calls a function for every row: %s', p.polname, x.text) as detail,
    format('alter policy %I on %I.%I%s%s;', p.polname, n.nspname, c.relname,
        ' using (' || regexp_replace(pg_get_expr(p.polqual, p.polrelid), b.call, '\1(select \2)',
            'g') || ')',
        ' with check (' || regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), b.call,
            '\1(select \2)', 'g') || ')') as fix,
    format('policy_bare_call:%I.%I:%s', n.nspname, c.relname, p.polname) as key
from
    -- A call whose arguments are constants, after something that is no name. One of a column has
    -- to run for every row.
    (select '(^|[^[:alnum:]_."])([[:lower:]_"][[:alnum:]_."]*\((?:' || a.one || '(?:, ' || a.one
        || ')*)?\))'
     from (
        select '(?:''(?:[^'']|'''')*''(?:::[a-z ]+)?|true|false|NULL(?:::[a-z ]+)?|-?\d+)'
     ) a (one)
    ) b (call),
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
    and regexp_replace(x.text, '\( SELECT (?:[^()]|\([^()]*\))*\)', '', 'g') ~ b.call
