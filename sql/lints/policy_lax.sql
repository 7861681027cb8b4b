-- A permissive policy beside the kit's that tenants' rows go through
-- critical, warning
--
-- Permissive policies are OR-ed. On a tenant's table the kit's restrictive ones stand in the way of
-- that; on a table that is shared or nobody's, and on one of the kit's, nothing does.
select
    'policy_lax' as name,
    case when p.class = 'tenant' then 'warning' else 'critical' end as level,
    p.name as object,
    format('policy %I lets tenants through for %s%s%s%s', a.policy, a.command,
        ' using ' || a.using_text, ' with check ' || a.check_text,
        case when p.class = 'tenant' then '; the kit''s restrictive policies hold it back' end)
        as detail,
    format('drop policy %I on %s;', a.policy, p.name) as fix,
    format('policy_lax:%s:%s', p.name, a.policy) as key
from
    (
        select p.relation, p.name, p.class, p.mend from cloison.registered_tables() p
        union all
        select t.name::regclass, t.name, 'kit', null
        from (values ('cloison.tenants'), ('cloison.tenant_users'), ('cloison.api_keys'),
                     ('cloison.usage_events'), ('cloison.audit_log')) t (name)
    ) p,
    cloison.actual_policies(p.relation::regclass) a
where
    a.permissive
    and exists (
        select
        from unnest(a.roles) role
        where role = 'public'
           or to_regrole(quote_ident(role)) in (select t from cloison.tenant_roles() t))
    and not exists (
        select from cloison.expected_policies(p.relation::regclass) e where e.policy = a.policy)
