-- A protected table or the schema of one belongs to a role that tenants run as
-- critical
--
-- An owner drops policies, switches row security off and grants what he likes.
select
    'owner_is_tenant' as name,
    'critical' as level,
    o.object,
    -- The owner may be the application's own, which its migrations need as it is.
    format('its owner, %I, is a role that tenants run as: make one for tenants alone, '
        'create role %I login password ''…'' in role cloison_tenant, name it in [pools.tenant], '
        'and take %I out of cloison_tenant',
        pg_get_userbyid(o.owner), current_database() || '_tenant', pg_get_userbyid(o.owner))
        as detail,
    null::text as fix,
    format('owner_is_tenant:%s', o.object) as key
from
    (
        select 'table' as kind, p.name as object, c.relowner as owner
        from cloison.registered_tables() p join pg_catalog.pg_class c on c.oid = p.relation
        union
        select 'schema', quote_ident(n.nspname), n.nspowner
        from cloison.registered_tables() p
            join pg_catalog.pg_class c on c.oid = p.relation
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        -- Its owner is whoever owns the database, since 15.
        where n.nspowner <> 'pg_database_owner'::regrole
    ) o
where
    o.owner in (select role from cloison.tenant_roles() role)
