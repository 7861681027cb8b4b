-- Tenants have more on a protected table than the verbs
-- critical, warning
--
-- TRIGGER lets them have code run in other tenants' sessions, which is critical. REFERENCES probes
-- keys, MAINTAIN locks everybody out, and a verb on a partition, or one granted past
-- cloison_tenant, is one that the kit does not take back. TRUNCATE is grant_truncate.
with
rights as (
    select r.relation, r.name, null::name as column_name, a.grantee, a.privilege_type
    from cloison.registered_tables() r
        join pg_catalog.pg_class c on c.oid = r.relation,
        aclexplode(c.relacl) a
    where a.grantee <> c.relowner
    union all
    select r.relation, r.name, t.attname, a.grantee, a.privilege_type
    from cloison.registered_tables() r
        join pg_catalog.pg_class c on c.oid = r.relation
        join pg_catalog.pg_attribute t on t.attrelid = r.relation and not t.attisdropped,
        aclexplode(t.attacl) a
    where a.grantee <> c.relowner
)
select
    'grant_excess' as name,
    case when r.privilege_type = 'TRIGGER' then 'critical' else 'warning' end as level,
    r.name as object,
    format('%s has %s%s', w.who, r.privilege_type, ' on column ' || quote_ident(r.column_name))
        as detail,
    format('revoke %s%s on %s from %s;', lower(r.privilege_type),
        ' (' || quote_ident(r.column_name) || ')', r.name, w.who) as fix,
    format('grant_excess:%s:%s:%s%s', r.name, w.who, lower(r.privilege_type),
        ':' || quote_ident(r.column_name)) as key
from
    rights r,
    lateral (
        select case when r.grantee = 0 then 'public'
            else quote_ident(pg_get_userbyid(r.grantee)) end
    ) w (who)
where
    r.grantee in (select role from cloison.tenant_roles() role)
    and r.privilege_type <> 'TRUNCATE'
    and not exists (
        select
        from cloison.expected_grants(r.relation::regclass) e
        where e.grantee = w.who and e.privilege = r.privilege_type)
