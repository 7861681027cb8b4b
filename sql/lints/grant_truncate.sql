-- Tenants may TRUNCATE a table
-- critical
--
-- TRUNCATE asks no policy: one tenant empties the table for all. GRANT ALL brings it.
select
    'grant_truncate' as name,
    'critical' as level,
    r.name as object,
    format('%s may empty it for all tenants', g.who) as detail,
    format('revoke truncate on %s from %s;', r.name, g.who) as fix,
    format('grant_truncate:%s', r.name) as key
from
    cloison.tenant_relations() r
    join pg_catalog.pg_class c on c.oid = r.relation,
    lateral (
        select string_agg(case when a.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(a.grantee)) end, ', ')
        from aclexplode(c.relacl) a
        where a.privilege_type = 'TRUNCATE' and a.grantee <> c.relowner
          and a.grantee in (select role from cloison.tenant_roles() role)
    ) g (who)
where
    r.kind in ('r', 'p')
    and g.who is not null
