-- A function marked LEAKPROOF
-- critical, warning
--
-- The planner runs it before the policy has thrown other tenants' rows out, so that whatever it
-- tells, by a notice, an error or its time, it tells of them. It is critical where tenants may call
-- it.
select
    'leakproof_function' as name,
    case when f.function is null then 'warning' else 'critical' end as level,
    p.oid::regprocedure::text as object,
    'it is run on rows that the policies have not seen yet; only a superuser can take the mark away'
        as detail,
    format('alter function %s not leakproof;', p.oid::regprocedure) as fix,
    format('leakproof_function:%s', p.oid::regprocedure) as key
from
    pg_catalog.pg_proc p
    left join cloison.tenant_functions() f on f.function = p.oid
where
    p.proleakproof
    and p.oid >= 16384
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
