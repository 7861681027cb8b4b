-- A trigger that takes rows of a protected table somewhere else
-- warning
--
-- Its function writes, notifies, or runs as its owner: where the row goes, and who reads it there,
-- the policies of this table do not say.
select
    'trigger_copies' as name,
    'warning' as level,
    t.name as object,
    format('trigger %I calls %s, which %s', g.tgname, p.oid::regprocedure,
        concat_ws(' and ',
            case when p.prosecdef then format('runs as %I', pg_get_userbyid(p.proowner)) end,
            case when b.writes then 'sends rows elsewhere' end,
            case when l.lanname not in ('plpgsql', 'sql')
                 then format('is written in %s and cannot be read here', l.lanname) end)) as detail,
    format('drop trigger %I on %s;', g.tgname, t.name) as fix,
    format('trigger_copies:%s:%I', t.name, g.tgname) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_trigger g on g.tgrelid = t.relation
    join pg_catalog.pg_proc p on p.oid = g.tgfoid
    join pg_catalog.pg_language l on l.oid = p.prolang,
    lateral (
        select p.prosrc ~* '\m(insert\s+into|update\s|copy\s|merge\s+into|execute|pg_notify|dblink)'
            or p.prosrc ~* '(^|;)\s*notify\s'
    ) b (writes)
where
    not g.tgisinternal
    and g.tgenabled <> 'D'
    and g.tgparentid = 0
    and p.oid >= 16384
    and p.pronamespace <> 'cloison'::regnamespace
    and not exists (
        select
        from pg_catalog.pg_depend d
            join pg_catalog.pg_extension e on e.oid = d.refobjid
        where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
          -- Known for what they do: they change the row itself.
          and e.extname in ('moddatetime', 'insert_username', 'autoinc', 'lo'))
    and (p.prosecdef or b.writes or l.lanname not in ('plpgsql', 'sql'))
