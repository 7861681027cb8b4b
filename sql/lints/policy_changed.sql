-- A policy of the kit is not as it was made
-- critical, warning
--
-- It is critical where the policy speaks, or should speak, of tenants.
select
    'policy_changed' as name,
    case when exists (
            select
            from unnest(a.roles || e.roles) role
            where role = 'public'
               or to_regrole(quote_ident(role)) in (select t from cloison.tenant_roles() t))
         then 'critical' else 'warning' end as level,
    p.name as object,
    format('policy %I is %s for %s to %s%s%s%s', a.policy,
        case when a.permissive then 'permissive' else 'restrictive' end, a.command,
        array_to_string(a.roles, ', '),
        ' using ' || a.using_text, ' with check ' || a.check_text,
        case when p.class = 'kit' then ': run `cloison install` again' end) as detail,
    p.mend as fix,
    format('policy_changed:%s:%s', p.name, a.policy) as key
from
    (
        select p.relation, p.name, p.class, p.mend from cloison.registered_tables() p
        union all
        select t.name::regclass, t.name, 'kit', null
        from (values ('cloison.tenants'), ('cloison.tenant_users'), ('cloison.api_keys'),
                     ('cloison.usage_events'), ('cloison.audit_log')) t (name)
    ) p,
    cloison.expected_policies(p.relation::regclass) e
        join lateral cloison.actual_policies(p.relation::regclass) a on a.policy = e.policy
where
    to_jsonb(a) <> to_jsonb(e)
