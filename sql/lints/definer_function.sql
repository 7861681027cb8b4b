-- A SECURITY DEFINER function that tenants may call
-- critical
--
-- It runs as its owner, and gives a tenant what its body lets through. Functions are executable by
-- PUBLIC at birth. One that has been read, and keeps tenants apart by itself, can be accepted.
select
    'definer_function' as name,
    'critical' as level,
    f.name as object,
    format('%s may call it, and it runs as %I', f.grantees, pg_get_userbyid(f.owner)) as detail,
    format('revoke execute on %s %s from %s;',
        case when p.prokind = 'p' then 'procedure' else 'function' end, f.name, f.grantees) as fix,
    format('definer_function:%s', f.name) as key
from
    cloison.tenant_functions() f
    join pg_catalog.pg_proc p on p.oid = f.function
where
    p.prosecdef
    and not f.is_own
