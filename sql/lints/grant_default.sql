-- Default privileges give tenants what is made next
-- warning
--
-- A table that is born readable is one that every tenant reads until somebody protects it.
select
    'grant_default' as name,
    'warning' as level,
    quote_ident(pg_get_userbyid(d.defaclrole)) as object,
    format('%s that %I makes%s are born with %s for %s', k.kind, pg_get_userbyid(d.defaclrole),
        ' in schema ' || quote_ident(n.nspname), g.verbs, g.who) as detail,
    format('alter default privileges for role %I%s revoke all on %s from %s;',
        pg_get_userbyid(d.defaclrole), ' in schema ' || quote_ident(n.nspname), k.kind, g.who)
        as fix,
    format('grant_default:%I:%s:%s%s', pg_get_userbyid(d.defaclrole), k.kind, g.who,
        ':' || quote_ident(n.nspname)) as key
from
    pg_catalog.pg_default_acl d
    left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace,
    lateral (
        select case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
                                    when 'f' then 'functions' end
    ) k (kind),
    lateral (
        select w.who, string_agg(a.privilege_type, ', ')
        from aclexplode(d.defaclacl) a,
            lateral (
                select case when a.grantee = 0 then 'public'
                    else quote_ident(pg_get_userbyid(a.grantee)) end
            ) w (who)
        where a.grantee in (select role from cloison.tenant_roles() role)
          and a.grantee <> d.defaclrole
          -- What Postgres gives by itself.
          and not (d.defaclobjtype = 'f' and a.grantee = 0)
        group by w.who
    ) g (who, verbs)
where
    k.kind is not null
