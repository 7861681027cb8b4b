-- A SECURITY DEFINER function without a pinned search_path
-- critical, warning
--
-- It looks names up where its caller says, temporary tables first, and acts on what it finds as its
-- owner. It is critical where tenants may call it. A path without pg_temp has pg_temp in front.
select
    'search_path_unpinned' as name,
    case when f.function is null or s.path is not null then 'warning' else 'critical' end as level,
    p.oid::regprocedure::text as object,
    format('it runs as %I and %s', pg_get_userbyid(p.proowner),
        case when s.path is null then 'looks names up in its caller''s search_path'
             else format('its search_path, %s, does not say that pg_temp comes last', s.path) end)
        as detail,
    format('alter %s %s set search_path = %s, pg_temp;',
        case when p.prokind = 'p' then 'procedure' else 'function' end, p.oid::regprocedure,
        coalesce(s.path, concat_ws(', ', 'pg_catalog', quote_ident(n.nspname)))) as fix,
    format('search_path_unpinned:%s', p.oid::regprocedure) as key
from
    pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    left join cloison.tenant_functions() f on f.function = p.oid,
    lateral (
        select max(substr(c, 13)) from unnest(p.proconfig) c where c like 'search\_path=%'
    ) s (path)
where
    p.prosecdef
    and n.nspname not in ('pg_catalog', 'information_schema', 'cloison')
    -- An empty path finds nothing but types and tables of pg_temp, which nobody names by accident.
    and (s.path is null or s.path !~ '(^|[ ,])"?pg_temp"?$' and s.path not in ('', '""'))
    and not exists (
        select
        from pg_catalog.pg_depend d
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
