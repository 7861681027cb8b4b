-- A trigger of the kit's guard is missing, changed, switched off or comes too late
-- critical, warning
--
-- Foreign keys' actions, rules and functions of the owner run past the policies; the guard keeps
-- them to the tenant's rows, and off the kit's own tables. Without its RI_Cloison_ triggers nothing
-- is open, but deleting a row that other rows of the tenant hang on is refused where triggers of the
-- application would run.
select
    'guard' as name,
    g.level,
    n.name as object,
    g.problem as detail,
    g.fix,
    format('guard:%s:%s', n.name, g.key) as key
from
    cloison.guard_findings() g
    join pg_catalog.pg_class c on c.oid = g.relation,
    lateral (
        select format('%s.%I', c.relnamespace::regnamespace, c.relname)
    ) n (name)
