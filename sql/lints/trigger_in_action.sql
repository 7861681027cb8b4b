-- Code of the application that a foreign key's action runs past row security
-- critical, warning
--
-- Postgres runs what an action does as the owner of the table with FORCE off, and the triggers of
-- the rows with it: they see and change every tenant's rows. It is critical on a table that is not
-- a tenants' table, where the kit has no guard. On one of them the guard refuses such an action: of
-- triggers FOR EACH STATEMENT, which run in it even when no row is there, and of keys that refer to
-- a partitioned table.
with recursive
edge as materialized (
    select k.oid, k.confrelid as parent, k.conrelid as child, w.begins,
        case when k.confdeltype = 'c' and w.begins = 'DELETE' then 'DELETE' else 'UPDATE' end as does
    from pg_catalog.pg_constraint k, (values ('DELETE'), ('UPDATE')) w (begins)
    where k.contype = 'f'
      and k.conparentid = 0
      and case w.begins when 'DELETE' then k.confdeltype else k.confupdtype end in ('c', 'n', 'd')
),
reached as (
    select e.oid, e.child, e.does
    from edge e join cloison.registered_tables() t on t.relation = e.parent and t.class = 'tenant'
    union
    select e.oid, e.child, e.does
    from reached r join edge e on e.parent = r.child and e.begins = r.does
),
found as (
    select r.oid, r.child,
        coalesce(t.class = 'tenant', false) as is_guarded,
        coalesce(
            case when t.class is distinct from 'tenant' or p.relkind = 'p'
                 then cloison.action_code(r.child, r.does, 'ROW') end,
            cloison.action_code(r.child, r.does, 'STATEMENT')) as code,
        p.relkind = 'p' as is_partitioned
    from reached r
        join pg_catalog.pg_constraint k on k.oid = r.oid
        join pg_catalog.pg_class p on p.oid = k.confrelid
        left join cloison.registered_tables() t on t.relation = r.child
)
select distinct
    'trigger_in_action' as name,
    case when f.is_guarded then 'warning' else 'critical' end as level,
    format('%I.%I', n.nspname, c.relname) as object,
    case when f.is_guarded
         then format('the action of %I would run %s past row security, and is refused', k.conname,
             f.code)
         else format('the action of %I runs %s past row security', k.conname, f.code) end as detail,
    case when f.is_guarded and not f.is_partitioned
         then format('select cloison.fence_trigger(%L, %s);', f.child::regclass,
             quote_literal((parse_ident(substr(f.code, 9)))[1]))
         else format('begin; alter table %1$s drop constraint %2$I; '
             'alter table %1$s add constraint %2$I %3$s; commit;', f.child::regclass, k.conname,
             regexp_replace(pg_get_constraintdef(k.oid),
                 ' ON (DELETE|UPDATE) (CASCADE|SET (NULL|DEFAULT)( \([^)]*\))?)', '', 'g'))
    end as fix,
    format('trigger_in_action:%I.%I:%I', n.nspname, c.relname, k.conname) as key
from
    found f
    join pg_catalog.pg_constraint k on k.oid = f.oid
    join pg_catalog.pg_class c on c.oid = f.child
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where
    f.code is not null
