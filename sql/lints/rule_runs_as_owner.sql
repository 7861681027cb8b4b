-- A rule on a protected table
-- warning
--
-- What a rule puts in a statement's place runs as the table's owner, who sees every tenant's rows.
select
    'rule_runs_as_owner' as name,
    'warning' as level,
    t.name as object,
    format('rule %I runs as the owner of the table', w.rulename) as detail,
    format('drop rule %I on %s;', w.rulename, t.name) as fix,
    format('rule_runs_as_owner:%s:%I', t.name, w.rulename) as key
from
    cloison.registered_tables() t
    join pg_catalog.pg_rewrite w on w.ev_class = t.relation
where
    w.ev_enabled <> 'D'
