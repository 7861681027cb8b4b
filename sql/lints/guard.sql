-- A trigger of the kit's guard is missing, changed, switched off or comes too late
-- critical, warning
--
-- Foreign keys' actions, rules and functions of the owner run past the policies; the guard keeps
-- them to the tenant's rows. Without its RI_Cloison_ triggers nothing is open, but deleting a row
-- that other rows of the tenant hang on is refused where triggers of the application would run.
select
    'guard' as name,
    g.level,
    t.name as object,
    g.problem as detail,
    g.fix,
    format('guard:%s:%s', t.name, g.key) as key
from
    cloison.guard_findings() g
    join cloison.registered_tables() t on t.relation = g.relation
