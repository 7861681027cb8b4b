-- A policy of the kit is missing
-- critical, warning
--
-- Without a restrictive one the permissive base lets every tenant's rows through: that is critical.
-- Without another somebody sees less than he should.
select
    'policy_missing' as name,
    case when e.permissive then 'warning' else 'critical' end as level,
    p.name as object,
    format('policy %I, %s for %s, is missing%s', e.policy,
        case when e.permissive then 'permissive' else 'restrictive' end, e.command,
        case when p.class = 'kit' then ': run `cloison install` again' end) as detail,
    p.mend as fix,
    format('policy_missing:%s:%s', p.name, e.policy) as key
from
    (
        select p.relation, p.name, p.class, p.mend from cloison.registered_tables() p
        union all
        select t.name::regclass, t.name, 'kit', null
        from (values ('cloison.tenants'), ('cloison.tenant_users'), ('cloison.api_keys'),
                     ('cloison.usage_events'), ('cloison.audit_log')) t (name)
    ) p,
    cloison.expected_policies(p.relation::regclass) e
where
    not exists (
        select from cloison.actual_policies(p.relation::regclass) a where a.policy = e.policy)
