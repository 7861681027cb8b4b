-- Tenants may use a foreign server
-- warning
--
-- Who may use it can make user mappings for himself; a foreign table on it has no row security.
select
    'foreign_server' as name,
    'warning' as level,
    quote_ident(s.srvname) as object,
    format('%s may use it', w.who) as detail,
    format('revoke usage on foreign server %I from %s;', s.srvname, w.who) as fix,
    format('foreign_server:%I:%s', s.srvname, w.who) as key
from
    pg_catalog.pg_foreign_server s,
    aclexplode(s.srvacl) a,
    lateral (
        select case when a.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(a.grantee)) end
    ) w (who)
where
    a.grantee <> s.srvowner
    and a.grantee in (select role from cloison.tenant_roles() role)
