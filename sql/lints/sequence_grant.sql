-- Tenants have more on a sequence than drawing from it
-- warning
--
-- SELECT counts what the others have drawn, UPDATE sets it back for all.
select
    'sequence_grant' as name,
    'warning' as level,
    r.name as object,
    format('%s has %s', g.who, g.verbs) as detail,
    format('revoke %s on sequence %s from %s;', g.verbs, r.name, g.who) as fix,
    format('sequence_grant:%s:%s', r.name, g.who) as key
from
    cloison.tenant_relations() r
    join pg_catalog.pg_class c on c.oid = r.relation,
    lateral (
        select w.who, lower(string_agg(a.privilege_type, ', ' order by a.privilege_type))
        from aclexplode(c.relacl) a,
            lateral (
                select case when a.grantee = 0 then 'public'
                    else quote_ident(pg_get_userbyid(a.grantee)) end
            ) w (who)
        where a.privilege_type <> 'USAGE' and a.grantee <> c.relowner
          and a.grantee in (select role from cloison.tenant_roles() role)
        group by w.who
    ) g (who, verbs)
where
    r.kind = 'S'
