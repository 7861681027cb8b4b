-- A SECURITY DEFINER function that tenants may call, or that something calls for them
-- critical
--
-- It runs as its owner, and gives a tenant what its body lets through. Functions are executable by
-- PUBLIC at birth; and for a trigger, an aggregate or a cast Postgres does not ask the tenant for
-- EXECUTE. One that has been read, and keeps tenants apart by itself, can be accepted.
with
writable as (
    select t.relation from cloison.registered_tables() t where t.class = 'tenant'
    union
    select r.relation from cloison.tenant_relations() r
    where r.privileges && array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'OWNER']
),
way as (
    select f.function, true as is_call, format('%s may call it', f.grantees) as text
    from cloison.tenant_functions() f
    union all
    select g.tgfoid, false,
        format('trigger %I of %s calls it', g.tgname, g.tgrelid::regclass)
    from pg_catalog.pg_trigger g join writable w on w.relation = g.tgrelid
    where not g.tgisinternal and g.tgenabled <> 'D' and g.tgparentid = 0
    union all
    select s.function, false, format('aggregate %s calls it', f.name)
    from cloison.tenant_functions() f
        join pg_catalog.pg_aggregate a on a.aggfnoid = f.function,
        lateral (values
            (a.aggtransfn::oid), (a.aggfinalfn::oid), (a.aggcombinefn::oid), (a.aggserialfn::oid),
            (a.aggdeserialfn::oid), (a.aggmtransfn::oid), (a.aggminvtransfn::oid),
            (a.aggmfinalfn::oid)) s (function)
    union all
    select c.castfunc, false,
        format('the cast from %s to %s calls it', c.castsource::regtype, c.casttarget::regtype)
    from pg_catalog.pg_cast c
    union all
    select s.function, false, format('the range type %s calls it', r.rngtypid::regtype)
    from pg_catalog.pg_range r,
        lateral (values (r.rngcanonical::oid), (r.rngsubdiff::oid)) s (function)
    union all
    select a.amproc::oid, false, format('operator family %s calls it', f.opfname)
    from pg_catalog.pg_amproc a join pg_catalog.pg_opfamily f on f.oid = a.amprocfamily
)
select
    'definer_function' as name,
    'critical' as level,
    p.oid::regprocedure::text as object,
    format('%s, and it runs as %I', string_agg(distinct w.text, '; '),
        pg_get_userbyid(p.proowner)) as detail,
    case when bool_and(w.is_call)
        then format('revoke execute on %s %s from %s;',
            case when p.prokind = 'p' then 'procedure' else 'function' end, p.oid::regprocedure,
            (select f.grantees from cloison.tenant_functions() f where f.function = p.oid))
        else format('alter function %s security invoker;', p.oid::regprocedure) end as fix,
    format('definer_function:%s', p.oid::regprocedure) as key
from
    way w
    join pg_catalog.pg_proc p on p.oid = w.function
where
    p.prosecdef
    and p.oid >= 16384
    and p.pronamespace <> 'cloison'::regnamespace
    and p.proowner not in (select role from cloison.tenant_roles() role)
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
group by p.oid, p.prokind, p.proowner
