-- Views and materialized views that read tables ($1), through others too.
select to_jsonb(v)::text
from (
    with recursive readers as (
        select distinct r.ev_class as oid, d.refobjid as origin
        from pg_depend d
            join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
        where d.refclassid = 'pg_class'::regclass and d.refobjid = any ($1::oid[])
          and r.ev_class <> d.refobjid
        union
        select r.ev_class, readers.origin
        from readers
            join pg_depend d on d.refobjid = readers.oid and d.refclassid = 'pg_class'::regclass
            join pg_rewrite r
                on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
                and r.ev_class <> readers.oid
    )
    select
        c.oid::regclass::text as name,
        c.relkind::text as kind,
        coalesce(array_to_string(c.reloptions, ' ') ~ 'security_invoker=(true|on|1|yes)', false)
            as is_invoker,
        coalesce(array_to_string(c.reloptions, ' ') ~ 'security_invoker=', false) as has_option,
        pg_has_role(current_user, c.relowner, 'usage') as may_alter,
        exists (
            select from aclexplode(c.relacl) a
            where a.grantee in (select role from cloison.tenant_roles() role)
              and a.privilege_type <> 'TRIGGER' and a.grantee <> c.relowner
        ) as is_open,
        exists (
            select from aclexplode(c.relacl) a
            where a.grantee = 'cloison_tenant'::regrole and a.privilege_type = 'SELECT'
        ) as is_granted,
        c.relnamespace::regnamespace::text as schema,
        not has_schema_privilege('cloison_tenant', c.relnamespace, 'usage') as needs_usage,
        array_agg(distinct readers.origin::regclass::text) as tables
    from readers join pg_class c on c.oid = readers.oid and c.relkind in ('v', 'm')
    group by c.oid
    order by 1
) v
