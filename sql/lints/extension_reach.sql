-- An extension through which tenants reach around isolation
-- critical, warning
--
-- Some read pages, files and logs past row security, or speak SQL to somewhere else; others count
-- or show what all tenants do. It counts where tenants may call a function of it.
with
known (extension, level, what) as (values
    ('adminpack', 'critical', 'reads and writes files of the server'),
    ('dblink', 'critical', 'opens connections as anybody whose password is known or not asked for'),
    ('http', 'critical', 'sends rows to the outside'),
    ('pg_cron', 'critical', 'runs SQL later, and shows what others run'),
    ('pg_net', 'critical', 'sends rows to the outside'),
    ('pg_surgery', 'critical', 'changes rows past row security'),
    ('pg_walinspect', 'critical', 'reads what all tenants write'),
    ('postgres_fdw', 'warning', 'opens connections to other servers'),
    ('amcheck', 'warning', 'reads tables and indexes past row security'),
    ('pageinspect', 'warning', 'reads pages past row security for a superuser''s function'),
    ('lo', 'warning', 'works on large objects, which all tenants share'),
    ('pg_buffercache', 'warning', 'shows what all tenants read'),
    ('pg_freespacemap', 'warning', 'counts rows of all tenants'),
    ('pg_stat_statements', 'warning', 'shows statements of all tenants'),
    ('pg_visibility', 'warning', 'counts rows of all tenants'),
    ('pgrowlocks', 'warning', 'shows which rows others lock'),
    ('pgstattuple', 'warning', 'counts rows of all tenants')
),
tenants as materialized (
    select role from cloison.tenant_roles() role
),
reach as (
    select e.oid, 'function' as kind, p.oid::regprocedure::text as object, a.grantee
    from pg_catalog.pg_extension e
        join pg_catalog.pg_depend d
            on d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid = 'pg_catalog.pg_proc'::regclass
        join pg_catalog.pg_proc p on p.oid = d.objid,
        aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where p.prorettype not in (
            'trigger'::regtype, 'fdw_handler'::regtype, 'language_handler'::regtype)
      -- What a wrapper or a language calls by itself.
      and p.proname !~ '_(validator|inline_handler)$'
    union all
    select e.oid, 'table', c.oid::regclass::text, a.grantee
    from pg_catalog.pg_extension e
        join pg_catalog.pg_depend d
            on d.refclassid = 'pg_catalog.pg_extension'::regclass and d.refobjid = e.oid
            and d.deptype = 'e' and d.classid = 'pg_catalog.pg_class'::regclass
        join pg_catalog.pg_class c on c.oid = d.objid,
        aclexplode(c.relacl) a
    where a.grantee <> c.relowner
)
select
    'extension_reach' as name,
    k.level,
    quote_ident(k.extension) as object,
    format('it %s, and %s may use %s', k.what, r.who, r.objects) as detail,
    r.fix,
    format('extension_reach:%I', k.extension) as key
from
    known k
    join pg_catalog.pg_extension e on e.extname = k.extension,
    lateral (
        select
            string_agg(distinct x.who, ', '),
            min(x.object) || case when count(distinct x.object) > 1
                then format(' and %s more', count(distinct x.object) - 1) else '' end,
            string_agg(case when x.kind = 'function'
                then format('revoke execute on function %s from %s;', x.object, x.who)
                else format('revoke all on %s from %s;', x.object, x.who) end, ' '
                order by x.object, x.who)
        from (
            select distinct r.kind, r.object, case when r.grantee = 0 then 'public'
                else quote_ident(pg_get_userbyid(r.grantee)) end as who
            from reach r
            where r.oid = e.oid and r.grantee in (select role from tenants)
        ) x
    ) r (who, objects, fix)
where
    r.who is not null
