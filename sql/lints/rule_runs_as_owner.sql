-- A rule on a protected table, or on a view that tenants write to
-- critical, warning
--
-- What a rule puts in a statement's place runs as the owner of its table or view, who sees every
-- tenant's rows. The guard keeps what it writes to the tenant's; with a sub-select it reads, and
-- RETURNING shows that.
with
target as (
    select t.relation, t.name from cloison.registered_tables() t
    union
    select r.relation, r.name from cloison.tenant_relations() r
    where r.kind in ('v', 'r', 'p')
      and r.privileges && array['INSERT', 'UPDATE', 'DELETE', 'OWNER']
)
select
    'rule_runs_as_owner' as name,
    case when w.ev_action::text like '%{SUBLINK%' or w.ev_qual::text like '%{SUBLINK%'
         then 'critical' else 'warning' end as level,
    t.name as object,
    format('rule %I runs as the owner of the table', w.rulename) as detail,
    format('drop rule %I on %s;', w.rulename, t.name) as fix,
    format('rule_runs_as_owner:%s:%I', t.name, w.rulename) as key
from
    target t
    join pg_catalog.pg_rewrite w on w.ev_class = t.relation
where
    w.ev_enabled <> 'D'
    -- What a view is made of is no such rule.
    and w.ev_type <> '1'
